"""Engine of the detector: ONNX Runtime."""

from pathlib import Path

import torch

from inference_service.app.core.onnx_session import open_session
from inference_service.app.core.trunk import BATCH, Batch, Tapped
from shared.cores import usable_cores
from shared.detector.tapped import INPUT, OUTPUTS


class OnnxTrunk:
    """A tapped graph in ONNX Runtime, on a GPU if it was installed with one's provider."""

    batch = BATCH

    def __init__(self, path: Path, threads: int = 0) -> None:
        """Load the graph of `path`; `threads` 0 means all cores."""
        self._session = open_session(path, threads or usable_cores())

    def forward(self, pixels: Batch) -> Tapped:
        """Return what it sees in pixels (B, H, W, 3), RGB, sides multiples of 32."""
        outputs = self._session.run(OUTPUTS, {INPUT: pixels})
        return Tapped.of(tuple(torch.from_numpy(output) for output in outputs))
