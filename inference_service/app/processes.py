"""The processes of the API behind its one port: `python -m inference_service.app.processes`.

How many there are is a setting. They share the port, the model files and the numbers of `/metrics`.
"""

import argparse
import multiprocessing
import os
import shutil
import signal
import threading
from multiprocessing.process import BaseProcess
from pathlib import Path

import uvicorn

from shared.log import configure_logging
from shared.settings import Settings, load_settings

# prometheus_client reads it when it is imported: counters then lie in files that are added up, and
# do not depend on which process is asked.
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
GRACE_S = 3
# uvicorn counts from an answer on, also from one that came before the end of a large body: closing
# then, while more is being sent, would take the answer back. Who is idle closes by itself.
KEEP_ALIVE_S = 75
# One that loads a model may hold Python's lock for longer than uvicorn's own 5 s.
HUNG_AFTER_S = 60


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until told to stop; one of several processes that dies is started again."""
    configure_logging(settings, "inference_service")
    if settings.inference_processes > 1:
        os.environ[METRICS_FOLDER] = str(emptied(settings.state_dir / "inference-metrics"))
    uvicorn.run(
        "inference_service.app.main:create_app",
        factory=True,
        host=host,
        port=port,
        workers=settings.inference_processes,
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        timeout_worker_healthcheck=HUNG_AFTER_S,
    )


def emptied(folder: Path) -> Path:
    """Return a folder without what an earlier start left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def end_with_launcher() -> None:
    """Have one of several processes end when the one that started it is gone.

    It would keep the port, and the next start would fail.
    """
    launcher = multiprocessing.parent_process()
    if launcher is not None:
        threading.Thread(target=_end_after, args=(launcher,), daemon=True).start()


def _end_after(launcher: BaseProcess) -> None:
    launcher.join()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    serve(load_settings(), given.host, given.port)
