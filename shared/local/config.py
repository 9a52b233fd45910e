"""What the embedded stack is told: ports, secrets, settings, and the files of its back ends."""

import json
import os
import secrets
import socket
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path

from shared.errors import BackendUnavailable
from shared.local.programs import Program, default_port, port_names, programs
from shared.settings import PREFIX, load_settings

ROOT = Path(__file__).resolve().parents[2]
STOP_S = 5
# Marks the processes of a stack, in their environment, by its state folder.
MEMBER = "FOVEA_STACK_MEMBER"


class StackConfig:
    """The configuration that a state folder holds; every file of it is for its owner's eyes."""

    def __init__(
        self,
        state: Path,
        *,
        fixed_ports: bool,
        extra: Mapping[str, str],
        without: Collection[str] = (),
    ) -> None:
        """Describe the configuration in `state`.

        Args:
            state: the state folder, absolute.
            fixed_ports: try the usual ports first; otherwise take free ones only.
            extra: `FOVEA_*` variables that differ from the embedded defaults.
            without: processes that are not started.
        """
        self.state = state
        self._without = frozenset(without)
        self._fixed_ports = fixed_ports
        self._extra = dict(extra)

    # -- read

    @cached_property
    def ports(self) -> dict[str, int]:
        """Return the port of every process, from `stack.json`.

        Raises:
            BackendUnavailable: no stack was ever started here.
        """
        try:
            stored = json.loads((self.state / "stack.json").read_text())
        except FileNotFoundError as exc:
            msg = f"no embedded stack in {self.state}: start one by `make local`"
            raise BackendUnavailable(msg) from exc
        return {name: int(port) for name, port in stored["ports"].items()}

    @cached_property
    def programs(self) -> list[Program]:
        """Return the processes of the stack."""
        return [p for p in programs(self.state, self.ports) if p.name not in self._without]

    def environment(self) -> dict[str, str]:
        """Return the environment of every process: the machine's, and this stack's settings."""
        threads = {"MALLOC_ARENA_MAX": "2", "PYTHONUNBUFFERED": "1", "DO_NOT_TRACK": "1"}
        member = {"PYTHONPATH": str(ROOT), MEMBER: str(self.state)}
        return {**os.environ, **threads, **member, **self.settings()}

    def settings(self) -> dict[str, str]:
        """Return the `FOVEA_*` variables of this stack."""
        ports, private = self.ports, self.secrets()
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

    def secrets(self) -> dict[str, str]:
        """Return the keys and passwords of this stack, made when first asked for."""
        path = self.state / "secrets.json"
        if not path.exists():
            names = ("service_key", "signing_key", "broker", "supervisor")
            fresh = {name: secrets.token_urlsafe(32) for name in names}
            self._write("secrets.json", json.dumps(fresh))
        stored: dict[str, str] = json.loads(path.read_text())
        return stored

    # -- write

    def choose_ports(self) -> None:
        """Write `stack.json`: the ports of the last start where they are free.

        Raises:
            BackendUnavailable: no port is free.
        """
        path = self.state / "stack.json"
        before = json.loads(path.read_text())["ports"] if path.exists() else {}
        chosen: dict[str, int] = {}
        names = f"{PREFIX}THREADS", f"{PREFIX}INFERENCE_WORKERS"
        given = {k: v for k, v in {**os.environ, **self._extra}.items() if k in names}
        for name in port_names(load_settings(given).n_inference_workers):
            wanted = before.get(name) or (default_port(name) if self._fixed_ports else 0)
            chosen[name] = _free_port(wanted, taken=set(chosen.values()))
        self.__dict__.pop("ports", None)
        self.__dict__.pop("programs", None)
        urls = {n: f"http://127.0.0.1:{p}" for n, p in chosen.items()}
        body = {"state_dir": str(self.state), "ports": chosen, "urls": urls}
        self._write("stack.json", json.dumps(body, indent=2))

    def keep_api_key(self, key: str) -> None:
        """Keep the administrator's key among the secrets."""
        self._write("secrets.json", json.dumps({**self.secrets(), "api_key": key}))

    def write_files(self) -> None:
        """Write the configuration of the queue and of the supervisor."""
        (self.state / "valkey").mkdir(exist_ok=True)
        self._write("valkey.conf", self._valkey())
        self._write("supervisord.conf", self._supervisor())

    def _write(self, name: str, text: str) -> None:
        path = self.state / name
        partial = path.with_name(name + ".part")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        partial.replace(path)

    def _valkey(self) -> str:
        # A process title is written over the environment, by which we know what is ours.
        return (
            f"bind 127.0.0.1\nport {self.ports['valkey']}\n"
            f"requirepass {self.secrets()['broker']}\n"
            f'dir "{self.state / "valkey"}"\nappendonly yes\nsave ""\n'
            "set-proc-title no\n"
        )

    def _supervisor(self) -> str:
        head = (
            f"[supervisord]\nnodaemon=true\nlogfile={self.state}/logs/supervisord.txt\n"
            f"pidfile={self.state}/supervisord.pid\nsilent=true\nchildlogdir={self.state}/logs\n"
            f"[inet_http_server]\nport=127.0.0.1:{self.ports['supervisor']}\n"
            f"username=fovea\npassword={self.secrets()['supervisor']}\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        )
        # One group: supervisord stops groups one after the other, a group's members at once.
        group = f"[group:fovea]\nprograms={','.join(p.name for p in self.programs)}\n"
        return head + group + "".join(self._program(p) for p in self.programs)

    def _program(self, program: Program) -> str:
        environment = ",".join(f'{k}="{v}"' for k, v in program.environment.items())
        command = " ".join(f'"{part}"' for part in program.command)
        return (
            f"[program:{program.name}]\ncommand={command}\ndirectory={ROOT}\n"
            f"environment={environment}\nautorestart=true\nstartsecs=2\nstartretries=30\n"
            f"stopasgroup=true\nkillasgroup=true\nstopwaitsecs={STOP_S}\n"
            f"redirect_stderr=true\nstdout_logfile={self.state}/logs/{program.name}.log\n"
            "stdout_logfile_maxbytes=20MB\nstdout_logfile_backups=1\n"
        )


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
