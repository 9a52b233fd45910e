"""Simulations on SQLite and PostgreSQL: kept by name, the newest first."""

import pytest

from labeling_service.app.models.errors import UnknownSimulation
from labeling_service.app.services.simulations import Simulations
from labeling_service.tests.support import World
from shared.errors import NotFound
from shared.models.simulations import SimulationResults
from shared.simulate.statistics import summarise
from shared.tests.simulate.test_statistics import arms


@pytest.fixture
def simulations(world: World) -> Simulations:
    return Simulations(world.database, world.gateway)


@pytest.fixture(scope="module")
def results() -> SimulationResults:
    return summarise(arms(offset=0.1))


def test_without_any_the_list_is_empty(simulations: Simulations) -> None:
    assert simulations.list("digits") == []


def test_results_are_read_as_they_were_given(
    simulations: Simulations, results: SimulationResults
) -> None:
    put = simulations.put("digits", "replay", results)
    assert put.results == results
    assert simulations.get("digits", "replay") == put


def test_the_newest_comes_first_and_the_same_name_replaces(
    simulations: Simulations, results: SimulationResults
) -> None:
    simulations.put("digits", "a", results)
    simulations.put("digits", "b", results)
    other = summarise(arms(offset=-0.1))
    simulations.put("digits", "a", other)
    assert [(s.name, s.results) for s in simulations.list("digits")] == [
        ("a", other),
        ("b", results),
    ]


def test_unknown_names_are_not_found(simulations: Simulations, results: SimulationResults) -> None:
    with pytest.raises(UnknownSimulation, match="unknown simulation: 'x' of project 'digits'"):
        simulations.get("digits", "x")
    for call in (
        lambda: simulations.list("nope"),
        lambda: simulations.get("nope", "x"),
        lambda: simulations.put("nope", "x", results),
    ):
        with pytest.raises(NotFound, match="unknown project: 'nope'"):
            call()
