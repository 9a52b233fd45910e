"""The models that a training may start from, by name; known without loading any."""

import re
from importlib.resources import files
from pathlib import Path

from shared.errors import BadRequest

# Unless the settings name another.
DEFAULT_BASE = "fovea-digits"
# A version of the project that is trained for: `model:3`.
OWN_MODEL = "model:"
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
    if base is not None and base not in known and own_version(base) is None:
        msg = f"unknown base model: {base!r}; known are {', '.join(known)} and {OWN_MODEL}N"
        raise UnknownBaseModel(msg)


def own_version(base: str) -> int | None:
    """Return N of `model:N`, the project's own version N; None where the base is no such one."""
    number = base.removeprefix(OWN_MODEL)
    if number == base or not re.fullmatch(r"[1-9][0-9]{0,8}", number):
        return None
    return int(number)


def _shipped() -> list[str]:
    folder = Path(str(files("shared.detector"))) / "base"
    return [path.parent.name for path in folder.glob("*/model.json")]
