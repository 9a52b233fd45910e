import torch

from shared.detector.package import BASES, load_package
from shared.detector.tapped import TappedNetwork

SIDE = 640


def seen(*, half: bool) -> tuple[torch.Tensor, ...]:
    model, _ = load_package(BASES / "fovea-digits")
    network = TappedNetwork(model)
    pixels = torch.randint(0, 256, (1, SIDE, SIDE, 3), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        outputs: tuple[torch.Tensor, ...] = (network.half() if half else network)(
            pixels.to(torch.uint8)
        )
    return outputs


def test_in_float16_boxes_are_still_placed_to_a_fraction_of_a_pixel() -> None:
    exact, *maps = seen(half=False)
    near, *half_maps = seen(half=True)
    assert {m.dtype for m in half_maps} == {torch.float16}
    assert near.dtype == torch.float32
    # Two numbers of float16 are half a pixel apart here.
    assert (near[:, :4] - exact[:, :4]).abs().quantile(0.99) < 0.25
    assert (near[:, 4:] - exact[:, 4:]).abs().max() < 0.02
    for a, b in zip(half_maps, maps, strict=True):
        assert torch.allclose(a.float(), b, atol=0.1, rtol=0.05)
