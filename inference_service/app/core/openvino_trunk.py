"""Engine of the detector: OpenVINO, on Intel and AMD processors."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import openvino
import torch
from openvino import properties

from inference_service.app.core.trunk import Batch, Tapped
from shared.detector.tapped import INPUT

# Graphs of as many shapes of input are kept; a compiled one takes some 40 MB.
MAX_SHAPES = 8


class OpenVinoTrunk:
    """A tapped graph in OpenVINO; where the CPU has AMX it computes in bfloat16."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        """Load the graph of `path`; `threads` 0 means all cores."""
        self._core = openvino.Core()
        self._path = path
        self._properties = {
            properties.inference_num_threads(): threads or os.cpu_count() or 1,
            properties.num_streams(): 1,
        }
        # Faster by far than one graph for every shape.
        self._compiled = lru_cache(MAX_SHAPES)(self._compile)

    def forward(self, pixels: Batch) -> Tapped:
        """Return what it sees in pixels (B, H, W, 3), RGB, sides multiples of 32."""
        outputs = self._compiled(*pixels.shape[1:3])([pixels])
        return Tapped.of(tuple(torch.from_numpy(array) for array in outputs.values()))

    def _compile(self, height: int, width: int) -> Any:
        graph = self._core.read_model(self._path)
        graph.reshape({INPUT: openvino.PartialShape([-1, height, width, 3])})
        return self._core.compile_model(graph, "CPU", self._properties)
