"""Engine of the detector: ONNX Runtime."""

import os
from pathlib import Path

import onnxruntime
import torch

from inference_service.app.core.trunk import Batch, Tapped
from shared.detector.tapped import INPUT, OUTPUTS

# By preference; there is another one in the package, which would send the images away.
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


class OnnxTrunk:
    """A tapped graph in ONNX Runtime, on a GPU if it was installed with one's provider."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        """Load the graph of `path`; `threads` 0 means all cores."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        # Between two batches its threads would spin in the way of everybody else's.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        there = onnxruntime.get_available_providers()
        providers = [name for name in PROVIDERS if name in there]
        self._session = onnxruntime.InferenceSession(path, options, providers=providers)

    def forward(self, pixels: Batch) -> Tapped:
        """Return what it sees in pixels (B, H, W, 3), RGB, sides multiples of 32."""
        outputs = self._session.run(OUTPUTS, {INPUT: pixels})
        return Tapped.of(tuple(torch.from_numpy(output) for output in outputs))
