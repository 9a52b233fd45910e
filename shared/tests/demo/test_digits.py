from collections import Counter
from pathlib import Path

import cv2
import pytest
import yaml

from shared.demo.digits import (
    BASE_DIGITS,
    BASE_PHOTOS,
    DEMO_DIGITS,
    HELD_PHOTOS,
    POOL_PHOTOS,
    DemoSizes,
    make_base_dataset,
    make_batch,
    make_demo_dataset,
)

SIZES = DemoSizes(pool=120, val=8, test=6)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_dataset(tmp_path_factory.mktemp("demo"), 0, SIZES).parent


def test_the_demo_is_a_yolo_folder(demo: Path) -> None:
    content = yaml.safe_load((demo / "data.yaml").read_text())
    assert content["names"] == {0: "zero", 1: "three", 2: "eight", 3: "four", 4: "seven", 5: "six"}
    for split, n_images in (("train", 120), ("val", 8), ("test", 6)):
        images = sorted((demo / content[split]).glob("*.jpg"))
        labels = sorted((demo / "labels" / split).glob("*.txt"))
        assert len(images) == n_images
        assert [path.stem for path in labels] == [path.stem for path in images]
    image = cv2.imread(str(demo / "images" / "val" / "val_0000.jpg"))
    assert image is not None
    assert image.shape == (160, 160, 3)


def test_boxes_lie_inside_and_half_of_the_pool_holds_none(demo: Path) -> None:
    texts = [path.read_text() for path in (demo / "labels" / "train").iterdir()]
    for line in "".join(texts).splitlines():
        x, y, width, height = (float(value) for value in line.split()[1:])
        assert 0 < width / 2 <= x <= 1 - width / 2 + 1e-6
        assert 0 < height / 2 <= y <= 1 - height / 2 + 1e-6
    assert 0.4 < sum(not text for text in texts) / len(texts) < 0.6
    counts = Counter(line.split()[0] for text in texts for line in text.splitlines())
    assert counts["0"] > 2 * counts["5"] > 0


def test_the_same_seed_makes_the_same_bytes(demo: Path, tmp_path: Path) -> None:
    again = make_demo_dataset(tmp_path / "same", 0, SIZES).parent
    other = make_demo_dataset(tmp_path / "other", 1, SIZES).parent
    name = Path("images") / "train" / "pool_0007.jpg"
    assert (again / name).read_bytes() == (demo / name).read_bytes()
    assert (other / name).read_bytes() != (demo / name).read_bytes()


def test_base_pool_and_held_out_images_share_no_photo_and_base_no_digit() -> None:
    names = (*BASE_PHOTOS, *POOL_PHOTOS, *HELD_PHOTOS)
    assert len(set(names)) == len(names)
    assert not set(BASE_DIGITS) & set(DEMO_DIGITS)


def test_the_base_set_has_its_own_classes(tmp_path: Path) -> None:
    data_yaml = make_base_dataset(tmp_path, 4, 2)
    names = yaml.safe_load(data_yaml.read_text())["names"]
    assert names == {0: "one", 1: "two", 2: "five", 3: "nine"}
    assert len(list((tmp_path / "images" / "train").iterdir())) == 4


def test_a_shifted_batch_is_darker_and_no_batch_repeats_the_test_split(
    demo: Path, tmp_path: Path
) -> None:
    means = {}
    for shifted in (False, True):
        paths = make_batch(tmp_path, 20, 0, shifted=shifted)
        assert len(paths) == 20
        images = [cv2.imread(str(path)) for path in paths]
        means[shifted] = sum(float(image.mean()) for image in images if image is not None) / 20
    assert means[True] < 0.6 * means[False]
    known = {path.read_bytes() for path in (demo / "images" / "test").iterdir()}
    assert not known & {path.read_bytes() for path in tmp_path.iterdir()}
