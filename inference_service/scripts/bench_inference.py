"""Measure Bayesian pool scoring against Ultralytics' plain prediction, in the same run.

    python -m inference_service.scripts.bench_inference [--images N] [--repeats 5] [--photos DIR]

Every system begins with JPEG files of 640x480 on disk and ends with its results stored: those of
Ultralytics are boxes in a text file; Fovea's are boxes, all class scores, ten stochastic passes,
uncertainty and embedding in Parquet shards and the vector index. yolov8n, trained, 640 pixels.
Fovea has as many workers as its stack would have here, one for every four cores.
Ultralytics gets all cores, streaming, rectangular input and the fastest of several batch sizes.
Repeats are interleaved, so that other work on the machine meets all; the median counts.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from inference_service.app.core.engines import Engines, this_machine
from inference_service.app.core.loading import RuntimeOptions
from inference_service.app.core.runtime import DetectorRuntime
from inference_service.app.models.schemas import ScoringPart
from inference_service.app.services.index import Index
from inference_service.app.services.loaded import LoadedModel
from inference_service.app.services.scoring import PART_IMAGES, SCORERS, Scorer
from inference_service.scripts.bench_photos import (
    HEIGHT,
    WIDTH,
    make_package,
    make_photos,
    photos_of,
)
from shared.cores import usable_cores
from shared.detector.package import BASES, load_package
from shared.detector.ultralytics_env import YOLO, torch_utils
from shared.models.data import ImageView, ProjectView, Split
from shared.models.registry import ScoringCreate
from shared.objects.wiring import object_store
from shared.settings import Settings, load_settings
from shared.vectors.wiring import vector_store

BATCHES = (1, 8, 16)
TURNS = 3
N_PASSES = 10
PROJECT = "bench"
console = Console()
# The scorer of a process that is a worker.
WORKER: list[Scorer] = []

System = Callable[[], None]


@dataclass(frozen=True)
class Report:
    """What is written.

    Attributes:
        systems: images_per_s of each, and how it ran.
        ratio_pytorch, ratio_openvino: Fovea's speed over Ultralytics' in that engine.
        stochastic_share: of Fovea's time, what ten passes take over one.
    """

    cpu: str
    amx: bool
    cores: int
    ultralytics: str
    date: str
    images: int
    repeats: int
    photos: str
    systems: dict[str, dict[str, Any]]
    ratio_pytorch: float
    ratio_openvino: float
    stochastic_share: float
    seconds_each: dict[str, list[float]]


def main() -> None:
    """Measure, print a table and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--images", type=int, default=0, help="Unset: 256 for each inference worker."
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--photos", type=Path, help="Folder of 640x480 JPEGs; unset: digits on photos."
    )
    parser.add_argument("--output", type=Path, default=Path("artifacts/bench/inference.json"))
    args = parser.parse_args()
    if args.images < 0 or args.repeats < 1:
        parser.error("--images must not be below 0, and --repeats not below 1")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fovea-bench-") as folder:
        report = run(Path(folder), args.images, args.repeats, args.photos)
    args.output.write_text(json.dumps(asdict(report), indent=2) + "\n")
    show(report)
    console.print(f"wrote {args.output}")


def run(folder: Path, n_images: int, repeats: int, photos: Path | None) -> Report:
    """Return the measurements of `n_images`; of 0, of a part for each worker."""
    at_once = PART_IMAGES * load_settings().n_inference_workers
    if at_once > PART_IMAGES and n_images % at_once:
        sys.exit(f"--images {n_images}: must be a multiple of {at_once}, or workers would be idle")
    n_images = n_images or at_once
    files = photos_of(photos, n_images) if photos else make_photos(folder / "made", n_images)
    package = make_package(folder / "package")
    torch_utils.NUM_THREADS = usable_cores()
    fovea = Fovea(folder, files, package)
    pytorch, openvino = (
        Ultralytics(folder, files, "pytorch"),
        Ultralytics(folder, files, "openvino"),
    )
    systems: dict[str, System] = {
        "ultralytics_pytorch": pytorch.run,
        "ultralytics_openvino": openvino.run,
        "fovea": lambda: fovea.run(N_PASSES),
        "fovea_deterministic": lambda: fovea.run(1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for repeat in range(repeats + 1):
        for name, system in systems.items():
            started = time.perf_counter()
            system()
            # The first warms up: files are cached, graphs compiled.
            if repeat:
                seconds[name].append(time.perf_counter() - started)
                console.print(
                    f"repeat {repeat}: {name}: {n_images / seconds[name][-1]:.1f} images/s"
                )
    fovea.close()
    speed = {name: n_images / statistics.median(each) for name, each in seconds.items()}
    plain = seconds["fovea_deterministic"]
    shares = [1 - one / ten for one, ten in zip(plain, seconds["fovea"], strict=True)]
    details: dict[str, dict[str, Any]] = {
        "ultralytics_pytorch": {"batch": pytorch.batch},
        "ultralytics_openvino": {"batch": openvino.batch},
        "fovea": {
            "passes": N_PASSES,
            "runtime": fovea.engine.engine,
            "workers": fovea.n_workers,
            "engines_images_per_s": fovea.engine.images_per_s,
        },
        "fovea_deterministic": {
            "passes": 1,
            "runtime": fovea.engine.engine,
            "workers": fovea.n_workers,
        },
    }
    machine = this_machine(RuntimeOptions())
    return Report(
        cpu=machine,
        amx="amx_bf16" in machine,
        cores=usable_cores(),
        ultralytics=version("ultralytics"),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        images=n_images,
        repeats=repeats,
        photos="made up" if photos is None else photos.name,
        systems={
            name: {"images_per_s": round(speed[name], 2), **details[name]} for name in systems
        },
        ratio_pytorch=round(speed["fovea"] / speed["ultralytics_pytorch"], 3),
        ratio_openvino=round(speed["fovea"] / speed["ultralytics_openvino"], 3),
        stochastic_share=round(statistics.median(shares), 3),
        seconds_each={name: [round(s, 3) for s in each] for name, each in seconds.items()},
    )


class Ultralytics:
    """`YOLO.predict`, in PyTorch or on its own export, with its best batch size."""

    def __init__(self, folder: Path, files: Sequence[Path], engine: str) -> None:
        """Load the model and try batch sizes."""
        self._files = files
        self._target = folder / f"{engine}.txt"
        self._folder = folder
        self._engine = engine
        self._models: dict[int, YOLO] = {}
        # In turns, the best of each: other work on the machine must not choose for it.
        turns = [{batch: self._speed(batch) for batch in BATCHES} for _ in range(TURNS)]
        speeds = {batch: max(turn[batch] for turn in turns) for batch in BATCHES}
        self.batch = max(speeds, key=lambda batch: speeds[batch])
        told = ", ".join(f"{batch}: {speed:.1f}" for batch, speed in speeds.items())
        console.print(f"ultralytics_{engine}, images/s by batch size: {told}")

    def run(self) -> None:
        """Predict every file and write its boxes."""
        self._predict(self._files, self.batch)

    def _speed(self, batch: int) -> float:
        few = self._files[: 4 * max(BATCHES)]
        self._predict(few[:batch], batch)
        started = time.perf_counter()
        self._predict(few, batch)
        return len(few) / (time.perf_counter() - started)

    def _predict(self, files: Sequence[Path], batch: int) -> None:
        # A list of paths would be read whole and predicted as one batch, whatever `batch` says.
        listed = self._target.with_suffix(f".{len(files)}.txt")
        listed.write_text("".join(f"{path}\n" for path in files))
        results = self._model(batch).predict(
            str(listed),
            imgsz=(HEIGHT, WIDTH) if self._engine == "openvino" else WIDTH,
            batch=batch,
            rect=True,
            stream=True,
            verbose=False,
        )
        with self._target.open("w") as file:
            for result in results:
                file.write(json.dumps(result.boxes.data.tolist()) + "\n")

    def _model(self, batch: int) -> YOLO:
        if self._engine == "pytorch":
            batch = 0
        if batch not in self._models:
            self._models[batch] = self._loaded(batch)
        return self._models[batch]

    def _loaded(self, batch: int) -> YOLO:
        model, _ = load_package(BASES / "fovea-digits")
        yolo = YOLO("yolov8n.yaml", verbose=False)
        yolo.model = model
        if not batch:
            return yolo
        model.args, model.task = {"imgsz": WIDTH, "data": ""}, "detect"
        # Where its export is written.
        model.pt_path = str(self._folder / f"batch{batch}.pt")
        exported = yolo.export(format="openvino", imgsz=(HEIGHT, WIDTH), batch=batch)
        return YOLO(exported, task="detect")


class Fovea:
    """Pool scoring by the inference workers of this machine, each a process of its own."""

    def __init__(self, folder: Path, files: Sequence[Path], package: Path) -> None:
        """Put the files into an object store, as ingestion does, and start the workers."""
        given = load_settings()
        self.n_workers = given.n_inference_workers
        self._settings = given.divided(self.n_workers).model_copy(
            update={
                "state_dir": folder,
                "object_store_url": f"file:{folder}/objects",
                "vector_store_url": f"lancedb:{folder}/vectors",
            }
        )
        self._n_runs = 0
        store = object_store(self._settings)
        images = []
        for n, path in enumerate(files):
            key = f"projects/{PROJECT}/images/{n:064x}.jpg"
            store.put(key, path.read_bytes())
            images.append(view_of(n, key))
        self.engine = engines_of(self._settings).choose(package)
        self._scorer = scorer_of(self._settings, images, None)
        self._pool = ProcessPoolExecutor(
            self.n_workers,
            multiprocessing.get_context("spawn"),
            initializer=be_a_worker,
            initargs=(self._settings, images, package),
        )

    def run(self, n_passes: int) -> None:
        """Score every image as a version that nobody scored by before."""
        self._n_runs += 1
        request = ScoringCreate(model_version=self._n_runs, n_passes=max(n_passes, 2))
        parts = self._scorer.plan(PROJECT, request)
        each = [part.model_copy(update={"n_passes": n_passes}) for part in parts]
        n_scored = sum(self._pool.map(score_part, each))
        assert n_scored == sum(part.n_images for part in parts)  # noqa: S101

    def close(self) -> None:
        """End the workers."""
        self._pool.shutdown()


def be_a_worker(settings: Settings, images: Sequence[ImageView], package: Path) -> None:
    """Have the model in memory, as a worker has after its first part."""
    runtime = engines_of(settings).load(package)
    WORKER.append(scorer_of(settings, images, runtime))


def score_part(part: ScoringPart) -> int:
    """Score a part in a worker and return the number of its images."""
    return WORKER[0].score_part(PROJECT, part, silent).n_scored


def engines_of(settings: Settings) -> Engines:
    """Return how a worker of these settings chooses its engine."""
    options = RuntimeOptions(threads=settings.threads, askers=SCORERS)
    return Engines(settings.state_dir / "engines.json", options, settings.engine)


def scorer_of(
    settings: Settings, images: Sequence[ImageView], runtime: DetectorRuntime | None
) -> Scorer:
    """Return a worker's scorer; without a runtime it can plan."""
    index = Index(vector_store(settings))
    return Scorer(Listed(images), object_store(settings), index, Ready(runtime), 100e6)


class Listed:
    """A gateway that knows these images."""

    def __init__(self, images: Sequence[ImageView]) -> None:
        """List `images`, which are ordered by id."""
        self._images = images

    def project(self, name: str) -> ProjectView:
        """Nobody asks."""
        raise NotImplementedError(name)

    def image(self, project: str, image_id: str) -> ImageView:
        """Nobody asks."""
        raise NotImplementedError(image_id)

    def iter_images(
        self, project: str, *, split: Split | None = None, after: str | None = None
    ) -> Iterator[ImageView]:
        """Yield them."""
        del project, split
        return (image for image in self._images if image.id > (after or ""))


class Ready(LoadedModel):
    """Has the model in memory, as a worker has after its first part."""

    def __init__(self, runtime: DetectorRuntime | None) -> None:
        """Be `runtime`, whatever is asked for."""
        self._runtime = runtime

    def get(self, project: str, version: int | None) -> DetectorRuntime:
        """Return it."""
        del project, version
        if self._runtime is None:
            raise NotImplementedError
        return self._runtime


def silent(share: float, message: str) -> None:
    """Report no progress."""
    del share, message


def view_of(n: int, key: str) -> ImageView:
    """Return the record of an image."""
    return ImageView(
        id=f"{n:064x}",
        name=f"{n}.jpg",
        width=WIDTH,
        height=HEIGHT,
        split="train",
        labelled=False,
        duplicate_group=None,
        key=key,
        thumbnail_key=key,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def show(report: Report) -> None:
    """Print the report."""
    table = Table("system", "images/s", "how")
    for name, system in report.systems.items():
        how = ", ".join(f"{key} {value}" for key, value in system.items() if key != "images_per_s")
        table.add_row(name, f"{system['images_per_s']:.1f}", how)
    console.print(table)
    console.print(f"{report.images} images of {WIDTH}x{HEIGHT} ({report.photos}), {report.cpu}")
    console.print(
        f"fovea over ultralytics: {report.ratio_pytorch:.2f} (PyTorch), "
        f"{report.ratio_openvino:.2f} (OpenVINO); "
        f"ten passes take {report.stochastic_share:.1%} of the time"
    )


if __name__ == "__main__":
    main()
