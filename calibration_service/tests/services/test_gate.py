from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from calibration_service.app.services.evidence import EvidenceReader, NotScored
from calibration_service.app.services.gate import Gate
from calibration_service.app.services.promotion import promote, serving_aliases
from calibration_service.tests.conftest import AddModel
from calibration_service.tests.synthetic import LEFT, NOWHERE, RIGHT, Seen, World, write
from shared.models.registry import GateCreate, GateVerdict
from shared.objects.port import ObjectStore

if TYPE_CHECKING:
    from shared.registry import ModelRegistry

CAT, DOG, WRONG = (LEFT, 0, 0.9), (RIGHT, 1, 0.9), (NOWHERE, 0, 0.3)
N = 40


def _unheard(fraction: float, message: str) -> None:
    del fraction, message


def _seen(n_cats: int, n_dogs: int, n: int = N) -> list[list[Seen]]:
    return [[*([CAT] if i < n_cats else [WRONG]), *([DOG] if i < n_dogs else [])] for i in range(n)]


@pytest.fixture
def gate(world: World, store: ObjectStore, registry: "ModelRegistry") -> Gate:
    world.label("gate", [[(LEFT, 0), (RIGHT, 1)]] * N)
    return Gate(EvidenceReader(store, world), registry)


class Arena:
    """Registers models and writes what they see in the gate images."""

    def __init__(self, gate: Gate, world: World, store: ObjectStore, add_model: AddModel) -> None:
        self.gate, self.world, self.store, self.add_model = gate, world, store, add_model

    def enter(self, seen: Sequence[Sequence[Seen]]) -> int:
        version = self.add_model(self.world.name)
        write(self.store, self.world.name, version, "gate", seen)
        return version

    def decide(self, version: int, *, ask: bool = True) -> GateVerdict:
        request = GateCreate(model_version=version, promote=ask)
        return self.gate.decide(self.world.name, request, _unheard)

    def aliases(self) -> tuple[int | None, int | None]:
        view = serving_aliases(self.gate.registry, self.world.name)
        return view.production, view.previous


@pytest.fixture
def arena(gate: Gate, world: World, store: ObjectStore, add_model: AddModel) -> Arena:
    return Arena(gate, world, store, add_model)


def test_the_first_model_is_promoted(arena: Arena) -> None:
    verdict = arena.decide(arena.enter(_seen(20, 20)))
    assert verdict.promoted
    assert (verdict.champion, verdict.champion_metrics) == (None, None)
    assert verdict.reasons == (
        "no model is in production yet; mAP50 of version 1 on 40 gate images is 0.495",
    )
    assert arena.aliases() == (1, None)


def test_a_better_challenger_is_promoted_with_numbers(arena: Arena) -> None:
    arena.decide(arena.enter(_seen(20, 20)))
    verdict = arena.decide(arena.enter(_seen(30, 30)))
    assert verdict.promoted
    assert verdict.champion == 1
    assert verdict.champion_metrics is not None
    assert verdict.challenger_metrics.map50 == pytest.approx(0.75, abs=0.01)
    assert verdict.champion_metrics.map50 == pytest.approx(0.5, abs=0.01)
    assert verdict.reasons[0].startswith(
        "mAP50 on 40 gate images is 0.745 for version 2 and 0.495 for version 1 in production: "
        "difference +0.250 (95 % interval +0."
    )
    assert verdict.reasons[1] == "no class fell by more than 0.10 for certain"
    assert arena.aliases() == (2, 1)


@pytest.mark.parametrize("n_found", [20, 10])
def test_a_challenger_that_is_equal_or_worse_stays_out(arena: Arena, n_found: int) -> None:
    arena.decide(arena.enter(_seen(20, 20)))
    verdict = arena.decide(arena.enter(_seen(n_found, n_found)))
    assert not verdict.promoted
    assert verdict.reasons[0].endswith("which is not higher")
    assert arena.aliases() == (1, None)


def test_a_challenger_that_loses_a_class_stays_out_though_its_mean_is_higher(arena: Arena) -> None:
    arena.decide(arena.enter(_seen(4, 30)))
    verdict = arena.decide(arena.enter(_seen(40, 15)))
    assert verdict.challenger_metrics.map50 > 0.6
    assert not verdict.promoted
    assert verdict.reasons[1].startswith("AP50 of class 'dog' (40 objects) fell: difference -0.3")
    assert arena.aliases() == (1, None)


def test_a_rare_class_cannot_stop_a_challenger(
    arena: Arena, world: World, store: ObjectStore
) -> None:
    world.items.clear()
    world.label("gate", [[(LEFT, 0), (RIGHT, 1)]] * 9 + [[(LEFT, 0)]] * 31)
    arena.decide(arena.enter(_seen(4, 9)))
    verdict = arena.decide(arena.enter(_seen(40, 5)))
    assert verdict.promoted
    assert verdict.challenger_metrics.per_class_map50["dog"] < 0.6


def test_a_gate_that_runs_again_after_its_promotion_says_and_does_the_same(arena: Arena) -> None:
    arena.decide(arena.enter(_seen(20, 20)))
    version = arena.enter(_seen(30, 30))
    first = arena.decide(version)
    assert arena.decide(version) == first
    assert arena.aliases() == (2, 1)


def test_without_being_asked_nothing_is_promoted(arena: Arena) -> None:
    verdict = arena.decide(arena.enter(_seen(20, 20)), ask=False)
    assert not verdict.promoted
    assert verdict.reasons[-1] == "passed, but a promotion was not asked for"
    assert arena.aliases() == (None, None)


def test_images_that_the_champion_never_saw_are_left_out_and_said_so(arena: Arena) -> None:
    arena.decide(arena.enter(_seen(20, 20)))
    arena.world.items.clear()
    arena.world.label("gate", [[(LEFT, 0), (RIGHT, 1)]] * (N + 5))
    verdict = arena.decide(arena.enter(_seen(30, 30, n=N + 5)))
    assert verdict.promoted
    assert verdict.challenger_metrics.n_images == N
    assert verdict.reasons[0] == "5 gate images are left out: version 1 has not seen them"


def test_a_model_that_was_not_scored_is_named(arena: Arena, add_model: AddModel) -> None:
    version = add_model(arena.world.name)
    with pytest.raises(NotScored, match="is not scored on 'gate' yet: 40 of 40 labelled"):
        arena.decide(version)
    promote(arena.gate.registry, arena.world.name, version)
    challenger = arena.enter(_seen(30, 30))
    with pytest.raises(NotScored, match=r"version 1 of .*, in production, is not scored") as told:
        arena.decide(challenger)
    assert str(told.value).endswith(": `fovea calibrate --model 1` scores it")


def test_labels_that_came_after_the_scoring_do_not_count_when_the_version_is_given(
    arena: Arena, world: World
) -> None:
    version = arena.enter(_seen(20, 20))
    world.close_version()
    world.label("gate", [[(LEFT, 0)]], first=N)
    with pytest.raises(NotScored, match=f"1 of {N + 1} labelled images lack it"):
        arena.decide(version)
    request = GateCreate(model_version=version, dataset_version=1)
    assert arena.gate.decide(world.name, request, _unheard).challenger_metrics.n_images == N
