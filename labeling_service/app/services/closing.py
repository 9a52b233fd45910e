"""The job `labeling.close`: hand a round's labels over as a dataset version."""

from labeling_service.app.core.gateway import Gateway
from labeling_service.app.core.labelling.port import Labelling
from labeling_service.app.models.errors import NothingLabelled
from labeling_service.app.models.schemas import ClosingResult
from labeling_service.app.models.tables import RoundRow
from shared.database import Database
from shared.models.data import DatasetVersionCreate, LabelledImage


class Closer:
    """Closes the labelling of rounds."""

    def __init__(self, database: Database, gateway: Gateway, labelling: Labelling) -> None:
        """Read the answers from `labelling` and send them through `gateway`."""
        self._database = database
        self._gateway = gateway
        self._labelling = labelling

    def close(self, round_id: str) -> ClosingResult:
        """Make one dataset version of a round's answers; a second run returns the same one.

        Skipped images stay out of it; an image with no boxes says 'nothing here'.

        Raises:
            NothingLabelled: every task was skipped.
        """
        with self._database.transaction() as session:
            row = session.get_one(RoundRow, round_id)
        answers = self._labelling.answers(round_id)
        labels = tuple(
            LabelledImage(image_id=a.image_id, annotations=a.annotations)
            for a in answers
            if a.outcome == "labelled"
        )
        if not labels:
            msg = f"round {round_id!r}: all {len(answers)} tasks were skipped, nothing is labelled"
            raise NothingLabelled(msg)
        version = self._gateway.create_dataset_version(
            row.project, DatasetVersionCreate(round_id=round_id, labels=labels)
        )
        return ClosingResult(
            round_id=round_id,
            dataset_version=version.version,
            n_labelled=len(labels),
            n_skipped=len(answers) - len(labels),
            n_boxes=sum(len(label.annotations) for label in labels),
        )
