"""Engine of the detector: OpenVINO, on Intel and AMD processors."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino.opset13 as opset
import torch
from openvino import properties

from inference_service.app.core.trunk import Batch, Tapped
from shared.cores import usable_cores
from shared.detector.tapped import INPUT

# Images at a time: eight at once are no sooner than four (56 and 57 images/s of 640x480 on 2 cores,
# 55 one by one), and a graph keeps the memory of its largest batch, 15 MB an image of 320x320 and
# 35 of 640x480, in each of its streams.
BATCH = 4
# Compiled graphs that are kept: of a shape of input, of one or of several streams.
MAX_GRAPHS = 8
# Of which each thread keeps requests, with outputs as large.
OWN_GRAPHS = 2


def _see_once() -> None:
    """Have the binding meet NumPy.

    It keeps what it needs of it at the first use, where two threads at once wait for each other for
    ever: one for the lock of that place, the other, in it, for Python's.
    """
    numbers = opset.parameter([1], openvino.Type.u8)
    graph = openvino.Model([opset.convert(numbers, "f32")], [numbers])
    unbound = {properties.hint.enable_cpu_pinning(): False}
    request = openvino.compile_model(graph, "CPU", unbound).create_infer_request()
    request.infer([np.zeros(1, np.uint8)], share_inputs=True, share_outputs=True)


# While the module is imported there is one thread here.
_see_once()


def n_streams(threads: int, askers: int) -> int:
    """Return how many batches are computed at once: each by as many threads as the others."""
    return max(n for n in range(1, max(askers, 1) + 1) if threads % n == 0)


class OpenVinoTrunk:
    """A tapped graph in OpenVINO; where the CPU has instructions for it, in bfloat16."""

    batch = BATCH

    def __init__(
        self, path: Path, threads: int = 0, askers: int = 1, *, waited_for: bool = False
    ) -> None:
        """Load the graph of `path`.

        Args:
            path: of the graph.
            threads: 0 means all cores.
            askers: threads that ask at once. Their batches have a share of the cores each, as far
                as it goes into whole ones: cores that share a batch wait for each other after every
                layer. Measured on 2 cores, 640x480: 44 images/s in one stream, 50 in two.
            waited_for: a batch that comes alone has all cores, in a graph of its own.
        """
        self._core = openvino.Core()
        self._path = path
        n_threads = threads or usable_cores()
        self._properties = {
            properties.inference_num_threads(): n_threads,
            # Each process binds its threads to the machine's first cores: several processes, or
            # containers, would share those, and leave the others idle.
            properties.hint.enable_cpu_pinning(): n_threads == os.cpu_count(),
        }
        self._n_streams = n_streams(n_threads, askers)
        self._waited_for = waited_for
        self._n_inside = 0
        # Faster by far than one graph for every shape.
        self._compiled = lru_cache(MAX_GRAPHS)(self._compile)
        self._compiling = threading.Lock()
        self._counting = threading.Lock()
        self._own = threading.local()

    def forward(self, pixels: Batch) -> Tapped:
        """Return what it sees in pixels (B, H, W, 3), RGB, sides multiples of 32.

        It lies in the engine's own memory, and holds until the same thread asks again: the maps of
        a batch of photos take 40 MB.
        """
        with self._inside() as alone:
            streams = 1 if alone and self._waited_for else self._n_streams
            height, width = pixels.shape[1:3]
            request = self._request(height, width, streams)
            outputs = request.infer([pixels], share_inputs=True, share_outputs=True)
        return Tapped.of(tuple(torch.from_numpy(array) for array in outputs.values()))

    @contextmanager
    def _inside(self) -> Iterator[bool]:
        """Count who asks, and tell whether nobody else does."""
        with self._counting:
            self._n_inside += 1
            alone = self._n_inside == 1
        try:
            yield alone
        finally:
            with self._counting:
                self._n_inside -= 1

    def _request(self, height: int, width: int, streams: int) -> Any:
        """Return this thread's request; more of them than streams wait in the engine."""
        with self._compiling:
            compiled = self._compiled(height, width, streams)
        if not hasattr(self._own, "request"):
            new = openvino.CompiledModel.create_infer_request
            self._own.request = lru_cache(OWN_GRAPHS)(new)
        return self._own.request(compiled)

    def _compile(self, height: int, width: int, streams: int) -> Any:
        graph = self._core.read_model(self._path)
        graph.reshape({INPUT: openvino.PartialShape([-1, height, width, 3])})
        chosen = {**self._properties, properties.num_streams(): streams}
        return self._core.compile_model(graph, "CPU", chosen)
