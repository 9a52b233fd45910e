"""The models that a training may start from, by name; known without loading any."""

from importlib.resources import files
from pathlib import Path

from shared.errors import BadRequest

# Besides the shipped ones: random weights, and the file that Ultralytics downloads.
_OTHERS = ("scratch", "yolov8n.pt")


class UnknownBaseModel(BadRequest):
    """No training can start from this model."""


def check_base(base: str | None) -> None:
    """Refuse a base model that no training finds; None is the one of the settings.

    Only names are known, never a path: a request opens no folder of the server.

    Raises:
        UnknownBaseModel: it is none of those known; they are named.
    """
    known = sorted({*_shipped(), *_OTHERS})
    if base is not None and base not in known:
        msg = f"unknown base model: {base!r}; known are {', '.join(known)}"
        raise UnknownBaseModel(msg)


def _shipped() -> list[str]:
    folder = Path(str(files("shared.detector"))) / "base"
    return [path.parent.name for path in folder.glob("*/model.json")]
