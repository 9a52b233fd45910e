"""Features of boxes, pooled from the maps that the class scores are made of."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align


def box_features(
    maps: Sequence[Tensor], strides: Sequence[float], xyxy: Sequence[Tensor]
) -> Tensor:
    """Return what the network sees in some boxes of a batch, of all levels side by side.

    Args:
        maps: of each level, shape (B, K, h, w).
        strides: of each level, pixels of the network's input between two of its cells.
        xyxy: of each image, shape (M, 4), in pixels of the network's input.

    Returns:
        Shape (the sum of M over the images, the sum of K over the levels): each map's mean within
        the box, the first image's boxes first.

    Source:
        RoIAlign: He et al. 2017, Mask R-CNN (arXiv:1703.06870).
    """
    pooled = [
        roi_align(
            level, [boxes.to(level) for boxes in xyxy], 1, spatial_scale=1 / stride,
            sampling_ratio=-1, aligned=True,
        ).flatten(1)
        for level, stride in zip(maps, strides, strict=True)
    ]  # fmt: skip
    return torch.cat(pooled, dim=1)
