"""The oracle: a simulated annotator that answers open tasks from hidden ground truth.

It is a client like a person's browser: it leases a task, looks up the truth, sends an answer. Its
labels carry `source="oracle"`, so that nobody takes them for a person's.
"""

import random
from collections.abc import Callable

from shared.client import GatewayClient
from shared.errors import NotFound
from shared.models.geometry import Annotation
from shared.models.rounds import AnswerCreate, LeaseCreate, TaskView

MIN_SIDE = 1e-3


def answer_tasks(
    client: GatewayClient,
    project: str,
    round_id: str,
    *,
    noise: float = 0.0,
    seed: int = 0,
    on_answer: Callable[[TaskView], None] | None = None,
) -> int:
    """Answer every open task of a round, and return how many were answered.

    Args:
        client: of the gateway.
        project: the round's.
        round_id: whose tasks are answered.
        noise: 0 answers the truth; above it, boxes are missed with this probability, as many get a
            wrong class, and corners move by a normal error of this share of the box's side.
        seed: of the noise; together with the image it decides every error.
        on_answer: called with each answered task.
    """
    n_classes = len(client.project(project).classes)
    n_answered = 0
    while True:
        try:
            task = client.lease_task(
                project, LeaseCreate(annotator=f"oracle-{seed}", round_id=round_id)
            )
        except NotFound:
            return n_answered
        truth = client.ground_truth(project, task.image_id).annotations
        rng = random.Random(f"{seed}:{task.image_id}")  # noqa: S311 - a simulation, no secret
        boxes = tuple(
            _as_oracle(box, noise, rng, n_classes)
            for box in truth
            if noise <= 0 or rng.random() >= noise
        )
        answer = AnswerCreate(annotator=f"oracle-{seed}", annotations=boxes)
        answered = client.answer_task(project, task.id, answer)
        n_answered += 1
        if on_answer is not None:
            on_answer(answered)


def _as_oracle(box: Annotation, noise: float, rng: random.Random, n_classes: int) -> Annotation:
    if noise <= 0:
        return box.model_copy(update={"source": "oracle"})
    class_id = rng.randrange(n_classes) if rng.random() < noise else box.class_id
    x1, y1, x2, y2 = box.xyxy
    width, height = x2 - x1, y2 - y1
    left = _clip(x1 + rng.gauss(0, noise) * width, 0, 1 - MIN_SIDE)
    top = _clip(y1 + rng.gauss(0, noise) * height, 0, 1 - MIN_SIDE)
    right = _clip(x2 + rng.gauss(0, noise) * width, left + MIN_SIDE, 1)
    bottom = _clip(y2 + rng.gauss(0, noise) * height, top + MIN_SIDE, 1)
    return Annotation(class_id=class_id, xyxy=(left, top, right, bottom), source="oracle")


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
