from pathlib import Path
from typing import cast

from shared.client import GatewayClient
from shared.models.rounds import RoundCreate, RoundPlan, RoundView
from shared.models.strategies import RandomStrategy
from shared.simulate.options import SimulationOptions
from shared.simulate.replay import Replay
from shared.tests.simulate.test_plan import done


class Rounds:
    """Has one finished round, and counts those that are begun."""

    def __init__(self, found: RoundView) -> None:
        self.found = found
        self.n_begun = 0

    def rounds(self, _project: str) -> list[RoundView]:
        return [self.found]

    def create_round(self, _project: str, request: RoundCreate) -> RoundView:
        self.n_begun += 1
        plan = RoundPlan.model_validate(dict(request))
        return self.found.model_copy(update={"request": plan})


def test_a_round_that_an_earlier_run_finished_is_not_run_again(tmp_path: Path) -> None:
    asked = RoundCreate(strategy=RandomStrategy(), budget=6, seed=3, stop_after="training")
    plan = RoundPlan.model_validate(dict(asked))
    client = Rounds(done(RandomStrategy(), 6).model_copy(update={"request": plan}))
    options = SimulationOptions(data=tmp_path)
    replay = Replay(cast(GatewayClient, client), options, "0" * 64, print)
    assert replay._round("start-s3", asked) == client.found
    assert client.n_begun == 0
    other = asked.model_copy(update={"seed": 4})
    assert replay._round("start-s3", other).request.seed == 4
    assert client.n_begun == 1
