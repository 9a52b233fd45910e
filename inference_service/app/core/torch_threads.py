"""How many threads PyTorch computes with, for a moment."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Have PyTorch compute with `n` threads for the thread that asks, while the block runs.

    A thread that first meets PyTorch meanwhile begins with `n`, and should ask for its own.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
