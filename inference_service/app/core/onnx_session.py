"""A graph in ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

# By preference; there is another one in the package, which would send the images away.
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")

# The binding meets NumPy here, where there is one thread: two at once may wait for each other for
# ever, as OpenVINO's did.
onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(1, np.float32)).numpy()


def open_session(path: Path, threads: int) -> Any:
    """Return a session of the graph of `path`, on a GPU if one's provider is installed."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Between two batches its threads would spin in the way of everybody else's.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    there = onnxruntime.get_available_providers()
    providers = [name for name in PROVIDERS if name in there]
    return onnxruntime.InferenceSession(path, options, providers=providers)
