"""Numbers, dates and names as people read them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

import pandas as pd

MISSING = "–"

MODEL_NAMES = {
    "lstm": "LSTM",
    "lightgbm": "LightGBM",
    "arima": "ARIMA",
    "arima_intermittent": "ARIMA's Croston-type model",
    "arima_simple": "ARIMA's fallback: ARIMA(0, 1, 1)",
    "arima_smoothing": "ARIMA's fallback: exponential smoothing",
    "arima_naive": "ARIMA's fallback: seasonal naive",
    "seasonal_naive": "Seasonal naive",
    "year_ago_growth": "A year ago, with growth",
    "profile_median": "Median of alike days",
    "blend": "Blend of all",
}
SIGNAL_NAMES = {
    "segments": "segments",
    "rules": "the pull of rules",
    "arima": "ARIMA's forecasts",
    "sequences": "sequences of purchases",
    "activations": "baskets that activate rules",
    "all": "all mined signals",
}
ROLE_NAMES = {
    "target": "past values",
    "known_future": "known in advance",
    "past_only": "known afterwards",
    "static": "attribute of the series",
    "mined": "mined signal",
    "arima": "ARIMA's forecast",
}


def is_missing(value: Any) -> bool:
    """None, NaN or NaT."""
    return value is None or value != value


def count(value: Any) -> str:
    """A whole number with thousands separated: ``1,234``."""
    return MISSING if is_missing(value) else f"{round(float(value)):,}"


def number(value: Any) -> str:
    """Three significant digits, never in powers of ten for everyday sizes: ``0.0123``, ``12.3``, ``1,230``."""
    if is_missing(value):
        return MISSING
    value = float(value)
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size < 1e-4:
        return f"{value:.1e}"
    digits = 2 - math.floor(math.log10(size))
    return f"{value:.{max(digits, 0)}f}"


def percent(value: Any) -> str:
    """A share as per cent with one decimal, more where it is small: ``8.1 %``, ``0.04 %``."""
    if is_missing(value):
        return MISSING
    value = 100 * float(value)
    if value == 0:
        return "0 %"
    decimals = 1 if abs(value) >= 1 else min(4, 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f} %"


def p_value(value: Any) -> str:
    """``0.03``, or ``< 0.001``."""
    return "< 0.001" if not is_missing(value) and value < 0.001 else number(value)


def seconds(value: Any) -> str:
    """A duration: ``0.4 s``, ``12 s``, ``3 min 05 s``."""
    if is_missing(value):
        return MISSING
    value = float(value)
    if value < 10:
        return f"{value:.1f} s"
    if value < 60:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s"


def day(value: Any) -> str:
    """A date as ``3 May 2024``."""
    if is_missing(value):
        return MISSING
    if isinstance(value, datetime | date):
        return f"{value.day} {value:%b %Y}"
    return str(value)


def moment(value: Any) -> str:
    """What ``ds`` holds: a day, a day with its time, or the number of a step."""
    return f"{day(value)} {value:%H:%M}" if isinstance(value, datetime) else day(value)


def iso(value: Any) -> str | int:
    """The same for machines, and for tables: ``2024-05-03``, ``2024-05-03 05:00``, 17."""
    if not isinstance(value, date | str):
        return int(value)
    stamp = pd.Timestamp(value)
    return stamp.date().isoformat() if stamp == stamp.normalize() else f"{stamp:%Y-%m-%d %H:%M}"


def plain(value: Any) -> str:
    """Text as it is."""
    return MISSING if is_missing(value) else str(value)


def items(value: Iterable[Any] | None) -> str:
    """An itemset: ``bread + butter``."""
    return MISSING if value is None else " + ".join(str(item) for item in value)


def sequence(value: Iterable[Iterable[Any]] | None) -> str:
    """Baskets one after another: ``bread + butter, then jam``."""
    return MISSING if value is None else ", then ".join(items(basket) for basket in value)


def model_name(model: str) -> str:
    """The name of a model for people."""
    return MODEL_NAMES.get(model, model)


def signal_name(signal: str) -> str:
    """A mined signal for people, within a sentence."""
    return SIGNAL_NAMES.get(signal, signal)


def the_model(model: str) -> str:
    """The name of a model within a sentence: ``the LSTM``, ``seasonal naive``."""
    within = {
        "lstm": "the LSTM",
        "blend": "the blend of all",
        "seasonal_naive": "seasonal naive",
        "year_ago_growth": "a year ago with growth",
        "profile_median": "the median of alike days",
    }
    return within.get(model, model_name(model))


def sentence_case(text: str) -> str:
    """The text with a capital at its start."""
    return text[:1].upper() + text[1:]


def role_name(role: str) -> str:
    """The role of an input for people."""
    return ROLE_NAMES.get(role, role.replace("_", " "))


def plural(amount: int, noun: str) -> str:
    """``1 series``, ``2 days``: nouns that don't take an s are their own plural."""
    unchanged = noun.endswith("s")
    return f"{amount:,} {noun if amount == 1 or unchanged else noun + 's'}"


def enumeration(parts: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def shorten(value: Any, width: int = 28) -> str:
    """At most ``width`` characters, an ellipsis for the rest."""
    text = str(value)
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"
