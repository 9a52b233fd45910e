"""The embedded stack: every process of Fovea on this machine, under supervisord, without Docker."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import httpx2
import psutil

from shared.errors import BackendUnavailable, Conflict
from shared.local.programs import DEFAULT_PORTS, Program, programs

ROOT = Path(__file__).resolve().parents[2]
STOP_S = 5
READY_TIMEOUT_S = 180.0
# Marks the processes of a stack, in their environment, by its state folder.
MEMBER = "FOVEA_STACK_MEMBER"


def _quiet(text: str) -> None:
    del text


class StackRunning(Conflict):
    """Another stack runs in this state folder."""


@dataclass(frozen=True)
class Health:
    """How one process does: the supervisor's word and the process's own."""

    name: str
    state: str
    pid: int
    url: str
    ready: bool
    detail: str


class EmbeddedStack:
    """Starts, watches and stops the processes; data stays in the folder for the next start."""

    def __init__(
        self,
        state_dir: Path,
        *,
        fixed_ports: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Describe a stack in `state_dir`.

        Args:
            state_dir: where everything is kept.
            fixed_ports: try the usual ports first; otherwise take free ones only.
            settings: `FOVEA_*` variables that differ from the embedded defaults.
        """
        self.state = state_dir.resolve()
        self._fixed_ports = fixed_ports
        self._extra = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    # -- life

    def start(self, say: Callable[[str], None] = _quiet) -> None:
        """Start everything and wait until every part is ready.

        Raises:
            StackRunning: a stack of this folder runs already.
            BackendUnavailable: a part does not become ready; it is named, with the end of its log.
        """
        if self.is_running():
            msg = f"a stack runs already in {self.state} (pid {self.supervisor_pid()})"
            raise StackRunning(msg)
        self._end(self._members())
        self.state.mkdir(parents=True, exist_ok=True)
        # It holds keys, images and labels.
        self.state.chmod(0o700)
        (self.state / "logs").mkdir(exist_ok=True)
        self._choose_ports()
        say("applying migrations")
        self._run("-m", "shared.cli.main", "migrate")
        self._ensure_api_key()
        self._write_private("valkey.conf", self._valkey_config())
        self._write_private("supervisord.conf", self._supervisor_config())
        say(f"starting {len(self.programs)} processes")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-c", self.state / "supervisord.conf"],
            cwd=ROOT,
            env=self.environment(),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.state / "logs" / "supervisord.err").open("ab"),
        )
        self.wait_ready(say=say)

    def wait_ready(
        self,
        timeout_s: float = READY_TIMEOUT_S,
        say: Callable[[str], None] = _quiet,
    ) -> None:
        """Wait until every process answers.

        Raises:
            BackendUnavailable: one does not in time.
        """
        deadline = time.monotonic() + timeout_s
        said: set[str] = set()
        while True:
            health = self.health()
            for part in health:
                if part.ready and part.name not in said:
                    said.add(part.name)
                    say(f"ready: {part.name} ({len(said)}/{len(health)})")
            waiting = [part for part in health if not part.ready]
            if not waiting:
                return
            fatal = [part for part in waiting if part.state == "FATAL"]
            if fatal or time.monotonic() > deadline:
                part = (fatal or waiting)[0]
                tail = self.log_tail(part.name)
                msg = (
                    f"{part.name} is not ready ({part.state}: {part.detail}); its log ends:\n{tail}"
                )
                raise BackendUnavailable(msg)
            time.sleep(0.3)

    def stop(self) -> None:
        """Stop every process; one that does not stop within 5 s is killed."""
        members = self._members()
        supervisors = [p for p in members if _is_supervisor(p)]
        # The supervisor first: it would start again what others stop.
        for process in supervisors:
            process.terminate()
        psutil.wait_procs(supervisors, timeout=STOP_S + 5)
        self._end(members)
        if self._process is not None:
            self._process.wait(timeout=5)
        (self.state / "supervisord.pid").unlink(missing_ok=True)

    def is_running(self) -> bool:
        """Tell whether a supervisor of this folder is alive."""
        return self.supervisor_pid() is not None

    def supervisor_pid(self) -> int | None:
        """Return the supervisor's process id, if it is alive."""
        try:
            pid = int((self.state / "supervisord.pid").read_text())
            process = psutil.Process(pid)
            command = " ".join(process.cmdline())
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.ZombieProcess):
            return None
        return pid if str(self.state / "supervisord.conf") in command else None

    def _members(self) -> list[psutil.Process]:
        """Return every process of this stack, also those that a killed supervisor left behind."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MEMBER) == str(self.state):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    @staticmethod
    def _end(processes: list[psutil.Process]) -> None:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(processes, timeout=STOP_S)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=5)

    # -- looking

    @cached_property
    def ports(self) -> dict[str, int]:
        """Return the port of every process, from `stack.json`."""
        try:
            stored = json.loads((self.state / "stack.json").read_text())
        except FileNotFoundError as exc:
            msg = f"no embedded stack in {self.state}: start one by `make local`"
            raise BackendUnavailable(msg) from exc
        return {name: int(port) for name, port in stored["ports"].items()}

    @cached_property
    def programs(self) -> list[Program]:
        """Return every process of the stack."""
        return programs(self.state, self.ports)

    @property
    def urls(self) -> dict[str, str]:
        """Return the address of everything that has pages or an API."""
        return {p.name: p.url for p in self.programs}

    def health(self) -> list[Health]:
        """Return how every process does."""
        try:
            answer: Any = self._supervisor().supervisor.getAllProcessInfo()
            infos = {info["name"]: info for info in answer}
        except (OSError, Fault) as exc:
            infos = {}
            problem = f"supervisor: {exc}"
        else:
            problem = ""
        with httpx2.Client(timeout=3.0) as http:
            return [self._health_of(p, infos.get(p.name), problem, http) for p in self.programs]

    def pid(self, name: str) -> int:
        """Return the process id of one part, 0 when it is down."""
        return next(part.pid for part in self.health() if part.name == name)

    def pss_mb(self) -> float:
        """Return the proportional set size of all processes now, in MB."""
        pid = self.supervisor_pid()
        if pid is None:
            return 0.0
        root = psutil.Process(pid)
        return sum(_pss(p) for p in [root, *root.children(recursive=True)]) / 1e6

    def log_tail(self, name: str, n_lines: int = 30) -> str:
        """Return the last lines that a process wrote."""
        path = self.state / "logs" / f"{name}.log"
        if not path.exists():
            return "(no log)"
        return "\n".join(path.read_text(errors="replace").splitlines()[-n_lines:])

    def follow_logs(self) -> Iterator[str]:
        """Yield what the processes write, line by line, each with its name, for ever."""
        files = {}
        while True:
            for path in sorted((self.state / "logs").glob("*.log")):
                if path not in files:
                    files[path] = path.open(errors="replace")
                    files[path].seek(0, os.SEEK_END)
                for line in files[path]:
                    yield f"{path.stem:>18} | {line.rstrip()}"
            time.sleep(0.3)

    # -- configuration

    def environment(self) -> dict[str, str]:
        """Return the environment of every process: the machine's, and this stack's settings."""
        threads = {"MALLOC_ARENA_MAX": "2", "PYTHONUNBUFFERED": "1", "DO_NOT_TRACK": "1"}
        member = {"PYTHONPATH": str(ROOT), MEMBER: str(self.state)}
        return {**os.environ, **threads, **member, **self.settings()}

    def settings(self) -> dict[str, str]:
        """Return the `FOVEA_*` variables of this stack."""
        ports, private = self.ports, self._secrets()
        services = ("gateway", "data", "inference", "labeling", "training", "calibration")
        return {
            "FOVEA_STATE_DIR": str(self.state),
            "FOVEA_DATABASE_URL": f"sqlite:///{self.state / 'fovea.db'}",
            "FOVEA_OBJECT_STORE_URL": f"file:{self.state / 'objects'}",
            "FOVEA_VECTOR_STORE_URL": f"lancedb:{self.state / 'vectors'}",
            "FOVEA_BROKER_URL": f"redis://:{private['broker']}@127.0.0.1:{ports['valkey']}/0",
            "FOVEA_MLFLOW_URL": f"http://127.0.0.1:{ports['mlflow']}",
            **{
                f"FOVEA_{name.upper()}_URL": f"http://127.0.0.1:{ports[name]}"
                for name in (*services, "evidently")
            },
            "FOVEA_SERVICE_KEY": private["service_key"],
            "FOVEA_SIGNING_KEY": private["signing_key"],
            **({"FOVEA_API_KEY": private["api_key"]} if "api_key" in private else {}),
            "FOVEA_INGEST_ROOTS": os.environ.get("FOVEA_INGEST_ROOTS", str(ROOT)),
            **self._extra,
        }

    @property
    def api_key(self) -> str:
        """Return the administrator's key of this stack."""
        return self._secrets()["api_key"]

    def _choose_ports(self) -> None:
        path = self.state / "stack.json"
        before = json.loads(path.read_text())["ports"] if path.exists() else {}
        chosen: dict[str, int] = {}
        for name, default in DEFAULT_PORTS.items():
            wanted = before.get(name) or (default if self._fixed_ports else 0)
            chosen[name] = _free_port(wanted, taken=set(chosen.values()))
        self.__dict__.pop("ports", None)
        self.__dict__.pop("programs", None)
        urls = {n: f"http://127.0.0.1:{p}" for n, p in chosen.items()}
        body = {"state_dir": str(self.state), "ports": chosen, "urls": urls}
        self._write_private("stack.json", json.dumps(body, indent=2))

    def _secrets(self) -> dict[str, str]:
        path = self.state / "secrets.json"
        if not path.exists():
            names = ("service_key", "signing_key", "broker", "supervisor")
            fresh = {name: secrets.token_urlsafe(32) for name in names}
            self._write_private("secrets.json", json.dumps(fresh))
        stored: dict[str, str] = json.loads(path.read_text())
        return stored

    def _ensure_api_key(self) -> None:
        private = self._secrets()
        if "api_key" not in private:
            key = self._run("-m", "gateway.app.keys", "create", "--name=local", "--role=admin")
            self._write_private("secrets.json", json.dumps({**private, "api_key": key.split()[-1]}))

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            msg = f"`{' '.join(arguments)}` failed:\n{done.stdout}{done.stderr}"
            raise BackendUnavailable(msg)
        return done.stdout

    def _write_private(self, name: str, text: str) -> None:
        path = self.state / name
        partial = path.with_name(name + ".part")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        partial.replace(path)

    def _valkey_config(self) -> str:
        folder = self.state / "valkey"
        folder.mkdir(exist_ok=True)
        return (
            f"bind 127.0.0.1\nport {self.ports['valkey']}\n"
            f"requirepass {self._secrets()['broker']}\n"
            f'dir "{folder}"\nappendonly yes\nsave ""\n'
        )

    def _supervisor_config(self) -> str:
        private = self._secrets()
        head = (
            f"[supervisord]\nnodaemon=true\nlogfile={self.state}/logs/supervisord.txt\n"
            f"pidfile={self.state}/supervisord.pid\nsilent=true\nchildlogdir={self.state}/logs\n"
            f"[inet_http_server]\nport=127.0.0.1:{self.ports['supervisor']}\n"
            f"username=fovea\npassword={private['supervisor']}\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        )
        # One group: supervisord stops groups one after the other, a group's members at once.
        group = f"[group:fovea]\nprograms={','.join(p.name for p in self.programs)}\n"
        return head + group + "".join(self._program_config(p) for p in self.programs)

    def _program_config(self, program: Program) -> str:
        environment = ",".join(f'{k}="{v}"' for k, v in program.environment.items())
        command = " ".join(f'"{part}"' for part in program.command)
        return (
            f"[program:{program.name}]\ncommand={command}\ndirectory={ROOT}\n"
            f"environment={environment}\nautorestart=true\nstartsecs=2\nstartretries=30\n"
            f"stopasgroup=true\nkillasgroup=true\nstopwaitsecs={STOP_S}\n"
            f"redirect_stderr=true\nstdout_logfile={self.state}/logs/{program.name}.log\n"
            "stdout_logfile_maxbytes=20MB\nstdout_logfile_backups=1\n"
        )

    def _supervisor(self) -> ServerProxy:
        password = self._secrets()["supervisor"]
        return ServerProxy(f"http://fovea:{password}@127.0.0.1:{self.ports['supervisor']}/RPC2")

    def _health_of(
        self, program: Program, info: object, problem: str, http: httpx2.Client
    ) -> Health:
        if not isinstance(info, dict):
            return Health(program.name, "DOWN", 0, program.url, ready=False, detail=problem)
        ready, detail = _probe(program, http)
        state = str(info["statename"])
        ready = ready and state in {"RUNNING", "STARTING"}
        return Health(program.name, state, int(info["pid"]), program.url, ready, detail)


def _is_supervisor(process: psutil.Process) -> bool:
    try:
        return "supervisor.supervisord" in process.cmdline()
    except psutil.Error:
        return False


def stop_on_sigterm() -> None:
    """Make SIGTERM end this process like Ctrl-C, so that it stops what it started."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def _probe(program: Program, http: httpx2.Client) -> tuple[bool, str]:
    if not program.ready_path:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", program.port)) == 0, ""
    try:
        response = http.get(program.url + program.ready_path)
    except httpx2.TransportError as exc:
        return False, type(exc).__name__
    if response.is_success:
        return True, "ok"
    return False, response.text[:300]


def _free_port(wanted: int, taken: set[int]) -> int:
    for port in (wanted, 0, 0, 0, 0, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found = int(probe.getsockname()[1])
            if found not in taken:
                return found
    msg = "no free port on 127.0.0.1"
    raise BackendUnavailable(msg)


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0
