"""Engine of the detector: PyTorch, on a GPU, in float16, if there is one."""

import threading

import torch

from inference_service.app.core.torch_threads import torch_threads
from inference_service.app.core.trunk import BATCH, Batch, Tapped
from shared.cores import usable_cores
from shared.detector.tapped import TappedNetwork
from shared.detector.ultralytics_env import DetectionModel


class TorchTrunk:
    """A network in PyTorch: what the other engines are measured by."""

    batch = BATCH

    def __init__(self, model: DetectionModel, threads: int = 0, *, bf16: bool = False) -> None:
        """Take over `model`.

        Args:
            model: the network.
            threads: 0 means all cores.
            bf16: on a CPU, run the convolutions in bfloat16; faster where it has AMX, less exact.
        """
        self._threads = threads or usable_cores()
        on_gpu = torch.cuda.is_available()
        self.device = torch.device("cuda" if on_gpu else "cpu")
        self._bf16 = bf16 and not on_gpu
        # A network keeps its maps where the next batch puts its own.
        self._one_at_a_time = threading.Lock()
        network = TappedNetwork(model).to(self.device)
        network = network.half() if on_gpu else network
        self._network = network.to(memory_format=torch.channels_last)

    def forward(self, pixels: Batch) -> Tapped:
        """Return what it sees in pixels (B, H, W, 3), RGB, sides multiples of 32."""
        batch = torch.from_numpy(pixels).to(self.device)
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16)
        with self._one_at_a_time, torch_threads(self._threads), autocast:
            return Tapped.of(self._network(batch))
