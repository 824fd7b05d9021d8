"""The page's charts as plotly figures: frames in, figures of plain lists out, no drawing.

Colours are those of the light theme; the page's script exchanges them for ``THEME``'s dark ones where the reader's
system is dark. Text that comes from data is escaped for plotly, which reads HTML tags in any text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from dlmine_spark import schemas as s
from dlmine_spark.report import text as t

INK, MUTED, GRID, SURFACE = "#1c2430", "#5d6776", "#e4e2dc", "#ffffff"
BLUE, ORANGE, GREY, GREEN, PURPLE, RED = "#2360c4", "#c2570c", "#8a93a1", "#26805a", "#7a4fb5", "#c0392f"
BAND_80, BAND_95 = "rgba(35,96,196,0.24)", "rgba(35,96,196,0.11)"
OTHER_BAND_80, OTHER_BAND_95 = "rgba(194,87,12,0.24)", "rgba(194,87,12,0.11)"
SHADE = "rgba(28,36,48,0.035)"
SCALE = ("#b9d3f3", "#4f8adb", "#123a82")
COLD, MIDDLE, WARM = "#2f6fc0", "#f5f3ee", "#cf6a2c"

THEME: dict[str, str] = {
    INK: "#e8ebf0",
    MUTED: "#9aa6b6",
    GRID: "#2c3541",
    SURFACE: "#171d26",
    BLUE: "#79adff",
    ORANGE: "#f39a58",
    GREY: "#8793a3",
    GREEN: "#5cc596",
    PURPLE: "#b693ee",
    RED: "#f0857a",
    BAND_80: "rgba(121,173,255,0.27)",
    BAND_95: "rgba(121,173,255,0.13)",
    OTHER_BAND_80: "rgba(243,154,88,0.27)",
    OTHER_BAND_95: "rgba(243,154,88,0.13)",
    SHADE: "rgba(232,235,240,0.04)",
    SCALE[0]: "#2b4a75",
    SCALE[1]: "#5f97e6",
    SCALE[2]: "#dbe8ff",
    COLD: "#5b9bf0",
    MIDDLE: "#1f2732",
    WARM: "#e58a4d",
}
"""The dark theme's colour for each of the light one's."""

_ARIMA_OTHERS = ("arima_intermittent", "arima_simple", "arima_smoothing", "arima_naive")
_SIMPLE = ("seasonal_naive", "profile_median", "year_ago_growth")
MODEL_COLOURS = {
    "blend": PURPLE,
    "lstm": BLUE,
    "arima": ORANGE,
    **dict.fromkeys(_ARIMA_OTHERS, RED),
    **dict.fromkeys(_SIMPLE, GREY),
}
MODEL_DASHES = {"lstm": "solid", "arima": "dash", **dict.fromkeys(_ARIMA_OTHERS, "dash"), "seasonal_naive": "dot"}
_ROLE_COLOURS = {
    "target": INK,
    "known_future": BLUE,
    "past_only": PURPLE,
    "static": GREEN,
    "mined": ORANGE,
    "arima": ORANGE,
}
_FURTHER_COLOURS = (PURPLE, GREEN, RED)
_LABEL_WIDTH = 26


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a chart of bars: its label, value, the value as text, a colour, and what the colour stands for."""

    label: str
    value: float
    shown: str
    colour: str = BLUE
    meaning: str = ""


def bars(values: Sequence[Bar], axis: str, *, percent: bool = False) -> go.Figure:
    """Horizontal bars, the first on top, each with its value beside it; a legend where colours have a meaning."""
    figure = _figure(height=70 + 30 * max(len(values), 2))
    for meaning in dict.fromkeys(bar.meaning for bar in values):
        alike = [(position, bar) for position, bar in enumerate(values) if bar.meaning == meaning]
        figure.add_bar(
            y=[position for position, _ in alike],
            x=[bar.value for _, bar in alike],
            orientation="h",
            name=t.for_plotly(meaning),
            text=[t.for_plotly(bar.shown) for _, bar in alike],
            textposition="outside",
            cliponaxis=False,
            marker={"color": [bar.colour for _, bar in alike], "line": {"width": 0}},
            hovertext=[f"{t.for_plotly(bar.label)}: {t.for_plotly(bar.shown)}" for _, bar in alike],
            hoverinfo="text",
            width=0.62,
        )
    has_legend = any(bar.meaning for bar in values)
    figure.update_layout(
        showlegend=has_legend,
        legend=_legend_on_top(),
        barmode="overlay",
        margin={"r": 64, "t": 36 if has_legend else 12},
    )
    largest = max([bar.value for bar in values] + [0.0]) or 1.0
    smallest = min([bar.value for bar in values] + [0.0])
    # Room for the texts beside the bars, which plotly does not reserve.
    lower = smallest - 0.2 * (largest - smallest) if smallest < 0 else 0.0
    figure.update_xaxes(title_text=axis, range=[lower, largest * 1.12], tickformat=".1~%" if percent else None)
    _label_rows(figure, [bar.label for bar in values])
    return figure


def row_fates(sources: pd.DataFrame) -> go.Figure:
    """What became of each source's rows, as shares that add up to one."""
    figure = _figure(height=90 + 46 * len(sources))
    names = [str(name) for name in sources["source"]]
    totals = [max(float(rows), 1.0) for rows in sources["rows_in"]]
    for column, name, colour in (
        ("accepted", "accepted", BLUE),
        ("duplicates", "exact duplicates", GREY),
        ("superseded", "replaced by a newer row", PURPLE),
        ("quarantined", "quarantined", ORANGE),
    ):
        if not sources[column].any():
            continue
        counts = [0.0 if t.is_missing(value) else float(value) for value in sources[column]]
        figure.add_bar(
            y=list(range(len(names))),
            x=[value / total for value, total in zip(counts, totals, strict=True)],
            orientation="h",
            name=name,
            marker={"color": colour, "line": {"width": 0}},
            hovertext=[
                f"{t.for_plotly(source)}: {t.count(value)} {name} ({t.percent(value / total)})"
                for source, value, total in zip(names, counts, totals, strict=True)
            ],
            hoverinfo="text",
            width=0.5,
        )
    figure.update_layout(barmode="stack", legend=_legend_on_top())
    figure.update_layout(margin={"r": 28})
    figure.update_xaxes(tickformat=".0%", range=[0, 1], dtick=0.2, title_text="share of the rows that came in")
    _label_rows(figure, names)
    return figure


def profile_heat(profiles: pd.DataFrame) -> go.Figure:
    """How far each segment's mean lies from the overall mean, by feature as they come, in standard deviations."""
    table = profiles.pivot_table(index="feature", columns="segment", values="z", aggfunc="first", sort=False)
    table = table[sorted(table.columns)]
    features = [str(feature) for feature in table.index]
    segments = [str(segment) for segment in table.columns]
    grid = [[_finite(value) for value in row] for row in table.to_numpy().tolist()]
    bound = max([abs(value) for row in grid for value in row if value is not None] + [1.0])
    figure = _figure(height=130 + 30 * len(features))
    figure.add_heatmap(
        z=grid,
        x=list(range(len(segments))),
        y=list(range(len(features))),
        zmin=-bound,
        zmax=bound,
        colorscale=[[0, COLD], [0.5, MIDDLE], [1, WARM]],
        xgap=3,
        ygap=3,
        text=[["" if value is None else f"{value:+.1f}" for value in row] for row in grid],
        texttemplate="%{text}",
        hovertext=[
            [
                f"{t.for_plotly(feature)}, segment {segment}: {'–' if value is None else f'{value:+.2f}'} sd"
                for segment, value in zip(segments, row, strict=True)
            ]
            for feature, row in zip(features, grid, strict=True)
        ],
        hoverinfo="text",
        colorbar={
            "title": {"text": "sd from mean", "side": "right", "font": {"size": 12}},
            "thickness": 10,
            "outlinewidth": 0,
            "len": 0.9,
        },
    )
    figure.update_xaxes(
        tickvals=list(range(len(segments))),
        ticktext=segments,
        title_text="segment",
        side="top",
        showgrid=False,
        fixedrange=True,
    )
    _label_rows(figure, features)
    figure.update_yaxes(showgrid=False)
    figure.update_layout(margin={"t": 58})
    return figure


def rule_cloud(rules: pd.DataFrame) -> go.Figure:
    """Each rule by support and confidence, coloured by lift."""
    figure = _figure(height=420)
    lifts = [float(value) for value in rules["lift"]]
    figure.add_scatter(
        x=[float(value) for value in rules["support"]],
        y=[float(value) for value in rules["confidence"]],
        mode="markers",
        marker={
            "size": 10,
            "color": lifts,
            "colorscale": [[0, SCALE[0]], [0.5, SCALE[1]], [1, SCALE[2]]],
            "line": {"color": SURFACE, "width": 1},
            "colorbar": {
                "title": {"text": "lift", "side": "right", "font": {"size": 12}},
                "thickness": 10,
                "outlinewidth": 0,
            },
        },
        hovertext=[
            f"{t.for_plotly(t.items(left))} → {t.for_plotly(t.items(right))}<br>"
            f"support {t.percent(support)}, confidence {t.percent(confidence)}, lift {lift:.2f}"
            for left, right, support, confidence, lift in zip(
                rules["antecedent"], rules["consequent"], rules["support"], rules["confidence"], lifts, strict=True
            )
        ],
        hoverinfo="text",
    )
    # Supports crowd near the threshold: a factor reads better than a difference.
    figure.update_xaxes(title_text="support (share of baskets, logarithmic)", type="log", tickformat="~%", dtick="D2")
    figure.update_yaxes(title_text="confidence", tickformat=".0%", rangemode="tozero")
    figure.update_layout(showlegend=False)
    return figure


def forecast(history: pd.DataFrame, forecasts: pd.DataFrame, cutoffs: Sequence[Any]) -> go.Figure:
    """One series: what happened, what each model said before it happened, and what comes next.

    Args:
        history: ds, y, y_imputed; in the order of dates.
        forecasts: model, cutoff, ds, y_hat and bounds; rows of the given cutoffs.
        cutoffs: dates that forecasts were made on, oldest first; the last may be the end of the data.
    """
    figure = _figure(height=400)
    models = in_order(forecasts[s.MODEL].unique())
    banded = "lstm" if "lstm" in models else next(iter(models), None)
    for model in reversed(models):
        rows = forecasts[forecasts[s.MODEL] == model].sort_values([s.CUTOFF, s.DS])
        for index, (_, part) in enumerate(rows.groupby(s.CUTOFF, sort=True)):
            if model == banded:
                _add_bands(figure, part, model, first=index == 0)
            _add_line(figure, part, model, first=index == 0)
    known = history[history[s.Y_IMPUTED].ne(True)] if s.Y_IMPUTED in history else history
    figure.add_scatter(
        x=_iso(history[s.DS]),
        y=[_finite(value) for value in history[s.Y].where(history.index.isin(known.index))],
        mode="lines",
        name="actual",
        line={"color": INK, "width": 1.8},
        hovertemplate="%{y:,.4~g}",
    )
    for cutoff in cutoffs:
        figure.add_vline(x=t.iso(cutoff), line={"color": MUTED, "width": 1, "dash": "dot"})
    _annotate_cutoffs(figure, cutoffs, history)
    figure.update_layout(hovermode="x unified", legend=_legend_on_top("reversed"))
    if not any(isinstance(t.iso(cutoff), int) for cutoff in cutoffs):
        has_times = pd.api.types.is_datetime64_any_dtype(history[s.DS])
        figure.update_xaxes(hoverformat="%a %-d %b %Y" + (" %H:%M" if has_times else ""))
    # Sales start at zero: a cut axis would exaggerate every wiggle.
    lowest = min((value for value in history[s.Y].dropna()), default=0.0)
    figure.update_yaxes(rangemode="tozero" if lowest >= 0 else "normal", tickformat="~s")
    return figure


def accuracy_by_step(errors: pd.DataFrame, floor: float | None) -> go.Figure:
    """WAPE of each model by how many steps ahead it forecast."""
    figure = _figure(height=340)
    for position, model in enumerate(in_order(errors[s.MODEL].unique())):
        rows = errors[errors[s.MODEL] == model].sort_values(s.H)
        figure.add_scatter(
            x=[int(step) for step in rows[s.H]],
            y=[_finite(value) for value in rows["value"]],
            mode="lines+markers",
            name=t.model_name(model),
            line={"color": _model_colour(model, position), "width": 2, "dash": MODEL_DASHES.get(model, "solid")},
            marker={"size": 5},
            hovertemplate="%{y:.1%}",
        )
    _add_floor(figure, floor)
    figure.update_layout(hovermode="x unified", legend=_legend_on_top())
    figure.update_xaxes(title_text="steps ahead")
    figure.update_yaxes(title_text="WAPE", tickformat=".1~%", rangemode="tozero")
    return figure


def accuracy_by_segment(errors: pd.DataFrame) -> go.Figure:
    """WAPE of each model in each segment, as dots on a line."""
    segments = sorted({str(segment) for segment in errors["segment"]}, key=lambda name: (len(name), name))
    figure = _figure(height=110 + 44 * len(segments))
    for position, model in enumerate(in_order(errors[s.MODEL].unique())):
        values = {str(row.segment): row.value for row in errors[errors[s.MODEL] == model].itertuples()}
        figure.add_scatter(
            x=[_finite(values.get(segment)) for segment in segments],
            y=list(range(len(segments))),
            mode="markers",
            name=t.model_name(model),
            marker={"size": 13, "color": _model_colour(model, position), "line": {"color": SURFACE, "width": 1.5}},
            hovertemplate="%{x:.1%}",
        )
    figure.update_layout(legend=_legend_on_top())
    figure.update_xaxes(title_text="WAPE", tickformat=".1~%", rangemode="tozero")
    _label_rows(figure, [f"segment {segment}" for segment in segments])
    figure.update_yaxes(showgrid=True)
    return figure


def effects(changes: pd.DataFrame) -> go.Figure:
    """Changes of the WAPE as dots with their ranges, beside a line where nothing changes.

    Args:
        changes: ``label``, ``difference``, ``lo_95``, ``hi_95`` (these may be missing).
    """
    dots = changes["difference"].astype(float)
    figure = _figure(height=110 + 44 * len(changes))
    figure.add_scatter(
        x=list(dots),
        y=list(range(len(changes))),
        mode="markers",
        marker={"size": 13, "color": BLUE, "line": {"color": SURFACE, "width": 1.5}},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": list((changes["hi_95"].astype(float) - dots).fillna(0.0)),
            "arrayminus": list((dots - changes["lo_95"].astype(float)).fillna(0.0)),
            "color": BLUE,
            "thickness": 2,
        },
        hovertext=[
            f"{t.for_plotly(label)}: {100 * dot:+.2f} pp" for label, dot in zip(changes["label"], dots, strict=True)
        ],
        hoverinfo="text",
    )
    figure.add_vline(x=0, line={"color": MUTED, "width": 1, "dash": "dash"})
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title_text="change of the WAPE", tickformat="+.1~%")
    _label_rows(figure, [str(label) for label in changes["label"]])
    return figure


def trials(tried: pd.DataFrame, base: float | None) -> go.Figure:
    """The error of each trial in the order they were tried, and a line at that of the configured settings.

    Args:
        tried: ``number``, ``state``, ``value``, ``settings``; those without a value are left out.
        base: error of the configured settings, if it is known.
    """
    figure = _figure(height=340)
    looks = {
        "complete": ("trained to the end", BLUE, "circle"),
        "pruned": ("stopped early, with its error then", GREY, "circle-open"),
    }
    for state, (name, colour, symbol) in looks.items():
        rows = tried[(tried["state"] == state) & tried["value"].notna()]
        figure.add_scatter(
            x=[int(number) for number in rows["number"]],
            y=[float(value) for value in rows["value"]],
            mode="markers",
            name=name,
            marker={"size": 11, "color": colour, "symbol": symbol, "line": {"color": colour, "width": 1.5}},
            hovertext=[
                f"trial {number}: {t.percent(value)}<br>{t.for_plotly(settings)}"
                for number, value, settings in rows[["number", "value", "settings"]].itertuples(index=False, name=None)
            ],
            hoverinfo="text",
        )
    if base is not None:
        figure.add_hline(
            y=base,
            line={"color": MUTED, "width": 1, "dash": "dash"},
            annotation={"text": "as configured", "font": {"size": 11, "color": MUTED}, "xanchor": "right"},
        )
    figure.update_layout(legend=_legend_on_top(), showlegend=True)
    figure.update_xaxes(title_text="trial", rangemode="tozero", dtick=max(1, len(tried) // 8))
    figure.update_yaxes(title_text="WAPE on selection windows", tickformat=".1~%")
    return figure


def model_colour(model: str) -> str:
    """The colour that stands for a model everywhere on the page."""
    return _model_colour(model, 0)


def role_colour(role: str) -> str:
    """The colour that stands for an input's role."""
    return _ROLE_COLOURS.get(role, BLUE)


def in_order(models: Iterable[Any]) -> list[str]:
    """The models known here first, in their usual order, then the others by name."""
    found = [str(model) for model in models]
    return [name for name in MODEL_COLOURS if name in found] + sorted(set(found) - set(MODEL_COLOURS))


def _add_line(figure: go.Figure, part: pd.DataFrame, model: str, *, first: bool) -> None:
    figure.add_scatter(
        x=_iso(part[s.DS]),
        y=[_finite(value) for value in part[s.Y_HAT]],
        mode="lines",
        name=t.model_name(model),
        legendgroup=model,
        showlegend=first,
        line={
            "color": _model_colour(model, 0),
            "width": 2.2 if model == "lstm" else 1.5,
            "dash": MODEL_DASHES.get(model, "solid"),
        },
        hovertemplate="%{y:,.4~g}",
    )


def _add_bands(figure: go.Figure, part: pd.DataFrame, model: str, *, first: bool) -> None:
    """Prediction intervals as filled outlines, the wider one below."""
    outer, inner = (BAND_95, BAND_80) if model == "lstm" else (OTHER_BAND_95, OTHER_BAND_80)
    for low, high, level, fill in ((s.LO_95, s.HI_95, "95 %", outer), (s.LO_80, s.HI_80, "80 %", inner)):
        bounded = part.dropna(subset=[low, high])
        if bounded.empty:
            continue
        dates = _iso(bounded[s.DS])
        figure.add_scatter(
            x=dates + dates[::-1],
            y=[float(v) for v in bounded[high]] + [float(v) for v in bounded[low][::-1]],
            mode="lines",
            line={"width": 0},
            fill="toself",
            fillcolor=fill,
            name=f"{t.model_name(model)} {level}",
            legendgroup=f"{model} {level}",
            showlegend=first,
            hoverinfo="skip",
        )


def _annotate_cutoffs(figure: go.Figure, cutoffs: Sequence[Any], history: pd.DataFrame) -> None:
    """Say at each vertical line what lies to its right."""
    # Of one kind, ISO texts and numbers are in the order of time.
    last: Any = max(_iso(history[s.DS]), default=None)
    for cutoff in cutoffs:
        at: Any = t.iso(cutoff)
        is_end = last is not None and at >= last
        figure.add_annotation(
            x=at,
            y=1,
            yref="paper",
            yanchor="bottom",
            xanchor="left",
            xshift=-1,
            showarrow=False,
            text="future →" if is_end else "held out →",
            font={"size": 11, "color": MUTED},
        )


def _add_floor(figure: go.Figure, floor: float | None) -> None:
    if floor is None:
        return
    figure.add_hline(
        y=floor,
        line={"color": GREEN, "width": 1.5, "dash": "dash"},
        annotation={
            "text": f"irreducible {t.percent(floor)}",
            "font": {"size": 11, "color": GREEN},
            "yanchor": "top",
            "xanchor": "right",
        },
    )


def _figure(height: int) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        # Plotly's own template would add six kilobytes to every chart.
        template=None,
        height=height,
        margin={"l": 8, "r": 12, "t": 36, "b": 8, "pad": 4},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK, "size": 13},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": MUTED, "activecolor": BLUE},
        hoverlabel={"bgcolor": SURFACE, "bordercolor": GRID, "font": {"color": INK, "size": 12}, "align": "left"},
        bargap=0.3,
    )
    axis = {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": GRID,
        "tickfont": {"color": MUTED, "size": 12},
        "title": {"font": {"color": MUTED, "size": 12}},
        "automargin": True,
    }
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def _label_rows(figure: go.Figure, labels: Sequence[str]) -> None:
    """Rows labelled from the top; positions are numbers, so that shortened labels may be alike."""
    figure.update_yaxes(
        tickvals=list(range(len(labels))),
        ticktext=[t.for_plotly(t.shorten(label, _LABEL_WIDTH)) for label in labels],
        range=[len(labels) - 0.5, -0.5],
        showgrid=False,
        fixedrange=True,
        tickfont={"color": INK, "size": 12},
    )


def _legend_on_top(order: str = "normal") -> dict[str, Any]:
    return {
        "orientation": "h",
        "x": 0,
        "xanchor": "left",
        "yref": "container",
        "y": 0.99,
        "yanchor": "top",
        "font": {"size": 12},
        "traceorder": order,
    }


def _colour_bar(title: str) -> dict[str, Any]:
    return {
        "title": {"text": title, "side": "right", "font": {"size": 12}},
        "thickness": 10,
        "outlinewidth": 0,
        "len": 0.9,
    }


def _model_colour(model: str, position: int) -> str:
    return MODEL_COLOURS.get(model, _FURTHER_COLOURS[position % len(_FURTHER_COLOURS)])


def _iso(moments: Iterable[Any]) -> list[Any]:
    return [t.iso(moment) for moment in moments]


def _finite(value: Any) -> float | None:
    """A number that JSON can hold, None for any other."""
    return None if t.is_missing(value) or not math.isfinite(value) else float(value)
