"""The page's charts as plain descriptions: frames in, dictionaries of lists, numbers and texts out, no drawing.

``assets/charts.js`` draws them as SVG. Colours are names; what they are in the light, in the dark and on paper is the
style sheet's business. Texts from data stay as they are: the script puts them into text nodes only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dlmine_spark import schemas as s
from dlmine_spark.report import text as t
from dlmine_spark.report.network import Layout, Network

Figure = dict[str, Any]
"""A chart's description: ``kind`` says how to draw it, the rest is what."""

INK, BLUE, ORANGE, GREY, GREEN, PURPLE, RED = "ink", "blue", "orange", "grey", "green", "purple", "red"

_ARIMA_OTHERS = ("arima_intermittent", "arima_simple", "arima_smoothing", "arima_naive")
_SIMPLE = ("seasonal_naive", "profile_median", "year_ago_growth")
MODEL_COLOURS = {
    "blend": PURPLE,
    "lstm": BLUE,
    "lightgbm": GREEN,
    "arima": ORANGE,
    **dict.fromkeys(_ARIMA_OTHERS, RED),
    **dict.fromkeys(_SIMPLE, GREY),
}
MODEL_DASHES = {
    "arima": "6 4",
    **dict.fromkeys(_ARIMA_OTHERS, "6 4"),
    "seasonal_naive": "2 3",
    "profile_median": "9 3 2 3",
    "year_ago_growth": "14 4",
}
_ROLE_COLOURS = {
    "target": INK,
    "known_future": BLUE,
    "past_only": PURPLE,
    "static": GREEN,
    "mined": ORANGE,
    "arima": ORANGE,
}
_FURTHER_COLOURS = (PURPLE, GREEN, RED)
_SEGMENT_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED, GREY)
_SEGMENT_SHAPES = ("circle", "square", "diamond", "triangle")
"""Shapes as well as colours: segments must differ for readers who see no colours, and beyond the sixth colour."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a chart of bars: its label, value, the value as text, a colour, and what the colour stands for."""

    label: str
    value: float
    shown: str
    colour: str = BLUE
    meaning: str = ""
    segment: str | None = None


def bars(values: Sequence[Bar], axis: str, *, percent: bool = False) -> Figure:
    """Horizontal bars, the first on top, each with its value beside it; a legend where colours have a meaning."""
    meanings = {bar.meaning: bar.colour for bar in values if bar.meaning}
    return {
        "kind": "rows",
        "labels": [bar.label for bar in values],
        "x": {"title": axis, "format": "percent" if percent else "number", "zero": True, "whole": not percent},
        "bars": [
            _tagged(
                {"row": row, "a": 0.0, "b": _finite(bar.value), "c": bar.colour, "tip": f"{bar.label}: {bar.shown}"},
                bar.segment,
            )
            for row, bar in enumerate(values)
        ],
        "texts": [bar.shown for bar in values],
        "legend": [_key(meaning, colour) for meaning, colour in meanings.items()],
    }


def row_fates(sources: pd.DataFrame) -> Figure:
    """What became of each source's rows, as shares that add up to one."""
    fates = (
        ("accepted", "accepted", BLUE),
        ("duplicates", "exact duplicates", GREY),
        ("superseded", "replaced by a newer row", PURPLE),
        ("quarantined", "quarantined", ORANGE),
    )
    parts: list[dict[str, Any]] = []
    names = [str(name) for name in sources["source"]]
    for row, record in enumerate(sources.to_dict("records")):
        total, start = max(float(record["rows_in"]), 1.0), 0.0
        for column, name, colour in fates:
            count = 0.0 if t.is_missing(record[column]) else float(record[column])
            if count:
                share = count / total
                tip = f"{names[row]}: {t.count(count)} {name} ({t.percent(share)})"
                parts.append({"row": row, "a": start, "b": start + share, "c": colour, "tip": tip})
                start += share
    used = {part["c"] for part in parts}
    return {
        "kind": "rows",
        "labels": names,
        "x": {"title": "share of the rows that came in", "format": "percent", "range": [0, 1]},
        "bars": parts,
        "legend": [_key(name, colour) for _, name, colour in fates if colour in used],
    }


def quality_over_runs(runs: pd.DataFrame) -> Figure:
    """Share of the rows of each source that was refused, by the time of the run.

    Args:
        runs: cleaned_at, source, rows_in, quarantined; one row per run and source.
    """
    lines: list[dict[str, Any]] = []
    for position, (source, rows) in enumerate(runs.groupby("source", sort=True)):
        ordered = rows.sort_values("cleaned_at")
        lines.append(
            {
                "name": str(source),
                "c": _SEGMENT_COLOURS[position % len(_SEGMENT_COLOURS)],
                "dash": ("", "6 4", "2 3")[position % 3],
                "marks": True,
                "x": [t.iso(moment) for moment in ordered["cleaned_at"]],
                "y": [
                    _finite(refused / rows_in) if rows_in else None
                    for refused, rows_in in zip(ordered["quarantined"], ordered["rows_in"], strict=True)
                ],
            }
        )
    return {
        "kind": "plane",
        "height": 260,
        "x": {"time": True},
        "y": {"title": "rows refused", "format": "percent", "zero": True},
        "lines": lines,
        "legend": [_key(line["name"], line["c"], line=True, dash=line["dash"]) for line in lines],
    }


def profile_heat(profiles: pd.DataFrame) -> Figure:
    """How far each segment's mean lies from the overall mean, by feature as they come, in standard deviations."""
    table = profiles.pivot_table(index="feature", columns="segment", values="z", aggfunc="first", sort=False)
    table = table[sorted(table.columns)]
    return _heat(
        [str(feature) for feature in table.index],
        [str(segment) for segment in table.columns],
        [[_finite(value) for value in row] for row in table.to_numpy().tolist()],
        "segment",
        "signed",
    )


def error_heat(errors: pd.DataFrame) -> Figure:
    """The WAPE by segment and part of the horizon, of one model.

    Args:
        errors: segment, steps, value; parts of the horizon in their order.
    """
    table = errors.pivot_table(index="segment", columns="steps", values="value", aggfunc="first", sort=False)
    return _heat(
        [f"segment {segment}" for segment in table.index],
        [str(steps) for steps in table.columns],
        [[_finite(value) for value in row] for row in table.to_numpy().tolist()],
        "steps ahead",
        "percent",
        segments=[str(segment) for segment in table.index],
    )


def rule_cloud(rules: pd.DataFrame) -> Figure:
    """Each rule by support and confidence, the stronger the higher its lift."""
    lifts = [float(value) for value in rules["lift"]]
    lowest, highest = min(lifts), max(lifts)
    span = math.log(highest / lowest) if lowest > 0 and highest > lowest else 0.0
    points = [
        {
            "x": _finite(support),
            "y": _finite(confidence),
            "c": BLUE,
            "o": round(0.15 + 0.8 * (math.log(lift / lowest) / span if span else 1.0), 2),
            "tip": f"{t.items(left)} → {t.items(right)}\n"
            f"support {t.percent(support)}, confidence {t.percent(confidence)}, lift {lift:.2f}",
        }
        for left, right, support, confidence, lift in zip(
            rules["antecedent"], rules["consequent"], rules["support"], rules["confidence"], lifts, strict=True
        )
    ]
    return {
        "kind": "plane",
        "height": 400,
        # Supports crowd near the threshold: a factor reads better than a difference.
        "x": {"title": "support (share of baskets, logarithmic)", "format": "percent", "log": True},
        "y": {"title": "confidence", "format": "percent", "zero": True},
        "points": points,
        "legend": [_key(f"lift from {lowest:.1f} (light) to {highest:.1f} (full)", BLUE, shape="circle")],
    }


def rule_network(network: Network) -> Figure:
    """Items as boxes, rules as arrows, laid out for a wide and for a narrow page."""

    def laid_out(layout: Layout) -> dict[str, Any]:
        return {"width": layout.width, "height": layout.height, "at": [list(box) for box in layout.boxes]}

    return {
        "kind": "network",
        "nodes": [{"label": node.label, "tip": node.name} for node in network.nodes],
        "edges": [
            {"a": edge.source, "b": edge.target, "arrow": edge.has_head, "w": edge.width, "tip": edge.tip}
            for edge in network.edges
        ],
        "wide": laid_out(network.wide),
        "narrow": laid_out(network.narrow),
    }


def cluster_map(entities: pd.DataFrame, centres: pd.DataFrame, *, by_segment: bool) -> Figure:
    """Each entity where it lies between the centres of the segments.

    Args:
        entities: entity_id, segment, x, y, is_outlier.
        centres: segment, x, y.
        by_segment: whether the filter by segment is about these segments.
    """
    points = [
        _tagged(
            {
                "x": _finite(row.x),
                "y": _finite(row.y),
                "c": segment_colour(row.segment),
                "shape": segment_shape(row.segment),
                "o": 0.6,
                "tip": f"{row.entity_id}: segment {row.segment}"
                + (", far from every centre" if row.is_outlier else ""),
            },
            str(row.segment) if by_segment else None,
            str(row.entity_id) if by_segment else None,
        )
        for row in entities.itertuples()
    ]
    return {
        "kind": "plane",
        "height": 420,
        "equal": True,
        "x": {"title": "where the segments differ most", "format": "number", "bare": True},
        "y": {
            "title": "second such direction" if len(centres) > 2 else "distance from the line between the centres",
            "format": "number",
            "bare": True,
        },
        "points": points,
        "labels": [
            {"x": _finite(row.x), "y": _finite(row.y), "text": str(row.segment)}
            for row in centres.itertuples()
        ],
        "legend": [
            _key(f"segment {segment}", segment_colour(segment), shape=segment_shape(segment))
            for segment in sorted(set(centres["segment"]))
        ],
    }  # fmt: skip


def accuracy_by_step(errors: pd.DataFrame, floor: float | None) -> Figure:
    """WAPE of each model by how many steps ahead it forecast."""
    lines: list[dict[str, Any]] = []
    for position, model in enumerate(in_order(errors[s.MODEL].unique())):
        rows = errors[errors[s.MODEL] == model].sort_values(s.H)
        lines.append(
            {
                "name": t.model_name(model),
                "c": _model_colour(model, position),
                "dash": MODEL_DASHES.get(model, ""),
                "marks": len(rows) <= 60,
                "x": [int(step) for step in rows[s.H]],
                "y": [_finite(value) for value in rows["value"]],
            }
        )
    return {
        "kind": "plane",
        "height": 320,
        "x": {"title": "steps ahead", "format": "number", "whole": True},
        "y": {"title": "WAPE", "format": "percent", "zero": True},
        "lines": lines,
        "hlines": [] if floor is None else [{"y": floor, "text": f"irreducible {t.percent(floor)}", "c": GREEN}],
        "legend": [_key(line["name"], line["c"], line=True, dash=line["dash"]) for line in lines],
    }


def accuracy_by_segment(errors: pd.DataFrame) -> Figure:
    """WAPE of each model in each segment, as dots on a line."""
    segments = sorted({str(segment) for segment in errors["segment"]}, key=lambda name: (len(name), name))
    dots: list[dict[str, Any]] = []
    models = in_order(errors[s.MODEL].unique())
    shapes = {model: _SEGMENT_SHAPES[position % 4] for position, model in enumerate(models)}
    for position, model in enumerate(models):
        values = {str(row.segment): row.value for row in errors[errors[s.MODEL] == model].itertuples()}
        for row, segment in enumerate(segments):
            value = _finite(values.get(segment))
            if value is not None:
                tip = f"segment {segment}, {t.model_name(model)}: {t.percent(value)}"
                mark = {"row": row, "x": value, "c": _model_colour(model, position), "tip": tip}
                dots.append(_tagged(mark | {"shape": shapes[model]}, segment))
    return {
        "kind": "rows",
        "labels": [f"segment {segment}" for segment in segments],
        "x": {"title": "WAPE", "format": "percent", "zero": True},
        "dots": dots,
        "legend": [
            _key(t.model_name(model), _model_colour(model, position), shape=shapes[model])
            for position, model in enumerate(models)
        ],
    }


def effects(changes: pd.DataFrame) -> Figure:
    """Changes of the WAPE as dots with their ranges, beside a line where nothing changes.

    Args:
        changes: ``label``, ``difference``, ``lo_95``, ``hi_95`` (these may be missing).
    """
    return {
        "kind": "rows",
        "labels": [str(label) for label in changes["label"]],
        "x": {"title": "change of the WAPE in percentage points", "format": "pp", "zero": True},
        "dots": [
            {
                "row": row,
                "x": _finite(change),
                "lo": _finite(low),
                "hi": _finite(high),
                "c": BLUE,
                "tip": f"{label}: {100 * change:+.2f} pp",
            }
            for row, (label, change, low, high) in enumerate(
                changes[["label", "difference", "lo_95", "hi_95"]].itertuples(index=False, name=None)
            )
        ],
        "rule": 0,
    }


def trials(tried: pd.DataFrame, base: float | None) -> Figure:
    """The error of each trial in the order they were tried, and a line at that of the configured settings.

    Args:
        tried: ``number``, ``state``, ``value``, ``settings``; those without a value are left out.
        base: error of the configured settings, if it is known.
    """
    looks = {
        "complete": ("trained to the end", BLUE, 1.0),
        "pruned": ("stopped early, with its error then", GREY, 0.0),
    }
    known = tried[tried["state"].isin(list(looks)) & tried["value"].notna()]
    return {
        "kind": "plane",
        "height": 320,
        "x": {"title": "trial", "format": "number", "whole": True},
        "y": {"title": "WAPE on selection windows", "format": "percent"},
        "points": [
            {
                "x": int(number),
                "y": _finite(value),
                "c": looks[state][1],
                "o": looks[state][2],
                "tip": f"trial {number}: {t.percent(value)}\n{settings}",
            }
            for number, state, value, settings in known[["number", "state", "value", "settings"]].itertuples(
                index=False, name=None
            )
        ],
        "hlines": [] if base is None else [{"y": base, "text": "as configured", "c": GREY}],
        "legend": [_key(name, colour, shape="circle", open=not full) for name, colour, full in looks.values()],
    }


def series(index: int) -> Figure:
    """One of the page's series (see ``report.series``): what happened, what was forecast, and what comes next."""
    return {"kind": "series", "at": index}


def model_colour(model: str) -> str:
    """The colour that stands for a model everywhere on the page."""
    return _model_colour(model, 0)


def model_dash(model: str) -> str:
    """The dashes that stand for it, empty for a full line."""
    return MODEL_DASHES.get(model, "")


def role_colour(role: str) -> str:
    """The colour that stands for an input's role."""
    return _ROLE_COLOURS.get(role, BLUE)


def segment_colour(segment: Any) -> str:
    """The colour of a segment's dots."""
    return _SEGMENT_COLOURS[int(segment) % len(_SEGMENT_COLOURS)]


def segment_shape(segment: Any) -> str:
    """The shape of a segment's dots."""
    return _SEGMENT_SHAPES[int(segment) % len(_SEGMENT_SHAPES)]


def in_order(models: Iterable[Any]) -> list[str]:
    """The models known here first, in their usual order, then the others by name."""
    found = [str(model) for model in models]
    return [name for name in MODEL_COLOURS if name in found] + sorted(set(found) - set(MODEL_COLOURS))


def _heat(
    rows: Sequence[str],
    columns: Sequence[str],
    grid: Sequence[Sequence[float | None]],
    title: str,
    numbers: str,
    segments: Sequence[str] = (),
) -> Figure:
    """Cells coloured by their values: warm above the middle, cold below; only warm where none is below zero."""
    known = [value for row in grid for value in row if value is not None]
    return {
        "kind": "heat",
        "rows": list(rows),
        "columns": list(columns),
        "title": title,
        "format": numbers,
        "z": [list(row) for row in grid],
        "bound": max([abs(value) for value in known] + ([1.0] if numbers == "signed" else [1e-9])),
        "segments": list(segments),
    }


def _key(name: str, colour: str, **look: Any) -> dict[str, Any]:
    return {"name": name, "c": colour, **{key: value for key, value in look.items() if value}}


def _tagged(mark: Mapping[str, Any], segment: str | None, series: str | None = None) -> dict[str, Any]:
    """A mark that the filter by segment, or by series, can hide."""
    tags = {"segment": segment, "series": series}
    return {**mark, **{key: value for key, value in tags.items() if value is not None}}


def _model_colour(model: str, position: int) -> str:
    return MODEL_COLOURS.get(model, _FURTHER_COLOURS[position % len(_FURTHER_COLOURS)])


def _finite(value: Any) -> float | None:
    """A number that JSON can hold, None for any other."""
    return None if t.is_missing(value) or not math.isfinite(value) else float(value)
