"""Copies of registered models on this machine, so that serving does not need the registry."""

import fcntl
import shutil
import uuid
from datetime import datetime
from pathlib import Path

import structlog

from inference_service.app.core.ports import Registry
from shared.detector.info import (
    CorruptPackage,
    PackageInfo,
    checked_graph,
    read_any,
)
from shared.errors import BackendUnavailable, UpstreamFailed
from shared.files import file_sha256
from shared.models.geometry import Frozen
from shared.models.registry import EngineChoice

log = structlog.stdlib.get_logger()

CURRENT = "current.json"


class Current(Frozen):
    """Which version serves a project, and its calibration as it was written."""

    version: int
    calibration: str | None
    since: datetime


class LocalModels:
    """Packages under `folder/{project}/v{version}`, and `current.json` beside them."""

    def __init__(self, registry: Registry, folder: Path) -> None:
        """Keep copies of the registry's models under `folder`."""
        self._registry = registry
        self._folder = folder

    def fetch(self, project: str, version: int) -> Path:
        """Return the folder of a version's package, downloaded if it is not here yet.

        Raises:
            UnknownModel: the project has no such version.
            BackendUnavailable: the registry does not answer.
        """
        target = self.path(project, version)
        # A copy of an earlier registry's model of this number is another model.
        wanted = self._registry.get(project, version).weights_sha256
        if self._holds(target, wanted):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        # Workers that share a folder are all sent for a new version at the same moment.
        with (target.parent / f".{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._holds(target, wanted):
                self._download(project, version, target)
        return target

    def _download(self, project: str, version: int, target: Path) -> None:
        temporary = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
        temporary.mkdir()
        try:
            package = self._registry.download(project, version, temporary)
            shutil.rmtree(target, ignore_errors=True)
            package.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def tell_engine(self, project: str, version: int, choice: EngineChoice) -> None:
        """Tell the registry which engine computes a version here; people read it, nothing else."""
        try:
            self._registry.log_engine(project, version, choice)
        except (BackendUnavailable, UpstreamFailed) as exc:
            log.warning("engine.not_told", project=project, version=version, reason=str(exc))

    def path(self, project: str, version: int) -> Path:
        """Return where a version's package lies, or would lie."""
        return self._folder / project / f"v{version}"

    def current(self, project: str) -> Current | None:
        """Return what served this project last on this machine."""
        path = self._folder / project / CURRENT
        if not path.is_file():
            return None
        return Current.model_validate_json(path.read_bytes())

    def set_current(self, project: str, current: Current) -> None:
        """Remember what serves this project."""
        path = self._folder / project / CURRENT
        temporary = path.with_suffix(f".{uuid.uuid4().hex}")
        temporary.write_text(current.model_dump_json())
        temporary.replace(path)

    def projects(self) -> list[str]:
        """Return the projects that were served on this machine."""
        return sorted(p.parent.name for p in self._folder.glob(f"*/{CURRENT}"))

    @staticmethod
    def _holds(folder: Path, sha256: str) -> bool:
        """Tell whether a folder has the package with these weights, undamaged."""
        try:
            info = read_any(folder)
            told = info.weights_sha256
            if isinstance(info, PackageInfo) and info.graph_sha256 is not None:
                checked_graph(folder, info)
            return told == (sha256 or told) and file_sha256(folder / info.weights_file) == told
        except (CorruptPackage, OSError):
            return False
