"""The gate: a challenger is promoted only when the gate split says that it is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from calibration_service.app.core.bootstrap import Comparison, Interval, compare
from calibration_service.app.core.boxes import EvidenceImage
from calibration_service.app.core.metrics import evaluate
from calibration_service.app.services.calibration import Progress
from calibration_service.app.services.evidence import (
    EvidenceReader,
    NotScored,
    how_to_score,
    n_objects,
)
from calibration_service.app.services.promotion import promote
from shared.models.data import DatasetManifest
from shared.models.registry import GateCreate, GateVerdict, Metrics, ModelView

if TYPE_CHECKING:
    from shared.registry import ModelRegistry

log = structlog.stdlib.get_logger()

MAX_CLASS_FALL = 0.10
MIN_POSITIVES = 10


@dataclass(frozen=True)
class Gate:
    """Compares a challenger with the model in production, and moves the alias."""

    evidence: EvidenceReader
    registry: ModelRegistry

    def decide(self, project: str, request: GateCreate, progress: Progress) -> GateVerdict:
        """Measure both models on the gate split, decide, and promote if that was asked for.

        The challenger passes when there is no champion; or when its mAP50 is higher and no class
        with at least ten objects falls by more than 0.10 with its 95 % interval below zero.

        A job that was killed after its promotion and runs again finds its challenger in production;
        it then measures against the version before, as the first time.

        Raises:
            UnknownModel: the project has no such version.
            NotScored: a model was not scored on the gate split.
            NotLabelled: the gate split has no labelled image.
        """
        challenger = self.registry.get(project, request.model_version)
        champion = self._champion(challenger)
        progress(0.0, "reading what the models saw")
        manifest = self.evidence.manifest(project, request.dataset_version)
        verdict = self._measure(manifest, challenger, champion, progress)
        if verdict.promoted and not request.promote:
            reasons = (*verdict.reasons, "passed, but a promotion was not asked for")
            verdict = verdict.model_copy(update={"promoted": False, "reasons": reasons})
        if verdict.promoted:
            promote(self.registry, project, challenger.version)
        log.info("gate.decided", challenger=challenger.version, promoted=verdict.promoted)
        return verdict

    def _champion(self, challenger: ModelView) -> ModelView | None:
        aliases = self.registry.aliases(challenger.project)
        version = aliases.get("production")
        if version == challenger.version:
            version = aliases.get("previous")
        return None if version is None else self.registry.get(challenger.project, version)

    def _measure(
        self,
        manifest: DatasetManifest,
        challenger: ModelView,
        champion: ModelView | None,
        progress: Progress,
    ) -> GateVerdict:
        images = self.evidence.read(manifest, challenger, "gate")
        if champion is None:
            metrics = evaluate(images, manifest.classes)
            reason = (
                f"no model is in production yet; mAP50 of version {challenger.version} on "
                f"{len(images)} gate images is {metrics.map50:.3f}"
            )
            return _verdict(challenger, metrics, passed=True, reasons=[reason])
        theirs, n_missing = self.evidence.read_scored(manifest, champion, "gate")
        if not theirs:
            msg = (
                f"model version {champion.version} of project {champion.project!r}, in production, "
                f"is not scored on 'gate' yet: {how_to_score(champion.version)}"
            )
            raise NotScored(msg)
        known = {image.image_id for image in theirs}
        duel = Duel(manifest.classes, [i for i in images if i.image_id in known], theirs)
        passed, reasons = duel.judge(challenger.version, champion.version, progress)
        if n_missing:
            who = f"version {champion.version} has not seen them"
            left_out = f"{n_missing} gate images are left out: {who}"
            reasons = [left_out, *reasons]
        verdict = _verdict(challenger, duel.metrics(duel.challenger), passed, reasons)
        update = {
            "champion": champion.version,
            "champion_metrics": duel.metrics(duel.champion),
        }
        return verdict.model_copy(update=update)


@dataclass(frozen=True)
class Duel:
    """The same images as two models saw them."""

    classes: Sequence[str]
    challenger: Sequence[EvidenceImage]
    champion: Sequence[EvidenceImage]

    def metrics(self, images: Sequence[EvidenceImage]) -> Metrics:
        """Return one side's quality."""
        return evaluate(images, self.classes)

    def judge(self, challenger: int, champion: int, progress: Progress) -> tuple[bool, list[str]]:
        """Return whether the challenger passes, and why, in words and numbers."""
        compared = compare(
            self.challenger,
            self.champion,
            len(self.classes),
            lambda done: progress(0.1 + 0.8 * done, "comparing by bootstrap"),
        )
        ours = self.metrics(self.challenger).map50
        better = compared.map50.difference > 0
        reasons = [
            f"mAP50 on {len(self.challenger)} gate images is {ours:.3f} for version {challenger} "
            f"and {ours - compared.map50.difference:.3f} for version {champion} in production: "
            f"{_in_words(compared.map50)}, which is {'higher' if better else 'not higher'}"
        ]
        fallen = self._fallen(compared)
        reasons.extend(fallen or [f"no class fell by more than {MAX_CLASS_FALL:.2f} for certain"])
        return better and not fallen, reasons

    def _fallen(self, compared: Comparison) -> list[str]:
        counts = n_objects(self.challenger, len(self.classes))
        return [
            f"AP50 of class {name!r} ({count} objects) fell: {_in_words(interval)}, beyond the "
            f"{MAX_CLASS_FALL:.2f} that is allowed"
            for name, count, interval in zip(self.classes, counts, compared.per_class, strict=True)
            if count >= MIN_POSITIVES
            and interval.difference < -MAX_CLASS_FALL
            and interval.high < 0
        ]


def _in_words(interval: Interval) -> str:
    return (
        f"difference {interval.difference:+.3f} "
        f"(95 % interval {interval.low:+.3f} to {interval.high:+.3f}, paired bootstrap)"
    )


def _verdict(
    challenger: ModelView, metrics: Metrics, passed: bool, reasons: Sequence[str]
) -> GateVerdict:
    return GateVerdict(
        project=challenger.project,
        challenger=challenger.version,
        champion=None,
        promoted=passed,
        reasons=tuple(reasons),
        challenger_metrics=metrics,
        champion_metrics=None,
    )
