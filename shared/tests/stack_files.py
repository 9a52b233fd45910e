"""The stack's files as data, for the tests that hold them together."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FILES = (
    "docker-compose.yml",
    "compose.common.yaml",
    "compose.gpu.yaml",
    "storage/compose.yml",
    "storage/minio.yml",
    "storage/seaweedfs.yml",
    "database/compose.yml",
    "monitoring/compose.yml",
)
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<rule>:[-?])(?P<rest>[^}]*))?\}")
_ENV_LINE = re.compile(r"^(?P<off># )?(?P<name>[A-Z][A-Z0-9_]+)=(?P<value>.*)$", re.MULTILINE)


class Variable(NamedTuple):
    """One `${NAME:-default}` of a compose file; without a default it is required."""

    name: str
    default: str | None


class EnvLine(NamedTuple):
    """One line of `.env.example`; what is commented out shows a default."""

    name: str
    value: str
    is_default: bool


def read_yaml(path: str) -> Any:
    """Return a file of the repository, with YAML anchors merged."""
    return yaml.safe_load((ROOT / path).read_text("utf-8"))


def compose_services() -> dict[str, dict[str, Any]]:
    """Return every service of the stack; of the S3 servers, the default one."""
    services: dict[str, dict[str, Any]] = {}
    files = ("docker-compose.yml", "database/compose.yml", "monitoring/compose.yml")
    for path in (*files, "storage/compose.yml", "storage/minio.yml"):
        for name, service in read_yaml(path)["services"].items():
            services[name] = services.get(name, {}) | service
    return services


def compose_variables() -> set[Variable]:
    """Return what the compose files take from `.env`."""
    found: set[Variable] = set()
    for path in COMPOSE_FILES:
        for match in _VARIABLE.finditer((ROOT / path).read_text("utf-8")):
            default = match["rest"] if match["rule"] == ":-" else None
            found.add(Variable(match["name"], default))
    return found


def env_example() -> list[EnvLine]:
    """Return the lines of `.env.example`."""
    text = (ROOT / ".env.example").read_text("utf-8")
    return [EnvLine(m["name"], m["value"], bool(m["off"])) for m in _ENV_LINE.finditer(text)]


def interpolate(value: str, variables: dict[str, str]) -> str:
    """Return `value` as compose would pass it on."""
    return _VARIABLE.sub(lambda m: variables.get(m["name"]) or m["rest"] or "", value)


def filled_env() -> dict[str, str]:
    """Return `.env.example` as somebody who follows it would have filled it in."""
    given = {line.name: line.value for line in env_example() if not line.is_default}
    return {name: value or "0123456789abcdef" * 4 for name, value in given.items()}
