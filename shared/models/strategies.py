"""Selection strategies: what a round may ask for, and how it is written in one line."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self, TypeVar, get_args

from pydantic import Field, StringConstraints, ValidationError, model_validator

from shared.errors import BadRequest
from shared.models.geometry import Frozen
from shared.models.parameters import MAX_DIGITS, Parameter, ParameterName

ModelT = TypeVar("ModelT", bound=Frozen)

Measure = Literal[
    "entropy", "margin", "bald", "certainty", "variance", "localisation", "inconsistency"
]
Aggregation = Literal["max", "mean", "sum", "topk", "class_weighted"]
Weighting = Literal["rarity", "difficulty", "both"]


class BoxAggregation(Frozen):
    """From the values of an image's boxes to the value of the image; without boxes it is 0."""

    aggregation: Aggregation = Field(
        default="max",
        description="`topk` sums the `k` largest; `class_weighted` sums all, each times the "
        "weight of its class.",
    )
    k: int | None = Field(default=None, ge=1, le=1000, description="Of `topk`.")

    @model_validator(mode="after")
    def _k_of_topk(self) -> Self:
        if (self.aggregation == "topk") != (self.k is not None):
            msg = f"`k` belongs to `topk`, and `topk` needs it: {self.aggregation}, k={self.k}"
            raise ValueError(msg)
        return self


class RandomStrategy(Frozen):
    """Uniform choice: the baseline that everything has to beat."""

    strategy: Literal["random"] = "random"


class UncertaintyStrategy(BoxAggregation):
    """The images whose boxes the model is least sure about, by one measure."""

    strategy: Measure


class CoreSetStrategy(Frozen):
    """k-center greedy on embeddings: images far from everything labelled (arXiv:1708.00489)."""

    strategy: Literal["coreset"] = "coreset"


class KMeansStrategy(Frozen):
    """The image nearest to each of k centroids of the embeddings; needs no trained model."""

    strategy: Literal["kmeans"] = "kmeans"


class TypiClustStrategy(Frozen):
    """The most typical image of each uncovered cluster; needs no model (arXiv:2202.02794)."""

    strategy: Literal["typiclust"] = "typiclust"


class BadgeStrategy(Frozen):
    """k-means++ on embeddings scaled by the loss gradient, as BADGE does (arXiv:1906.03671)."""

    strategy: Literal["badge"] = "badge"


class ClassBalancedStrategy(Frozen):
    """The images that are expected to even out the numbers of labels of the classes."""

    strategy: Literal["class_balanced"] = "class_balanced"


class ClassWeightedStrategy(BoxAggregation):
    """Entropy of boxes, of rare or difficult classes the more; `diverse` then spreads the batch."""

    strategy: Literal["class_weighted_entropy", "class_weighted_diverse"]
    aggregation: Literal["max", "mean", "sum", "topk"] = "sum"
    weight_by: Weighting = "rarity"


class ErrorBasedStrategy(BoxAggregation):
    """The images whose boxes are expected to be wrong, in class and in place together."""

    strategy: Literal["error_based"] = "error_based"
    aggregation: Aggregation = "sum"


class CustomStrategy(Frozen):
    """A strategy of one's own, registered by the entry point `name` of `fovea.strategies`."""

    strategy: Literal["custom"] = "custom"
    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$", max_length=50)]
    params: dict[ParameterName, Parameter] = Field(default={}, description="Keyword arguments.")


SingleStrategy = Annotated[
    RandomStrategy
    | UncertaintyStrategy
    | CoreSetStrategy
    | KMeansStrategy
    | TypiClustStrategy
    | BadgeStrategy
    | ClassBalancedStrategy
    | ClassWeightedStrategy
    | ErrorBasedStrategy
    | CustomStrategy,
    Field(discriminator="strategy"),
]


class MixPart(Frozen):
    """A strategy and its share of the batch."""

    share: float = Field(gt=0, lt=1)
    strategy: SingleStrategy


class MixStrategy(Frozen):
    """Several strategies side by side, each with a fixed share of every batch."""

    strategy: Literal["mix"] = "mix"
    parts: tuple[MixPart, ...] = Field(min_length=2, max_length=10)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = math.fsum(part.share for part in self.parts)
        if not math.isclose(total, 1.0, abs_tol=1e-6):
            msg = f"the shares of a mix must sum to 1, not {total:g}"
            raise ValueError(msg)
        return self


Strategy = Annotated[SingleStrategy | MixStrategy, Field(discriminator="strategy")]

_MODELS: dict[str, type[SingleStrategy]] = {
    name: model
    for model in (
        RandomStrategy,
        UncertaintyStrategy,
        CoreSetStrategy,
        KMeansStrategy,
        TypiClustStrategy,
        BadgeStrategy,
        ClassBalancedStrategy,
        ClassWeightedStrategy,
        ErrorBasedStrategy,
    )
    for name in get_args(model.model_fields["strategy"].annotation)
}
# What is known by its name alone.
STRATEGY_NAMES = tuple(_MODELS)
# Look at embeddings or at nothing, so that they can choose before any model is trained.
COLD_START = frozenset({"random", "coreset", "kmeans", "typiclust"})
# What people get who ask for none: before any model, and then (docs/benchmarks/selection.md).
FIRST_STRATEGY, USUAL_STRATEGY = "kmeans", "class_weighted_entropy"

_PART = re.compile(r"\s*([0-9.][0-9.eE-]*)\s+(\S+)\s*")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_TOP = re.compile(r"top([0-9]{1,18})")


def parse_strategy(text: str) -> Strategy:
    """Return the strategy that a line of text means.

    It is a name, `entropy`; a name with options, `entropy:sum`, `bald:top3`,
    `class_weighted_entropy:mean:both`; a plug-in, `custom:small_objects:below=0.01`; or a mix of
    such, `0.8 entropy:sum + 0.2 random`.

    Raises:
        BadRequest: a part means nothing; it is named, and so is what is known.
    """
    if "+" not in text and _PART.fullmatch(text) is None:
        return _single(text.strip())
    parts = [_part(part, text) for part in text.split("+")]
    return _checked(MixStrategy, {"parts": parts}, text)


def describe(strategy: Strategy) -> str:
    """Return the shortest text that `parse_strategy` reads as this strategy."""
    match strategy:
        case MixStrategy():
            return " + ".join(f"{part.share} {describe(part.strategy)}" for part in strategy.parts)
        case CustomStrategy():
            given = [f"{name}={_written(value)}" for name, value in strategy.params.items()]
            return ":".join(["custom", strategy.name, *given])
        case _:
            fields = strategy.model_dump(exclude_defaults=True, exclude={"strategy"})
            k = fields.pop("k", None)
            options = [f"top{k}" if value == "topk" else str(value) for value in fields.values()]
            return ":".join([strategy.strategy, *options])


def _part(part: str, text: str) -> MixPart:
    found = _PART.fullmatch(part)
    if found is None:
        msg = (
            f"{part.strip()!r} in {text!r} is no part of a mix: it needs a share and a strategy, "
            "as in '0.8 entropy + 0.2 random'"
        )
        if re.search(r"[0-9.][eE]\+[0-9]", text):
            msg += "; an exponent is written without a plus sign: 1e5"
        raise BadRequest(msg)
    return _checked(MixPart, {"share": found[1], "strategy": _single(found[2])}, text)


def _single(text: str) -> SingleStrategy:
    name, *options = text.split(":")
    if name == "custom":
        return _custom(options, text)
    model = _MODELS.get(name)
    if model is None:
        known = ", ".join(STRATEGY_NAMES)
        msg = (
            f"unknown strategy: {name!r}; known are {known}, custom:NAME, and mixes of them as in "
            "'0.8 entropy + 0.2 random'"
        )
        raise BadRequest(msg)
    given: dict[str, object] = {"strategy": name}
    said: dict[str, str] = {}
    for option in options:
        found = _option(option, name, model)
        for field in found.keys() & said.keys():
            msg = f"strategy {name!r} takes only one of {said[field]!r} and {option!r}"
            raise BadRequest(msg)
        said |= dict.fromkeys(found, option)
        given |= found
    return _checked(model, given, text)


def _option(option: str, name: str, model: type[SingleStrategy]) -> dict[str, object]:
    if top := _TOP.fullmatch(option):
        found: dict[str, object] = {"aggregation": "topk", "k": int(top[1])}
    elif option in get_args(Aggregation):
        found = {"aggregation": option}
    else:
        found = {"weight_by": option} if option in get_args(Weighting) else {}
    if not found or not found.keys() <= model.model_fields.keys():
        msg = f"unknown option of strategy {name!r}: {option!r}"
        raise BadRequest(msg)
    return found


def _custom(options: Sequence[str], text: str) -> CustomStrategy:
    name, *given = options or [""]
    pairs = [option.partition("=") for option in given]
    if any(not sign for _, sign, _ in pairs):
        msg = f"{text!r} needs its parameters as name=value: 'custom:NAME:below=0.5'"
        raise BadRequest(msg)
    params: dict[str, bool | int | float | str] = {}
    for key, _, value in pairs:
        if key in params:
            msg = f"{text!r} gives the parameter {key!r} twice"
            raise BadRequest(msg)
        params[key] = _read(value)
    return _checked(CustomStrategy, {"name": name, "params": params}, text)


def _read(word: str) -> bool | int | float | str:
    if word in {"true", "false"}:
        return word == "true"
    if _INTEGER.fullmatch(word):
        if len(word.lstrip("+-")) > MAX_DIGITS:
            msg = f"a whole number has at most {MAX_DIGITS} digits: {word[:20]}…"
            raise BadRequest(msg)
        return int(word)
    return float(word) if _NUMBER.fullmatch(word) else word


def _written(value: bool | int | float | str) -> str:
    # A plus sign would start the next part of a mix.
    return str(value).lower() if isinstance(value, bool) else str(value).replace("e+", "e")


def _checked(model: type[ModelT], given: Mapping[str, object], text: str) -> ModelT:
    try:
        return model.model_validate(given)
    except ValidationError as exc:
        problem = exc.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        msg = f"{text!r} is no strategy: {' '.join(filter(None, [place, problem['msg']]))}"
        raise BadRequest(msg) from exc
