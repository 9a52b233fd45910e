import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from shared.errors import BadRequest
from shared.models.strategies import (
    STRATEGY_NAMES,
    BadgeStrategy,
    ClassWeightedStrategy,
    CustomStrategy,
    ErrorBasedStrategy,
    MixPart,
    MixStrategy,
    RandomStrategy,
    Strategy,
    UncertaintyStrategy,
    describe,
    parse_strategy,
)

# Longer than what Python makes an integer of.
ENDLESS = "9" * 5000
ADAPTER: TypeAdapter[Strategy] = TypeAdapter(Strategy)

LINES: dict[str, Strategy] = {
    "random": RandomStrategy(),
    "badge": BadgeStrategy(),
    "entropy": UncertaintyStrategy(strategy="entropy", aggregation="max"),
    "entropy:sum": UncertaintyStrategy(strategy="entropy", aggregation="sum"),
    "bald:top3": UncertaintyStrategy(strategy="bald", aggregation="topk", k=3),
    "class_weighted_entropy": ClassWeightedStrategy(
        strategy="class_weighted_entropy", aggregation="sum", weight_by="rarity"
    ),
    "class_weighted_diverse:mean:both": ClassWeightedStrategy(
        strategy="class_weighted_diverse", aggregation="mean", weight_by="both"
    ),
    "error_based": ErrorBasedStrategy(aggregation="sum"),
    "custom:small_objects": CustomStrategy(name="small_objects"),
    "custom:mine:below=0.01:n=3:fast=true:by=area": CustomStrategy(
        name="mine", params={"below": 0.01, "n": 3, "fast": True, "by": "area"}
    ),
    "0.8 entropy:sum + 0.2 random": MixStrategy(
        parts=(
            MixPart(share=0.8, strategy=UncertaintyStrategy(strategy="entropy", aggregation="sum")),
            MixPart(share=0.2, strategy=RandomStrategy()),
        )
    ),
}


@pytest.mark.parametrize(("line", "strategy"), LINES.items())
def test_a_line_is_a_strategy_and_a_strategy_is_that_line(line: str, strategy: Strategy) -> None:
    assert parse_strategy(line) == strategy
    assert describe(strategy) == line


@pytest.mark.parametrize("name", STRATEGY_NAMES)
def test_every_name_alone_is_a_strategy_and_survives_json(name: str) -> None:
    strategy = parse_strategy(name)
    assert strategy.strategy == name
    assert describe(strategy) == name
    assert ADAPTER.validate_json(ADAPTER.dump_json(strategy)) == strategy


def test_space_does_not_matter() -> None:
    mix = parse_strategy("0.8 entropy + 0.2 random")
    assert parse_strategy("  0.8   entropy+0.2 random ") == mix
    assert parse_strategy(" random ") == RandomStrategy()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "unknown strategy: ''; known are random, entropy,"),
        ("magic", "unknown strategy: 'magic'; known are random, entropy,"),
        ("0.8 entropy + 0.2 magic", "unknown strategy: 'magic'; known are"),
        ("entropy:median", "unknown option of strategy 'entropy': 'median'"),
        ("random:sum", "unknown option of strategy 'random': 'sum'"),
        ("entropy:both", "unknown option of strategy 'entropy': 'both'"),
        ("class_weighted_entropy:class_weighted", "'class_weighted_entropy:class_weighted' is no"),
        ("entropy:top0", "'entropy:top0' is no strategy"),
        ("entropy + random", "'entropy' in 'entropy + random' is no part of a mix: it needs a"),
        ("0.8 entropy + random", "'random' in '0.8 entropy + random' is no part of a mix"),
        ("0.8 entropy + ", "'' in '0.8 entropy + ' is no part of a mix"),
        ("0.8 entropy + 0.3 random", "the shares of a mix must sum to 1, not 1.1"),
        ("1.2.3 entropy + 0.2 random", "share"),
        ("0.8 entropy", "parts"),
        ("entropy:sum:max", "strategy 'entropy' takes only one of 'sum' and 'max'"),
        ("bald:top3:sum", "strategy 'bald' takes only one of 'top3' and 'sum'"),
        ("class_weighted_entropy:both:mean:rarity", "takes only one of 'both' and 'rarity'"),
        pytest.param(f"entropy:top{ENDLESS}", "option of strategy 'entropy': 'top9999", id="top"),
        ("custom:mine:n=1:by=area:n=2", "n=2' gives the parameter 'n' twice"),
        ("custom:mine:n=-" + "9" * 19, "a whole number has at most 18 digits: -9999"),
        pytest.param(f"custom:mine:n={ENDLESS}", "has at most 18 digits: 9999", id="endless"),
        ("custom:mine:n=1e+5", "an exponent is written without a plus sign: 1e5"),
        ("custom", "is no strategy: name"),
        ("custom:mine:fast", "'custom:mine:fast' needs its parameters as name=value"),
        ("custom:Mine", "'custom:Mine' is no strategy: name"),
    ],
)
def test_a_line_that_means_nothing_is_refused_and_the_bad_part_is_named(
    line: str, said: str
) -> None:
    with pytest.raises(BadRequest) as error:
        parse_strategy(line)
    assert said in str(error.value)


@pytest.mark.parametrize("number", [10**18, -(10**18), 10**5000], ids=["high", "low", "endless"])
def test_an_integer_that_could_not_be_written_is_refused(number: int) -> None:
    with pytest.raises(ValidationError, match="a whole number has at most 18 digits"):
        CustomStrategy(name="mine", params={"n": number})
    longest = CustomStrategy(name="mine", params={"n": 1 - 10**18})
    assert parse_strategy(describe(longest)) == longest


def test_topk_needs_a_k_and_nothing_else_has_one() -> None:
    with pytest.raises(ValidationError, match="`topk` needs it: topk, k=None"):
        UncertaintyStrategy(strategy="bald", aggregation="topk")
    with pytest.raises(ValidationError, match="`k` belongs to `topk`"):
        UncertaintyStrategy(strategy="bald", aggregation="sum", k=3)


singles = st.one_of(
    st.sampled_from(STRATEGY_NAMES).map(parse_strategy),
    st.builds(
        UncertaintyStrategy,
        strategy=st.sampled_from(["entropy", "bald", "localisation"]),
        aggregation=st.just("topk"),
        k=st.integers(1, 1000),
    ),
    st.builds(
        CustomStrategy,
        name=st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True),
        params=st.dictionaries(
            st.from_regex(r"[a-z_][a-z0-9_]{0,9}", fullmatch=True),
            st.booleans()
            | st.integers(-(10**6), 10**6)
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,9}", fullmatch=True).filter(
                lambda word: word not in {"true", "false"}
            ),
            max_size=3,
        ),
    ),
)


@settings(max_examples=200)
@given(strategy=singles, other=singles, share=st.floats(0.01, 0.99))
def test_every_strategy_is_read_back_from_its_line(
    strategy: Strategy, other: Strategy, share: float
) -> None:
    assert parse_strategy(describe(strategy)) == strategy
    mix = MixStrategy.model_validate(
        {
            "parts": [
                {"share": share, "strategy": strategy},
                {"share": 1 - share, "strategy": other},
            ]
        }
    )
    assert parse_strategy(describe(mix)) == mix
