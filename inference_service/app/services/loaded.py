"""The one model that a worker has in memory."""

from collections.abc import Callable
from dataclasses import dataclass

from inference_service.app.core.ports import Load
from inference_service.app.core.runtime import DetectorRuntime
from inference_service.app.services.local_models import LocalModels
from shared.detector.info import read_any


@dataclass
class LoadedModel:
    """Loads a version when it is asked for and keeps it: the next part is likely of it too."""

    models: LocalModels
    load: Load
    load_base: Callable[[], DetectorRuntime]
    _loaded: tuple[tuple[str, int | None, str], DetectorRuntime] | None = None

    def get(self, project: str, version: int | None) -> DetectorRuntime:
        """Return a version's detector; version None is the base model's.

        Raises:
            UnknownModel: the project has no such version.
            BackendUnavailable: the registry does not answer.
        """
        folder = None if version is None else self.models.fetch(project, version)
        # A registry that was made anew has other models under the same numbers.
        which = project, version, "" if folder is None else read_any(folder).weights_sha256
        if self._loaded is None or self._loaded[0] != which:
            # Never two at a time.
            self._loaded = None
            runtime = self.load_base() if folder is None else self.load(folder)
            if version is not None:
                self.models.tell_engine(project, version, runtime.engine)
            self._loaded = which, runtime
        return self._loaded[1]

    def forget(self) -> None:
        """Let go of it."""
        self._loaded = None
