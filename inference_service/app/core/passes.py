"""Stochastic passes of the class head at the kept anchors alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class HeadBranch:
    """The class branch of one level after its dropout: the last 1x1 convolution.

    Attributes:
        weight: shape (C, K), K channels.
        bias: shape (C,).
        n_box_channels: of the box branch beside it, whose dropout draws first from the same stream.
    """

    weight: Tensor
    bias: Tensor
    n_box_channels: int

    @property
    def n_channels(self) -> int:
        """Return K."""
        return int(self.weight.shape[1])


def draw_masks(branches: Sequence[HeadBranch], p: float, n_passes: int, seed: int) -> list[Tensor]:
    """Return the dropout masks of the class branches, one per level, shape (T, K).

    The stream is that of T full passes over one image with `torch.manual_seed(seed)` before the
    first: in each pass every box branch draws, then every class branch. Drawn on the CPU whatever
    the device, so the masks are the same everywhere.

    Args:
        branches: the head's levels in order.
        p: probability of dropping a channel; the others are scaled by `1 / (1 - p)`.
        n_passes: T.
        seed: of the stream.
    """
    generator = torch.Generator().manual_seed(seed)
    masks: list[list[Tensor]] = [[] for _ in branches]

    def draw(n_channels: int) -> Tensor:
        kept = torch.empty(1, n_channels, 1, 1).bernoulli_(1 - p, generator=generator)
        return kept.div_(1 - p).view(n_channels)

    for _ in range(n_passes):
        for branch in branches:
            draw(branch.n_box_channels)
        for level, branch in enumerate(branches):
            masks[level].append(draw(branch.n_channels))
    return [torch.stack(level) for level in masks]


def stochastic_scores(features: Tensor, branch: HeadBranch, masks: Tensor) -> Tensor:
    """Return the class scores of every pass at some anchors of one level.

    Args:
        features: shape (N, K), the branch's map before its dropout, at N anchors.
        branch: of the same level.
        masks: shape (T, K).

    Returns:
        Shape (N, C, T), in [0, 1]; equal to T full passes with these masks, since a convolution of
        size 1 sees one anchor at a time.
    """
    dropped = features[:, None, :] * masks[None]
    logits = dropped @ branch.weight.T + branch.bias
    return logits.sigmoid().transpose(1, 2)
