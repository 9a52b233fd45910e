"""The process that trains or measures: `python -m training_service.app.child_process SPEC`."""

import os
import sys
import threading
from pathlib import Path

from pydantic import TypeAdapter

from training_service.app.services.specs import EvaluateSpec, TrainSpec
from training_service.app.services.work import run


def main() -> None:
    """Do what the spec's file says; end when the parent does."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    adapter: TypeAdapter[TrainSpec | EvaluateSpec] = TypeAdapter(TrainSpec | EvaluateSpec)
    run(adapter.validate_json(Path(sys.argv[1]).read_bytes()))


def _end_with_parent() -> None:
    # The parent holds the other end of this pipe open as long as it lives, and writes nothing.
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    main()
