"""Copies of registered models on this machine, so that serving does not need the registry."""

import shutil
import uuid
from datetime import datetime
from pathlib import Path

from inference_service.app.core.ports import Registry
from shared.models.geometry import Frozen

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
        if self._holds(target, self._registry.get(project, version).weights_sha256):
            return target
        temporary = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
        temporary.mkdir(parents=True)
        try:
            package = self._registry.download(project, version, temporary)
            shutil.rmtree(target, ignore_errors=True)
            shutil.move(package, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return target

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
        from shared.detector.package import WEIGHTS_FILE, CorruptPackage, file_sha256, read_info

        try:
            told = read_info(folder).weights_sha256
            return told == (sha256 or told) and file_sha256(folder / WEIGHTS_FILE) == told
        except (CorruptPackage, OSError):
            return False
