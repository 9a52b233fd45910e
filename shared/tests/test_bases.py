import pytest

from shared.bases import UnknownBaseModel, check_base
from shared.detector.package import BASES


@pytest.mark.parametrize("base", [None, "scratch", "yolov8n.pt", "fovea-digits", "model:1"])
def test_known_base_models_pass(base: str | None) -> None:
    check_base(base)


@pytest.mark.parametrize(
    "base",
    [
        "",
        "nope",
        "fovea-digits/",
        ".",
        str(BASES / "fovea-digits"),
        "model:",
        "model:0",
        "model:²",
        "model:1 ",
    ],
)
def test_anything_else_is_refused_by_its_name_and_the_known_ones_are_named(base: str) -> None:
    with pytest.raises(UnknownBaseModel) as e:
        check_base(base)
    known = "known are fovea-digits, scratch, yolov8n.pt and model:N"
    assert str(e.value) == f"unknown base model: {base!r}; {known}"
