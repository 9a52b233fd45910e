from typing import TYPE_CHECKING

import pytest

from calibration_service.app.services.promotion import (
    NoPreviousModel,
    promote,
    roll_back,
    serving_aliases,
)
from calibration_service.tests.conftest import AddModel
from shared.errors import NotFound

if TYPE_CHECKING:
    from shared.registry import ModelRegistry


def _aliases(registry: "ModelRegistry", project: str) -> tuple[int | None, int | None]:
    view = serving_aliases(registry, project)
    return view.production, view.previous


def test_a_project_without_models_serves_nothing(registry: "ModelRegistry", project: str) -> None:
    assert _aliases(registry, project) == (None, None)


def test_promotion_remembers_the_version_before(
    registry: "ModelRegistry", project: str, add_model: AddModel
) -> None:
    for expected in [(1, None), (2, 1), (3, 2)]:
        promote(registry, project, add_model(project))
        assert _aliases(registry, project) == expected


def test_promotion_twice_is_the_same_as_once(
    registry: "ModelRegistry", project: str, add_model: AddModel
) -> None:
    for version in (add_model(project), add_model(project)):
        promote(registry, project, version)
    promote(registry, project, 2)
    assert _aliases(registry, project) == (2, 1)


def test_a_promotion_that_was_cut_short_is_finished_by_the_next(
    registry: "ModelRegistry", project: str, add_model: AddModel
) -> None:
    add_model(project)
    add_model(project)
    promote(registry, project, 1)
    registry.set_alias(project, "previous", 1)  # and then the process was killed
    assert _aliases(registry, project) == (1, None)
    promote(registry, project, 2)
    assert _aliases(registry, project) == (2, 1)


def test_an_unknown_version_is_named_and_changes_nothing(
    registry: "ModelRegistry", project: str, add_model: AddModel
) -> None:
    promote(registry, project, add_model(project))
    with pytest.raises(NotFound, match=f"unknown model version: 7 of project '{project}'"):
        promote(registry, project, 7)
    assert _aliases(registry, project) == (1, None)


def test_a_rollback_serves_the_version_before_once(
    registry: "ModelRegistry", project: str, add_model: AddModel
) -> None:
    for version in (add_model(project), add_model(project)):
        promote(registry, project, version)
    assert roll_back(registry, project).production == 1
    assert _aliases(registry, project) == (1, None)
    with pytest.raises(NoPreviousModel, match=f"project '{project}' has no previous model"):
        roll_back(registry, project)
    assert _aliases(registry, project) == (1, None)
