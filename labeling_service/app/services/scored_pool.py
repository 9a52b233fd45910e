"""The prediction shards as selection needs them: small, with one record per image."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from labeling_service.app.core.strategies.candidates import Candidate, FloatArray
from shared.models.data import Split
from shared.models.geometry import Detection, Xyxy
from shared.objects.port import ObjectStore
from shared.predictions import ScoredImage, read_shards

# Below this a pre-drawn box costs the annotator more clicks than it saves.
PRE_ANNOTATION_SCORE = 0.25


@dataclass(frozen=True)
class ScoredCandidate:
    """A candidate and its confident boxes, which an annotator starts from."""

    candidate: Candidate
    xyxy: FloatArray
    class_scores: FloatArray
    uncertainty: FloatArray

    def detections(self) -> tuple[Detection, ...]:
        """Return the boxes with a score of at least `PRE_ANNOTATION_SCORE`, the best first."""
        found = [
            Detection(
                class_id=int(np.argmax(scores)),
                xyxy=_inside(xyxy),
                score=float(np.max(scores)),
                class_scores=tuple(float(s) for s in scores),
                uncertainty=float(uncertainty),
            )
            for xyxy, scores, uncertainty in zip(
                self.xyxy, self.class_scores, self.uncertainty, strict=True
            )
        ]
        return tuple(sorted(found, key=lambda d: -d.score))


def read_scored(
    store: ObjectStore, project: str, model_version: int | None, split: Split
) -> Mapping[str, ScoredCandidate]:
    """Return what a model version saw in the images of a split, by image id."""
    images = read_shards(store, project, model_version, (split,))
    return {image.image_id: _compact(image) for image in images}


def _compact(image: ScoredImage) -> ScoredCandidate:
    confident = image.scores >= PRE_ANNOTATION_SCORE
    candidate = Candidate(
        image_id=image.image_id,
        scores=image.scores,
        entropy=image.entropy,
        margin=image.margin,
        bald=image.bald,
        embedding=image.embedding,
    )
    return ScoredCandidate(
        candidate, image.xyxy[confident], image.class_scores[confident], image.bald[confident]
    )


def _inside(xyxy: FloatArray) -> Xyxy:
    x1, y1, x2, y2 = (min(max(float(v), 0.0), 1.0) for v in xyxy)
    return x1, y1, x2, y2
