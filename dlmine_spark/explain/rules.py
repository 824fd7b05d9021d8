"""A shallow tree as rules that people can read: what each asks for, in words and as it is applied. Plain Python.

Trees come as MLlib writes them (``toDebugString``), which is all that says where a tree splits through Spark Connect,
too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dlmine_spark.errors import DlmineError

_SPLIT = re.compile(r"^( *)(?:If|Else) \(feature (\d+) (<=|>) (\S+)\)$")
_LEAF = re.compile(r"^ *Predict: (\S+)$")


@dataclass(frozen=True, slots=True)
class Feature:
    """A number that a tree may ask for.

    Attributes:
        name: of the fact, as people know it.
        value: that it has where the number is 1, if the number says whether it has; None where it is the fact itself.
        low, high: extremes.
        is_whole: whether all values are whole numbers.
    """

    name: str
    value: str | None = None
    low: float = 0.0
    high: float = 1.0
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class Bound:
    """What a split asks of a feature: to be above a threshold, or not above it."""

    feature: int
    threshold: float
    is_above: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """A leaf: everything on the way to it, and what it says."""

    bounds: tuple[Bound, ...]
    told: float


def rules_of(tree: str) -> list[Rule]:
    """The leaves of a tree from left to right; every row meets the bounds of exactly one.

    Raises:
        DlmineError: MLlib writes trees otherwise than we know.
    """
    rules: list[Rule] = []
    way: list[tuple[int, Bound]] = []
    for line in tree.splitlines()[1:]:
        split, leaf = _SPLIT.match(line), _LEAF.match(line)
        if split:
            indent = len(split[1])
            # Whatever stands as far in as this line, or further, belongs to another branch.
            way = [one for one in way if one[0] < indent]
            way.append((indent, Bound(int(split[2]), float(split[4]), split[3] == ">")))
        elif leaf:
            rules.append(Rule(tuple(bound for _, bound in way), float(leaf[1])))
        elif line.strip():
            raise DlmineError(f"a tree of MLlib has a line that is not understood: {line.strip()!r}")
    return rules


def in_words(rule: Rule, features: Sequence[Feature]) -> tuple[str, ...]:
    """What a rule asks for, condition by condition, in the order in which the tree does.

    ``promo = 1``, ``weekday = Sunday``, ``weekday is not Sunday``, ``steps ahead at most 7``.
    """
    asked = list(dict.fromkeys(bound.feature for bound in rule.bounds))
    is_told = {features[at].name for at in asked if features[at].value is not None and _is_met(rule, at)}
    return tuple(text for at in asked for text in _condition(rule, at, features[at], is_told))


def _is_met(rule: Rule, feature: int) -> bool:
    return any(bound.is_above for bound in rule.bounds if bound.feature == feature)


def _condition(rule: Rule, at: int, feature: Feature, is_told: set[str]) -> Iterator[str]:
    above = [bound.threshold for bound in rule.bounds if bound.feature == at and bound.is_above]
    below = [bound.threshold for bound in rule.bounds if bound.feature == at and not bound.is_above]
    if feature.value is not None:
        if above:
            yield f"{feature.name} = {feature.value}"
        # A Sunday is no Saturday: that goes without saying.
        elif feature.name not in is_told:
            yield f"{feature.name} is not {feature.value}"
        return
    low = max(above, default=-math.inf)
    high = min(below, default=math.inf)
    if not feature.is_whole:
        if above and below:
            yield f"{feature.name} between {low:.3g} and {high:.3g}"
        else:
            yield f"{feature.name} above {low:.3g}" if above else f"{feature.name} at most {high:.3g}"
        return
    least = max(feature.low, math.floor(low) + 1 if above else -math.inf)
    most = min(feature.high, math.floor(high) if below else math.inf)
    if least == most:
        yield f"{feature.name} = {least:.0f}"
    elif above and below:
        yield f"{feature.name} from {least:.0f} to {most:.0f}"
    else:
        yield f"{feature.name} at least {least:.0f}" if above else f"{feature.name} at most {most:.0f}"
