"""Ultralytics, imported with its switches set: it installs nothing, sends nothing, asks nobody.

The switches are read when Ultralytics is first imported, so everything of it comes through here.
"""

import os
import shutil
import tempfile
from pathlib import Path

from shared.detector.folders import own_folder

os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")
if "YOLO_CONFIG_DIR" not in os.environ:
    _folder = Path(tempfile.gettempdir()) / f"fovea-ultralytics-{os.getuid()}"
    os.environ["YOLO_CONFIG_DIR"] = str(own_folder(_folder))

from PIL import Image
from ultralytics import YOLO
from ultralytics.data.augment import LetterBox
from ultralytics.models.yolo.detect import DetectionTrainer, DetectionValidator
from ultralytics.nn.modules.head import Detect
from ultralytics.nn.tasks import DetectionModel, yaml_model_load
from ultralytics.utils import LOGGER, USER_CONFIG_DIR, nms, ops, patches, torch_utils
from ultralytics.utils.metrics import ap_per_class

# Ultralytics replaces it by one that, on a broken image, fails on a missing HEIF plugin instead.
Image.open = patches._image_open

__all__ = [
    "LOGGER",
    "YOLO",
    "Detect",
    "DetectionModel",
    "DetectionTrainer",
    "DetectionValidator",
    "LetterBox",
    "ap_per_class",
    "nms",
    "ops",
    "provide_fonts",
    "torch_utils",
    "yaml_model_load",
]


def provide_fonts() -> None:
    """Put a font of Matplotlib where Ultralytics looks for one before it downloads its own."""
    from matplotlib import get_data_path

    font = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    for name in ("Arial.ttf", "Arial.Unicode.ttf"):
        if not (USER_CONFIG_DIR / name).exists():
            shutil.copyfile(font, USER_CONFIG_DIR / name)
