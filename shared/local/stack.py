"""The embedded stack: every process of Fovea on this machine, under supervisord, without Docker."""

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import httpx2
import psutil

from shared.errors import BackendUnavailable, Conflict
from shared.local.config import MEMBER, ROOT, STOP_S, StackConfig
from shared.local.health import Health, health_of
from shared.local.lock import exclusive

__all__ = ["ROOT", "EmbeddedStack", "Health", "StackRunning", "stop_on_sigterm"]

# On a machine that is busy with other work some parts took four minutes.
READY_TIMEOUT_S = 300.0
# Of one part: what ends so often before it is ready will not be.
MAX_STARTS = 5


def _quiet(text: str) -> None:
    del text


class StackRunning(Conflict):
    """Another stack runs, or is being started, in this state folder."""


class EmbeddedStack:
    """Starts, watches and stops the processes; data stays in the folder for the next start."""

    def __init__(
        self,
        state_dir: Path,
        *,
        fixed_ports: bool = True,
        settings: Mapping[str, str] | None = None,
        without: Collection[str] = (),
    ) -> None:
        """Describe a stack in `state_dir`.

        Args:
            state_dir: where everything is kept.
            fixed_ports: try the usual ports first; otherwise take free ones only.
            settings: `FOVEA_*` variables that differ from the embedded defaults.
            without: names of processes that are not started.
        """
        self.state = state_dir.resolve()
        self.config = StackConfig(
            self.state, fixed_ports=fixed_ports, extra=settings or {}, without=without
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._refused = False

    # -- life

    def start(self, say: Callable[[str], None] = _quiet) -> None:
        """Start everything and wait until every part is ready.

        Raises:
            StackRunning: a stack of this folder runs already, or another process starts one.
            BackendUnavailable: a part does not become ready; it is named, with the end of its log.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        # It holds keys, images and labels.
        self.state.chmod(0o700)
        being_started = StackRunning(f"a stack is being started in {self.state} by another process")
        self._refused = True
        with exclusive(self.state / "start.lock", being_started):
            if self.is_running():
                msg = f"a stack runs already in {self.state} (pid {self.supervisor_pid()})"
                raise StackRunning(msg)
            self._refused = False
            self._start(say)

    def _start(self, say: Callable[[str], None]) -> None:
        # A supervisor that was killed leaves its children behind.
        self._end(self._members())
        (self.state / "logs").mkdir(exist_ok=True)
        self.config.choose_ports()
        say("applying migrations")
        self._run("-m", "shared.cli.main", "migrate")
        self._ensure_api_key()
        self.config.write_files()
        say(f"starting {len(self.config.programs)} processes")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-c", self.state / "supervisord.conf"],
            cwd=ROOT,
            env=self.config.environment(),
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
            BackendUnavailable: one does not in time, or ends again and again.
        """
        deadline = time.monotonic() + timeout_s
        said: set[str] = set()
        pids: dict[str, set[int]] = defaultdict(set)
        while True:
            health = self.health()
            for part in health:
                pids[part.name] |= {part.pid} - {0}
                if part.ready and part.name not in said:
                    said.add(part.name)
                    say(f"ready: {part.name} ({len(said)}/{len(health)})")
            waiting = [part for part in health if not part.ready]
            if not waiting:
                return
            lost = [p for p in waiting if p.state == "FATAL" or len(pids[p.name]) > MAX_STARTS]
            if lost or time.monotonic() > deadline:
                part = (lost or waiting)[0]
                ended, tail = len(pids[part.name]) - 1, self.log_tail(part.name)
                why = f"it ended {ended} times" if ended > 0 else f"{part.state}: {part.detail}"
                msg = f"{part.name} is not ready ({why}); its log ends:\n{tail}"
                raise BackendUnavailable(msg)
            time.sleep(0.3)

    def stop(self) -> None:
        """Stop every process; one that does not stop within 5 s is killed.

        After a refused start nothing is stopped: what runs is another's.
        """
        if self._refused:
            return
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

    @property
    def urls(self) -> dict[str, str]:
        """Return the address of everything that has pages or an API."""
        return {p.name: p.url for p in self.config.programs}

    def health(self) -> list[Health]:
        """Return how every process does."""
        try:
            infos = self._process_infos()
            problem = ""
        except (OSError, Fault) as exc:
            infos = {}
            problem = f"supervisor: {exc}"
        with httpx2.Client(timeout=3.0) as http:
            return [health_of(p, infos.get(p.name), problem, http) for p in self.config.programs]

    def pid(self, name: str) -> int:
        """Return the process id of one part, 0 when it is down."""
        try:
            return int(self._process_infos()[name]["pid"])
        except OSError:
            return 0

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

    @property
    def api_key(self) -> str:
        """Return the administrator's key of this stack."""
        return self.config.secrets()["api_key"]

    # -- parts

    def _ensure_api_key(self) -> None:
        # The one that is kept may be revoked, or the database a new one.
        key = self._run("-m", "gateway.app.keys", "ensure", "--name=local", "--role=admin")
        self.config.keep_api_key(key.split()[-1])

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.config.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            msg = f"`{' '.join(arguments)}` failed:\n{done.stdout}{done.stderr}"
            raise BackendUnavailable(msg)
        return done.stdout

    def _supervisor(self) -> ServerProxy:
        password = self.config.secrets()["supervisor"]
        return ServerProxy(
            f"http://fovea:{password}@127.0.0.1:{self.config.ports['supervisor']}/RPC2"
        )

    def _process_infos(self) -> dict[str, dict[str, Any]]:
        answer: Any = self._supervisor().supervisor.getAllProcessInfo()
        return {info["name"]: info for info in answer}


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


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0
