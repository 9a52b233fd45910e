from labeling_service.app.services.class_record import read_classes, unknown
from labeling_service.tests.support import FakeGateway
from shared.models.geometry import Annotation

NAMES = ("three", "nine")


def boxes(*class_ids: int) -> tuple[Annotation, ...]:
    return tuple(Annotation(class_id=i, xyxy=(0.1, 0.2, 0.3, 0.4)) for i in class_ids)


def test_labels_are_those_of_train_and_precision_that_of_val() -> None:
    gateway = FakeGateway(
        production=4,
        labels={"train": boxes(0, 1, 1, 1), "val": boxes(0, 0), "test": boxes(0)},
        metrics={
            "val/map50": 0.6,
            "val/map50/1 nine": 0.75,
            "test/map50/0 three": 0.1,
            "test/map50/1 nine": 0.2,
        },
    )
    found = read_classes(gateway, "digits", NAMES, 4)
    assert found.n_labels == (1, 3)
    assert found.ap50 == (None, 0.75)


def test_class_ten_is_not_class_one() -> None:
    names = tuple(f"c{n}" for n in range(11))
    gateway = FakeGateway(production=1, classes=names, metrics={"val/map50/10 c10": 0.5})
    assert read_classes(gateway, "digits", names, 1).ap50 == (*[None] * 10, 0.5)


def test_without_a_dataset_version_or_a_model_nothing_is_known() -> None:
    gateway = FakeGateway(latest_version=None)
    assert read_classes(gateway, "digits", NAMES, None) == unknown(NAMES)
