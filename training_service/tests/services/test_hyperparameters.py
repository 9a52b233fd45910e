import pytest

from training_service.app.services.hyperparameters import batch_shape, learning_rate_share


def test_the_learning_rate_rises_for_thirty_iterations_and_then_falls_to_a_hundredth() -> None:
    shares = [learning_rate_share(i, 300) for i in range(300)]
    assert shares[0] == pytest.approx(1 / 30)
    assert max(shares) == shares[29] == pytest.approx(1 - 0.99 * 29 / 300)
    assert shares[29:] == sorted(set(shares[29:]), reverse=True)
    assert shares[-1] == pytest.approx(0.01 + 0.99 / 300)


@pytest.mark.parametrize("n_iterations", [1, 3, 8])
def test_a_short_training_rises_for_a_quarter_of_it_at_most(n_iterations: int) -> None:
    assert learning_rate_share(max(0, n_iterations // 4 - 1), n_iterations) > 0.8


@pytest.mark.parametrize(
    ("shapes", "shape"),
    [
        ([(480, 640)], (192, 256)),
        ([(480, 640), (360, 640)], (192, 256)),
        ([(640, 480), (640, 640)], (256, 256)),
        ([(480, 640), (640, 480)], (256, 256)),
        ([(1080, 1920), (2000, 3000)], (192, 256)),
        ([(10, 1000)], (32, 256)),
    ],
)
def test_a_batch_is_as_high_and_wide_as_its_images_need(
    shapes: list[tuple[int, int]], shape: tuple[int, int]
) -> None:
    assert batch_shape(shapes, 256) == shape
