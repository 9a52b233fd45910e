import random

import imagehash
from PIL import Image

from data_service.app.core.phash import HashIndex, perceptual_hash
from data_service.tests.builders import noise


def test_the_hash_is_that_of_imagehash() -> None:
    image = noise(1)
    assert f"{perceptual_hash(image):016x}" == str(imagehash.phash(image))


def test_an_image_of_one_colour_has_no_hash() -> None:
    assert perceptual_hash(Image.new("RGB", (64, 64), (10, 200, 30))) is None


def test_the_index_finds_exactly_what_a_full_scan_finds() -> None:
    generator = random.Random(0)
    values = [generator.getrandbits(64) for _ in range(300)]
    for value in list(values):
        flipped = generator.sample(range(64), generator.randint(1, 9))
        values.append(value ^ sum(1 << bit for bit in flipped))
    index = HashIndex()
    for i, value in enumerate(values):
        index.add(value, str(i))
    for value in values:
        scan = {str(i) for i, v in enumerate(values) if (v ^ value).bit_count() <= 6}
        assert {image for image, _ in index.near(value)} == scan


def test_of_equal_hashes_the_first_stands_for_all() -> None:
    index = HashIndex()
    index.add(5, "first")
    index.add(5, "second")
    assert index.near(4) == [("first", 1)]
