"""Train the shipped base model: yolov8n on scenes of digits that the demo does not use.

    python -m training_service.scripts.train_base [--images 1600] [--epochs 20] [--threads 1]

About ten minutes on one thread; writes `shared/detector/base/fovea-digits/`.
"""

import argparse
import tempfile
from pathlib import Path

from shared.demo.digits import BASE_DIGITS, NAMES, make_base_dataset
from shared.detector.package import BASES, PackageOptions, load_package, save_package
from shared.models.rounds import TrainingParams
from training_service.app.services.evaluation import evaluate
from training_service.app.services.specs import Progress, TrainSpec
from training_service.app.services.trainer import DetectorTraining

NAME = "fovea-digits"


def main() -> None:
    """Make the data, train, measure on val, write the package in half precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1600)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "fovea-base")
    args = parser.parse_args()
    data_yaml = make_base_dataset(args.work / "data", args.images, 200)
    params = TrainingParams(epochs=args.epochs, image_size=160, batch=16, learning_rate=0.003)
    spec = TrainSpec(
        data_yaml=data_yaml,
        work=args.work,
        classes=tuple(NAMES[digit] for digit in BASE_DIGITS),
        params=params,
        base="scratch",
        downloads=args.work,
        dropout=0.0,
        threads=args.threads,
    )
    training = DetectorTraining(spec, _say)
    training.run()
    options = PackageOptions(image_size=params.image_size, base="scratch", half=True)
    save_package(training.ema.ema, BASES / NAME, options)
    model, _ = load_package(BASES / NAME)
    metrics = evaluate(model, data_yaml, "val", params.image_size)
    print(f"{training.seconds:.0f} s, val mAP50 {metrics.map50:.3f}")  # noqa: T201


def _say(progress: Progress) -> None:
    print(progress.message, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
