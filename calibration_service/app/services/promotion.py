"""The one place where the serving aliases move: `production` and `previous`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import Conflict
from shared.models.registry import AliasView

if TYPE_CHECKING:
    from shared.registry import ModelRegistry


class NoPreviousModel(Conflict):
    """There is nothing to go back to."""


def serving_aliases(registry: ModelRegistry, project: str) -> AliasView:
    """Return where the serving aliases point."""
    aliases = registry.aliases(project)
    production, previous = aliases.get("production"), aliases.get("previous")
    # A promotion that was cut short leaves both on one version: that is nothing to go back to.
    return AliasView(
        project=project,
        production=production,
        previous=None if previous == production else previous,
    )


def promote(registry: ModelRegistry, project: str, version: int) -> AliasView:
    """Serve this version from now on, and remember the one before it.

    Doing it twice is the same as once, also when the first time was cut short: `previous` moves
    first, so until `production` follows, the old version is still the one in production.

    Raises:
        UnknownModel: the project has no such version.
    """
    registry.get(project, version)
    production = registry.aliases(project).get("production")
    if production != version:
        if production is not None:
            registry.set_alias(project, "previous", production)
        registry.set_alias(project, "production", version)
    return serving_aliases(registry, project)


def roll_back(registry: ModelRegistry, project: str) -> AliasView:
    """Serve the version before this one again; a second call has nothing to go back to.

    Raises:
        NoPreviousModel: no version was in production before.
    """
    previous = serving_aliases(registry, project).previous
    if previous is None:
        msg = f"project {project!r} has no previous model to go back to"
        raise NoPreviousModel(msg)
    registry.set_alias(project, "production", previous)
    registry.delete_alias(project, "previous")
    return serving_aliases(registry, project)
