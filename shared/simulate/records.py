"""Cells as files: one JSON each, so that they can be added, moved between machines and merged."""

import os
from pathlib import Path

from pydantic import Field, JsonValue, ValidationError

from shared.errors import BadRequest
from shared.models.geometry import Frozen
from shared.models.simulations import DatasetFacts, Finite
from shared.simulate.options import Cell, SimulationOptions


class Point(Finite):
    """A model on test, and the labels that it learnt from."""

    n_images: int
    n_boxes: int
    map50: float
    map50_95: float
    per_class_map50: dict[str, float]


class CellRecord(Frozen):
    """What one cell came to."""

    cell: Cell
    settings: dict[str, JsonValue]
    dataset: DatasetFacts
    points: tuple[Point, ...] = Field(description="The start first, then one a round.")
    selected: tuple[tuple[str, ...], ...] = Field(description="Image ids, one tuple a round.")
    seconds: float
    machine: str


class CellStore:
    """The folder `cells` of a simulation."""

    def __init__(self, folder: Path) -> None:
        """Keep cells in `folder`; it is made with the first one."""
        self.folder = folder

    def read(self, options: SimulationOptions) -> list[CellRecord]:
        """Return every finished cell.

        Raises:
            BadRequest: a file is no cell, or was made with other settings, on other data, or from
                another start than those of its seed; it is named.
        """
        # Where the power fails a file may be left empty.
        paths = [path for path in sorted(self.folder.glob("*.json")) if path.stat().st_size]
        records = [self._load(path) for path in paths]
        first_of: dict[int, CellRecord] = {}
        for record in records:
            _require_same(record, records[0], options)
            _require_same_start(record, first_of.setdefault(record.cell.seed, record), options)
        return records

    def finished(self, options: SimulationOptions) -> dict[str, CellRecord]:
        """Return the finished cells by name."""
        return {record.cell.slug: record for record in self.read(options)}

    def write(self, record: CellRecord) -> None:
        """Write one cell, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{record.cell.slug}.json"
        partial = path.with_suffix(f".part{os.getpid()}")
        with partial.open("w") as file:
            file.write(record.model_dump_json(indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def _load(self, path: Path) -> CellRecord:
        try:
            return CellRecord.model_validate_json(path.read_bytes())
        except ValidationError as exc:
            msg = f"{path} is not a cell of a simulation: {exc.errors()[0]['msg']}"
            raise BadRequest(msg) from exc


def _require_same(record: CellRecord, first: CellRecord, options: SimulationOptions) -> None:
    wanted = options.settings()
    for name, value in wanted.items():
        if record.settings.get(name) != value:
            msg = (
                f"cell {record.cell.slug!r} in {options.output} has {name} = "
                f"{record.settings.get(name)}, asked for is {value}: choose another --output"
            )
            raise BadRequest(msg)
    if record.dataset.content_hash != first.dataset.content_hash:
        msg = (
            f"cells {first.cell.slug!r} and {record.cell.slug!r} in {options.output} come from "
            f"different data ({first.dataset.name}, {record.dataset.name})"
        )
        raise BadRequest(msg)


def _require_same_start(record: CellRecord, first: CellRecord, options: SimulationOptions) -> None:
    ours, theirs = record.points[0], first.points[0]
    if ours != theirs:
        msg = (
            f"cells {first.cell.slug!r} and {record.cell.slug!r} in {options.output} are no pair: "
            f"the models that seed {first.cell.seed} began with have mAP50 {theirs.map50:.4f} and "
            f"{ours.map50:.4f}. Unequal processors, threads or libraries made them: make one anew"
        )
        raise BadRequest(msg)
