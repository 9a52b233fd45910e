"""What serving is measured beside: plain servers around one model, as a careful user writes them.

    python -m inference_service.scripts.bench_serving_plain NAME PORT PACKAGE ENGINE N_PROCESSES

`fastapi` and `litserve` ask `YOLO.predict`; `litserve_same_runtime` asks Fovea's own runtime in
ENGINE for all that the service answers. They give and take what the service does: an image as the
field `file` of a form, boxes as `detections`, by the same thresholds.
"""

import argparse
import importlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torchvision  # noqa: F401 - Ultralytics takes its faster NMS only where it is imported
import uvicorn
from fastapi import FastAPI, Request, UploadFile

from inference_service.app.core.images import Pixels, decode_image
from inference_service.app.core.loading import RuntimeOptions, load_runtime
from inference_service.app.core.scored import Picture, score_pictures
from inference_service.app.services.model_worker import SERVED, serving_options
from inference_service.app.services.prediction import detections
from shared.cores import usable_cores
from shared.detector.package import load_package
from shared.detector.ultralytics_env import YOLO, torch_utils
from shared.models.registry import EngineChoice
from shared.thresholds import DEFAULT_NMS_IOU, DEFAULT_SCORE, Thresholds

HOST = "127.0.0.1"
PLAIN = ("fastapi", "litserve", "litserve_same_runtime")
MAX_BATCH = 8
# Little beside a batch, which takes half a second; with 0 LitServe looks without a pause.
BATCH_TIMEOUT_S = 0.01
MAX_PIXELS = 100e6

Answer = dict[str, Any]


class Detector(Protocol):
    """A model as these servers use it; one thread at a time."""

    def decode(self, data: bytes) -> Pixels:
        """Return the pixels of a file."""

    def detect(self, images: Sequence[Pixels]) -> list[Answer]:
        """Return the answer for each image."""


class YoloDetector:
    """`YOLO.predict`."""

    def __init__(self, package: Path, threads: int) -> None:
        """Load the weights of a package."""
        torch_utils.NUM_THREADS = threads
        model, info = load_package(package)
        self._image_size = info.image_size
        self._yolo = YOLO("yolov8n.yaml", verbose=False)
        self._yolo.model = model

    def decode(self, data: bytes) -> Pixels:
        """Return the pixels of a file, BGR."""
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        return np.asarray(pixels, np.uint8)

    def detect(self, images: Sequence[Pixels]) -> list[Answer]:
        """Return the boxes of each image."""
        results = self._yolo.predict(
            list(images),
            imgsz=self._image_size,
            conf=DEFAULT_SCORE,
            iou=DEFAULT_NMS_IOU,
            max_det=SERVED.max_boxes,
            rect=True,
            verbose=False,
        )
        return [_answer(result.boxes) for result in results]


class FoveaDetector:
    """Fovea's runtime with its ten passes, asked for what the service answers."""

    def __init__(self, package: Path, engine: EngineChoice, threads: int) -> None:
        """Load a package in an engine."""
        self._runtime = load_runtime(package, RuntimeOptions(threads=threads), engine)
        self._thresholds = Thresholds.default(len(self._runtime.classes))

    def decode(self, data: bytes) -> Pixels:
        """Return the pixels of a file, RGB."""
        return decode_image(data, MAX_PIXELS)

    def detect(self, images: Sequence[Pixels]) -> list[Answer]:
        """Return the boxes of each image, with class scores and uncertainty."""
        pictures = [Picture("", "test", pixels) for pixels in images]
        return [
            {"detections": [d.model_dump() for d in detections(scored, self._thresholds)]}
            for scored in score_pictures(self._runtime, pictures, serving_options(self._thresholds))
        ]


def serve_fastapi(detector: Detector, port: int) -> None:
    """Serve one image a call, in FastAPI's own threads."""
    app = FastAPI()
    # One YOLO object must never be used by two threads.
    lock = threading.Lock()

    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.post("/predict")
    def predict(file: UploadFile) -> Answer:
        pixels = detector.decode(file.file.read())
        with lock:
            return detector.detect([pixels])[0]

    uvicorn.run(app, host=HOST, port=port, log_level="warning", access_log=False)


class LitServed:
    """What LitServe asks for: its hooks, which it calls in a process of its own."""

    def __init__(self, name: str, package: Path, engine: EngineChoice, threads: int) -> None:
        """Keep what `setup` loads."""
        self._given = name, package, engine, threads

    def setup(self, device: str) -> None:
        """Load the model."""
        del device
        self._detector = load(*self._given)

    def decode_request(self, request: Request) -> Pixels:
        """Return the pixels of a form's file; by its annotation LitServe knows what to give."""
        return self._detector.decode(request["file"].file.read())

    def batch(self, inputs: list[Pixels]) -> list[Pixels]:
        """Return the images as they are: LitServe would copy them into one array."""
        return inputs

    def predict(self, images: Sequence[Pixels]) -> list[Answer]:
        """Return the answer for each image."""
        return self._detector.detect(images)


def serve_litserve(hooks: LitServed, port: int, n_processes: int) -> None:
    """Serve what waits together, in LitServe."""
    # Installed for this benchmark alone; no other module may need it.
    litserve = importlib.import_module("litserve")
    api = litserve.LitAPI(max_batch_size=MAX_BATCH, batch_timeout=BATCH_TIMEOUT_S)
    for name in ("setup", "decode_request", "batch", "predict"):
        setattr(api, name, getattr(hooks, name))
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=n_processes, timeout=False
    )
    server.run(host=HOST, port=port, log_level="warning", generate_client_file=False)


def load(name: str, package: Path, engine: EngineChoice, threads: int) -> Detector:
    """Return what a plain server asks."""
    if name.endswith("same_runtime"):
        return FoveaDetector(package, engine, threads)
    return YoloDetector(package, threads)


def threads_of(n_processes: int) -> int:
    """Return the threads of each of several processes."""
    return max(1, usable_cores() // n_processes)


def _answer(boxes: Any) -> Answer:
    found = zip(boxes.xyxyn.tolist(), boxes.conf.tolist(), boxes.cls.tolist(), strict=True)
    return {
        "detections": [
            {"class_id": int(class_id), "xyxy": xyxy, "score": score}
            for xyxy, score, class_id in found
        ]
    }


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=PLAIN)
    parser.add_argument("port", type=int)
    parser.add_argument("package", type=Path)
    parser.add_argument("engine", type=EngineChoice.model_validate_json)
    parser.add_argument("n_processes", type=int)
    args = parser.parse_args()
    if args.name == "fastapi":
        # One model behind one lock: it has all cores.
        detector = load(args.name, args.package, args.engine, threads_of(1))
        serve_fastapi(detector, args.port)
    else:
        threads = threads_of(args.n_processes)
        hooks = LitServed(args.name, args.package, args.engine, threads)
        serve_litserve(hooks, args.port, args.n_processes)


if __name__ == "__main__":
    main()
