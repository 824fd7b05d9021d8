"""Which series are worth a chart when the reader named none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def choose_series(wape: Mapping[str, float], size: Mapping[str, float], limit: int) -> list[tuple[str, str]]:
    """A choice that shows how good and how bad the forecast can be.

    Args:
        wape: error of each series; series without one are left out while others have one.
        size: sum of the values of each series.
        limit: series at most.

    Returns:
        Series and why each was chosen: the largest, the median, the worst and the best by error, then evenly between;
        the largest first, the others from best to worst. Ties go by name.
    """
    ranked = sorted(wape, key=lambda name: (wape[name], name))
    largest = sorted(size, key=lambda name: (-size[name], name))
    if not ranked:
        return [(name, "One of the largest series") for name in largest[:limit]]
    reasons: dict[str, str] = {}
    if largest:
        reasons[largest[0]] = "The largest series"
    middle = (len(ranked) - 1) // 2
    for position, why in (
        (middle, "The median series by WAPE"),
        (len(ranked) - 1, "The series forecast worst"),
        (0, "The series forecast best"),
    ):
        reasons.setdefault(ranked[position], why)
    for position in _evenly(len(ranked), limit):
        share = position / max(len(ranked) - 1, 1)
        reasons.setdefault(ranked[position], f"Forecast better than {1 - share:.0%} of the series")
    chosen = list(reasons)[:limit]
    chosen.sort(key=lambda name: (reasons[name] != "The largest series", wape.get(name, 0.0), name))
    return [(name, reasons[name]) for name in chosen]


def _evenly(length: int, count: int) -> Sequence[int]:
    """``count`` positions from the first to the last of ``length``, both among them."""
    if count < 2:
        return []
    return [round(step * (length - 1) / (count - 1)) for step in range(count)]
