"""How the processes of the embedded stack do."""

import socket
from dataclasses import dataclass
from typing import Any

import httpx2

from shared.local.programs import Program


@dataclass(frozen=True)
class Health:
    """How one process does: the supervisor's word and the process's own."""

    name: str
    state: str
    pid: int
    url: str
    ready: bool
    detail: str


def health_of(
    program: Program, info: dict[str, Any] | None, problem: str, http: httpx2.Client
) -> Health:
    """Return how one process does.

    Args:
        program: the process.
        info: what the supervisor says of it, None where it says nothing.
        problem: why it says nothing.
        http: asks the process itself.
    """
    if info is None:
        return Health(program.name, "DOWN", 0, program.url, ready=False, detail=problem)
    ready, detail = _probe(program, http)
    state = str(info["statename"])
    ready = ready and state in {"RUNNING", "STARTING"}
    return Health(program.name, state, int(info["pid"]), program.url, ready, detail)


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
