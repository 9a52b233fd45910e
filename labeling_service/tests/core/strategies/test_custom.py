"""Strategies of others, by the example of the documentation, found as an installed package is."""

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labeling_service.app.core.strategies.custom import GROUP
from labeling_service.app.core.strategies.needs import Needs, needs_of
from labeling_service.app.models.errors import UnknownStrategy
from labeling_service.tests.core.strategies.support import box, choose, ids, image
from shared.models.strategies import parse_strategy
from shared.predictions import ScoredImage

EXAMPLE = Path(__file__).resolve().parents[4] / "docs" / "examples" / "small_objects"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example as an installer leaves it: its module, and beside it its entry points."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    register(tmp_path, project["name"], project["entry-points"][GROUP])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLE)


def register(site: Path, package: str, entry_points: dict[str, str]) -> None:
    info = site / f"{package.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: {package}\nVersion: 0.1.0\n")
    lines = [f"{name} = {target}" for name, target in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]))


PLAIN = """
class Brightest:
    needs_model = False

    def summarise(self, image):
        return [image.brightness]

    def order(self, pool, n, seed):
        yield from sorted(
            ((row, value, "bright") for row, [value] in enumerate(pool.summaries)),
            key=lambda choice: -choice[1],
        )


class Unsure(Brightest):
    def order(self, pool, n, seed):
        yield 0, float("nan"), "unknown"


class Lost(Brightest):
    def order(self, pool, n, seed):
        yield 7, 1.0, "elsewhere"


def keyless(**params):
    return {}["gpu"]
"""


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strategies that import nothing of the service."""
    (tmp_path / "plain_strategies.py").write_text(PLAIN)
    (tmp_path / "broken_strategies.py").write_text("import a_module_that_nobody_has\n")
    targets = {
        "brightest": "plain_strategies:Brightest",
        "unsure": "plain_strategies:Unsure",
        "lost": "plain_strategies:Lost",
        "keyless": "plain_strategies:keyless",
        "renamed": "plain_strategies:Darkest",
        "broken": "broken_strategies:Broken",
    }
    register(tmp_path, "plain-strategies", targets)
    monkeypatch.syspath_prepend(tmp_path)


def sized(image_id: str, *sides: float) -> ScoredImage:
    xyxy = np.array([[0.5, 0.5, 0.5 + side, 0.5 + side] for side in sides], np.float32)
    return replace(image(image_id, *[box(0.9)] * len(sides)), xyxy=xyxy.reshape(-1, 4))


@pytest.mark.usefixtures("installed")
def test_the_example_chooses_the_images_with_most_small_objects() -> None:
    images = [sized("large", 0.4, 0.4, 0.4), sized("small", 0.05, 0.05), sized("both", 0.4, 0.05)]
    chosen = choose("custom:small_objects", images, 3)
    assert ids(chosen) == ["small", "both", "large"]
    assert chosen[0].value == 2.0
    assert chosen[0].reason == "2 boxes smaller than 1.00% of the image"


@pytest.mark.usefixtures("installed")
def test_the_example_takes_its_parameters() -> None:
    images = [sized("large", 0.4, 0.4, 0.4), sized("small", 0.05, 0.05)]
    assert ids(choose("custom:small_objects:below=0.5", images, 2)) == ["large", "small"]


@pytest.mark.usefixtures("installed")
def test_the_example_is_a_part_of_a_mix_like_any_other() -> None:
    images = [sized(f"{n}", *[0.05] * n) for n in range(10)]
    chosen = choose("0.5 custom:small_objects + 0.5 random", images, 4)
    assert ids(chosen)[0] == "9"
    assert len(set(ids(chosen))) == 4


@pytest.mark.usefixtures("installed")
def test_a_strategy_of_ones_own_says_what_it_needs() -> None:
    assert needs_of(parse_strategy("custom:small_objects")) == Needs(embeddings=True)
    mix = needs_of(parse_strategy("0.5 custom:small_objects + 0.5 coreset"))
    assert mix == Needs(labelled=True, embeddings=True)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("params", "said"), [("above=3", "unexpected keyword"), ("below=2", "not 2")]
)
def test_parameters_that_it_does_not_take_are_named(params: str, said: str) -> None:
    with pytest.raises(UnknownStrategy, match=f"'small_objects' cannot be made with .*{said}"):
        needs_of(parse_strategy(f"custom:small_objects:{params}"))


@pytest.mark.usefixtures("plain")
def test_a_strategy_may_answer_in_lists_and_tuples_and_do_without_a_model() -> None:
    images = [replace(image(f"{n}"), brightness=n % 3 / 4) for n in range(4)]
    chosen = choose("custom:brightest", images, 2)
    assert [(c.image_id, c.value, c.reason) for c in chosen] == [
        ("2", 0.5, "bright"),
        ("1", 0.25, "bright"),
    ]
    assert not needs_of(parse_strategy("custom:brightest")).model


@pytest.mark.usefixtures("plain")
def test_a_value_that_is_not_finite_is_an_error_that_names_the_strategy() -> None:
    with pytest.raises(ValueError, match="strategy 'unsure' gives row 0 the value nan"):
        choose("custom:unsure", [image("a")], 1)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("text", ["custom:lost", "0.5 custom:lost + 0.5 random"])
def test_a_row_that_is_not_in_the_pool_is_an_error_that_names_the_strategy(text: str) -> None:
    with pytest.raises(ValueError, match="strategy 'lost' gives row 7 of a pool of 1"):
        choose(text, [image("a")], 1)


@pytest.mark.usefixtures("plain")
def test_a_strategy_that_is_misspelt_is_refused_with_the_installed_ones() -> None:
    known = "brightest, broken, keyless, lost, renamed, unsure"
    with pytest.raises(UnknownStrategy, match=rf"no strategy 'brigthest' .*: {known}\)"):
        needs_of(parse_strategy("custom:brigthest"))


def test_a_strategy_that_is_not_installed_is_refused_with_those_that_are() -> None:
    with pytest.raises(UnknownStrategy, match=r"no strategy 'mine' is installed .*: none\)") as e:
        needs_of(parse_strategy("custom:mine"))
    assert e.value.status == 400


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken", "cannot be imported: ModuleNotFoundError: .*'a_module_that_nobody_has'"),
        ("renamed", "cannot be imported: AttributeError: .*'Darkest'"),
        ("keyless", r"cannot be made with the parameters {'n': 1}: KeyError: 'gpu'"),
    ],
)
def test_a_strategy_that_cannot_be_made_is_refused_with_its_error(name: str, said: str) -> None:
    with pytest.raises(UnknownStrategy, match=f"strategy '{name}' {said}"):
        needs_of(parse_strategy(f"custom:{name}:n=1"))
