"""From the columns a network reads back to the inputs people know: one promotion, not seven indicators of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from dlmine_spark import schemas as s
from dlmine_spark.config import ALL_SIGNALS

_ROLES = {
    s.KNOWN_FUTURE_PREFIX: "known_future",
    s.PAST_ONLY_PREFIX: "past_only",
    s.STATIC_PREFIX: "static",
    s.CATEGORY_PREFIX: "static",
}
MINED_ROLE = "mined"
_CALENDAR = "calendar"


@dataclass(frozen=True, slots=True)
class KnownInput:
    """An input under the name that the user's data or the suite gave it."""

    name: str
    role: str


def known_input(column: str, covariates: Iterable[str]) -> KnownInput | None:
    """The input that a column of the training panel stands for; None if it is no covariate's column.

    Args:
        column: e.g. ``kf_promo_kind_leaflet``, an indicator of one value of the covariate ``promo_kind``.
        covariates: names of the user's covariates and attributes.
    """
    prefix = next((prefix for prefix in s.FEATURE_PREFIXES if column.startswith(prefix)), None)
    if prefix is None:
        return None
    role, rest = _ROLES[prefix], column.removeprefix(prefix)
    if rest.startswith(s.MINED):
        signal = rest.removeprefix(s.MINED)
        return KnownInput(next((name for name in ALL_SIGNALS if signal.startswith(name)), signal), MINED_ROLE)
    if rest.startswith(f"{_CALENDAR}_"):
        return KnownInput(_CALENDAR, role)
    matching = [name for name in covariates if _belongs(rest, _slug(name))]
    # The longest: promo_kind_leaflet belongs to promo_kind and not to promo.
    # What no covariate of the user's explains is the suite's own, e.g. season_profile.
    return KnownInput(max(matching, key=len) if matching else rest.replace("_", " "), role)


def _belongs(column: str, covariate: str) -> bool:
    return column == covariate or column.startswith(f"{covariate}_")


def _slug(name: str) -> str:
    """A covariate's name as it stands in a column's."""
    return re.sub(r"\W+", "_", name.strip().lower())[:40].strip("_")
