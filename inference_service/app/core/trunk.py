"""What an engine computes of a batch, and what stays the same whichever engine does."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference_service.app.core.passes import HeadBranch, HeadLevel
from shared.detector.dropout import head_dropout
from shared.detector.ultralytics_env import DetectionModel

Batch = NDArray[np.uint8]
# Images at a time, of most engines.
# Measured on 2 cores, 320 px: 65 images/s one by one, 103 in eights, 106 in sixteens.
BATCH = 8


@dataclass(frozen=True)
class Tapped:
    """One pass: candidates (B, 4 + C, A), the branches' maps (B, K, h, w) by level, pooled (B, D).

    Candidates are boxes as centre, width and height in pixels of the network's input, then scores.
    """

    candidates: Tensor
    box_maps: tuple[Tensor, ...]
    cls_maps: tuple[Tensor, ...]
    pooled: Tensor

    @classmethod
    def of(cls, outputs: "tuple[Tensor, ...]") -> "Tapped":
        """Return the outputs of a tapped graph, in its order, by name; in float32."""
        candidates, *maps, pooled = (output.float() for output in outputs)
        n_levels = len(maps) // 2
        return cls(candidates, tuple(maps[:n_levels]), tuple(maps[n_levels:]), pooled)


class Trunk(Protocol):
    """A network in some engine, up to the head's dropout; several threads may ask at once.

    Attributes:
        batch: images that it is given at a time, at most.
    """

    batch: int

    def forward(self, pixels: Batch) -> Tapped:
        """Return what it sees in pixels (B, H, W, 3), RGB, sides multiples of 32.

        It holds until the same thread asks again.
        """


@dataclass(frozen=True)
class Head:
    """What comes behind the dropout: few numbers, computed here for the kept anchors alone."""

    levels: tuple[HeadLevel, ...]
    dropout: float

    @classmethod
    def of(cls, model: DetectionModel) -> "Head":
        """Return the head of a network."""
        head = model.model[-1]
        parts = zip(head.cv2, head.cv3, head.stride.tolist(), strict=True)
        levels = tuple(HeadLevel(_branch(b), _branch(c), stride) for b, c, stride in parts)
        return cls(levels, head_dropout(model))

    def to(self, device: torch.device) -> "Head":
        """Return it on `device`, where the trunk's outputs are."""
        levels = (HeadLevel(v.box.to(device), v.cls.to(device), v.stride) for v in self.levels)
        return Head(tuple(levels), self.dropout)


def _branch(convolutions: Any) -> HeadBranch:
    last = convolutions[-1]
    return HeadBranch(
        last.weight.detach().flatten(1).float().clone(), last.bias.detach().float().clone()
    )
