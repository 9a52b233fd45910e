"""Stochastic passes of the detection head at the kept anchors alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class HeadBranch:
    """One branch of one level after its dropout: the last 1x1 convolution.

    Attributes:
        weight: shape (O, K), O outputs of K channels.
        bias: shape (O,).
    """

    weight: Tensor
    bias: Tensor

    @property
    def n_channels(self) -> int:
        """Return K."""
        return int(self.weight.shape[1])

    def to(self, device: torch.device) -> "HeadBranch":
        """Return it on `device`."""
        return HeadBranch(self.weight.to(device), self.bias.to(device))


@dataclass(frozen=True)
class HeadLevel:
    """Both branches of one level.

    Attributes:
        box: 4 R outputs, the logits of R whole distances to each side.
        cls: C outputs, the logits of the classes.
        stride: pixels of the network's input between two anchors.
    """

    box: HeadBranch
    cls: HeadBranch
    stride: float


@dataclass(frozen=True)
class LevelMasks:
    """Dropout masks of one level and T passes: `box` (T, K of its branch), `cls` likewise."""

    box: Tensor
    cls: Tensor


def draw_masks(levels: Sequence[HeadLevel], p: float, n_passes: int, seed: int) -> list[LevelMasks]:
    """Return the dropout masks of every level.

    The stream is that of T full passes over one image with `torch.manual_seed(seed)` before the
    first: in each pass every box branch draws, then every class branch. Drawn on the CPU whatever
    the device, so the masks are the same everywhere; returned where the levels are.

    Args:
        levels: of the head, in order.
        p: probability of dropping a channel; the others are scaled by `1 / (1 - p)`.
        n_passes: T.
        seed: of the stream.
    """
    generator = torch.Generator().manual_seed(seed)
    branches = [level.box for level in levels] + [level.cls for level in levels]
    masks = [torch.empty(n_passes, branch.n_channels) for branch in branches]
    for i in range(n_passes):
        for mask in masks:
            mask[i].bernoulli_(1 - p, generator=generator)
    scaled = [
        mask.div_(1 - p).to(branch.weight.device)
        for mask, branch in zip(masks, branches, strict=True)
    ]
    n = len(levels)
    return [LevelMasks(box, cls) for box, cls in zip(scaled[:n], scaled[n:], strict=True)]


def stochastic_scores(features: Tensor, branch: HeadBranch, masks: Tensor) -> Tensor:
    """Return the class scores of every pass at some anchors of one level.

    Args:
        features: shape (N, K), the branch's map before its dropout, at N anchors.
        branch: of the same level.
        masks: shape (T, K), or (N, T, K): of each anchor's own image.

    Returns:
        Shape (N, C, T), in [0, 1]; equal to T full passes with these masks, since a convolution of
        size 1 sees one anchor at a time.
    """
    return _logits(features, branch, masks).sigmoid().transpose(1, 2)


def stochastic_boxes(
    features: Tensor, level: HeadLevel, masks: Tensor, anchor_xy: Tensor
) -> Tensor:
    """Return the boxes of every pass at some anchors of one level.

    Args:
        features: shape (N, K), the box branch's map before its dropout, at N anchors.
        level: the level they are of.
        masks: shape (T, K), or (N, T, K): of each anchor's own image.
        anchor_xy: shape (N, 2), the anchors' points, in pixels of the network's input.

    Returns:
        Shape (N, 4, T), xyxy in pixels of the network's input; equal to T full passes.

    Source:
        A side's distance is the expectation of a softmax over whole strides: Li et al. 2020,
        generalised focal loss (arXiv:2006.04388), as in YOLOv8's head.
    """
    logits = _logits(features, level.box, masks)
    n_steps = logits.shape[2] // 4
    chances = logits.view(*logits.shape[:2], 4, n_steps).softmax(-1)
    steps = torch.arange(n_steps, dtype=chances.dtype, device=chances.device)
    distances = (chances @ steps * level.stride).transpose(1, 2)
    points = anchor_xy[:, :, None]
    return torch.cat([points - distances[:, :2], points + distances[:, 2:]], dim=1)


def anchor_points(indices: Tensor, width: int, stride: float) -> Tensor:
    """Return the points of anchors of a level `width` anchors wide, shape (N, 2), in pixels."""
    grid = torch.stack([indices % width, indices // width], dim=1)
    return (grid + 0.5) * stride


def _logits(features: Tensor, branch: HeadBranch, masks: Tensor) -> Tensor:
    """Return the last convolution's outputs of every pass, shape (N, T, O)."""
    dropped = features[:, None, :] * masks
    return dropped @ branch.weight.T + branch.bias
