"""Detection quality on one split by Ultralytics' validator; only the child imports it."""

import math
from pathlib import Path
from typing import Any

from shared.detector.ultralytics_env import (
    DetectionModel,
    DetectionValidator,
    nms,
    provide_fonts,
)
from shared.models.data import Split
from shared.models.registry import Metrics

BATCH = 16


class PatientValidator(DetectionValidator):  # type: ignore[misc]
    """A validator that keeps every image's boxes, however slow the machine is.

    Ultralytics gives up on a batch's non-maximum suppression after 2 s + 0.05 s an image and counts
    the images it did not reach as without any box, which lowers the measured quality.
    """

    def postprocess(self, preds: Any) -> list[dict[str, Any]]:
        """Return the boxes, scores and classes of each image of a batch."""
        found = nms.non_max_suppression(
            preds,
            self.args.conf,
            self.args.iou,
            multi_label=True,
            max_det=self.args.max_det,
            max_time_img=math.inf,
        )
        return [
            {"bboxes": x[:, :4], "conf": x[:, 4], "cls": x[:, 5], "extra": x[:, 6:]} for x in found
        ]


def evaluate(model: DetectionModel, data_yaml: Path, split: Split, image_size: int) -> Metrics:
    """Return how well `model` finds the objects of a split.

    Average precision as COCO has it, from 101 points, at IoU 0.5 and as the mean over 0.5 to 0.95;
    the mean is over classes that occur in the split.

    Args:
        model: a network that stays as it is (a copy is measured).
        data_yaml: of the materialised dataset version.
        split: must have labelled images there.
        image_size: longer side in pixels.
    """
    provide_fonts()
    validator = PatientValidator(
        save_dir=data_yaml.parent,
        args={
            "data": str(data_yaml),
            "split": split,
            "imgsz": image_size,
            "batch": BATCH,
            "workers": 0,
            "plots": False,
            "verbose": False,
            "model": "yolov8n.yaml",
        },
    )
    validator(model=model)
    box = validator.metrics.box
    per_class = dict(zip((int(i) for i in box.ap_class_index), box.ap50, strict=True))
    return Metrics(
        map50=float(box.map50),
        map50_95=float(box.map),
        per_class_map50={model.names[i]: float(ap) for i, ap in per_class.items()},
        n_images=int(validator.seen),
    )
