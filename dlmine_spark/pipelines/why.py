"""Why: where the forecast of one series after the end of the data comes from, step by step of the horizon."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.errors import ConfigError
from dlmine_spark.explain.attribution import TOLERANCE, Attribution, attribute
from dlmine_spark.explain.inputs import MINED_ROLE, known_input
from dlmine_spark.frequency import Moment, from_text
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.alignment import to_own_clocks
from dlmine_spark.pipelines.explain import covariate_names
from dlmine_spark.pipelines.train import panel_source, trained_models
from dlmine_spark.report import text as t
from dlmine_spark.training.one_forecast import FUTURE, LAGS, PATH, OneForecast, load_one_forecast
from dlmine_spark.training.predict import cutoff_folder

SHOWN = 12
"""Inputs in the terminal; the table has all."""
LEAST_SHOWN = 1e-3
"""Of the largest contribution: what adds less adds nothing to see."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one input adds to the forecast of one step.

    Attributes:
        feature: the input.
        role: its role in forecasting.
        total: in units of the data.
        of_step: the part of it that the input's value at that very step adds; the rest comes from the steps before.
    """

    feature: str
    role: str
    total: float
    of_step: float


def run(config: Config, lakehouse: Lakehouse, unique_id: str, date: str | None) -> tuple[str, str]:
    """Attribute the network's forecast of a series to its inputs; ``gold.attributions`` holds this series alone then.

    Args:
        config: the whole configuration.
        lakehouse: the tables as the last run of explain saw them.
        unique_id: the series.
        date: moment to show; default: that of the largest forecast.

    Returns:
        One line on the forecast, and the inputs that matter most as text.

    Raises:
        ConfigError: the date is none of the horizon's.
        TrainingError: there is no such series, or it has no forecast.
    """
    panel = lakehouse.read(s.TRAINING_PANEL.name)
    cutoff: Moment = panel.agg(F.max(s.CUTOFF)).collect()[0][0]
    folder = cutoff_folder(trained_models(lakehouse), cutoff)
    forecast = load_one_forecast(folder, panel_source(config, lakehouse), cutoff, unique_id)
    names = covariate_names(config, lakehouse)
    asked = None if date is None else _step_of(date, forecast, unique_id)
    attributions = {
        step: attribute(forecast.predict, forecast.inputs, forecast.average, step)
        for step, is_open in enumerate(forecast.is_open)
        if is_open
    }
    if not attributions:
        raise ConfigError(f"series {unique_id!r} is closed over the whole horizon: its forecast is 0")
    found = {step: contributions(one, forecast, step, names) for step, one in attributions.items()}
    rows = [
        (unique_id, cutoff, forecast.moments[step], step + 1, *astuple(one), whole.forecast, whole.baseline, whole.gap)
        for step, whole in attributions.items()
        for one in found[step]
    ]
    moment = dict(panel.dtypes)[s.CUTOFF]
    ddl = ", ".join(f"`{name}` {type_}" for name, type_ in s.ATTRIBUTIONS.typed(moment).items())
    frame = lakehouse.spark.createDataFrame(rows, ddl)
    lakehouse.overwrite(s.ATTRIBUTIONS.name, to_own_clocks(lakehouse, frame))
    shown = max(attributions, key=lambda step: attributions[step].forecast) if asked is None else asked
    return _in_words(unique_id, forecast.moments[shown], attributions[shown]), _as_table(found[shown])


def _step_of(date: str, forecast: OneForecast, unique_id: str) -> int:
    first, last = forecast.moments[0], forecast.moments[-1]
    try:
        step = forecast.moments.index(from_text(date))
    except ValueError:
        raise ConfigError(f"--date {date}: expected a date of the forecast, {first} to {last}") from None
    if not forecast.is_open[step]:
        raise ConfigError(f"--date {date}: series {unique_id!r} is closed then, its forecast is 0")
    return step


def contributions(
    attribution: Attribution, forecast: OneForecast, step: int, names: Iterable[str]
) -> list[Contribution]:
    """What each input that people know adds to the forecast of a step, the largest first."""
    of_columns = attribution.contributions[FUTURE]
    lags, path = attribution.contributions[LAGS], attribution.contributions[PATH]
    parts = [
        Contribution("seasonal values", "target", float(lags.sum()), float(lags[step].sum())),
        Contribution("arima", MINED_ROLE, float(path.sum()), float(path[step])),
    ]
    for at, column in enumerate(forecast.covariates):
        known = known_input(column, names)
        if known is not None:
            values = of_columns[:, at]
            parts.append(Contribution(known.name, known.role, float(values.sum()), float(values[step])))
    together: dict[tuple[str, str], list[Contribution]] = {}
    for part in parts:
        together.setdefault((part.feature, part.role), []).append(part)
    summed = [
        Contribution(feature, role, sum(one.total for one in same), sum(one.of_step for one in same))
        for (feature, role), same in together.items()
    ]
    return sorted(summed, key=lambda one: (-abs(one.total), one.feature))


def _in_words(unique_id: str, moment: Moment, attribution: Attribution) -> str:
    text = (
        f"{unique_id}, {moment}: the network forecasts {t.number(attribution.forecast)}, and "
        f"{t.number(attribution.baseline)} with everything as on average; the difference comes from"
    )
    if abs(attribution.gap) > TOLERANCE * abs(attribution.forecast):
        text += f" (but for {t.number(attribution.gap)}, which could not be attributed)"
    return text


def _as_table(found: Sequence[Contribution]) -> str:
    found = [one for one in found if abs(one.total) >= LEAST_SHOWN * abs(found[0].total)]
    shown = found[:SHOWN]
    width = max(len(one.feature) for one in shown)
    lines = [f"  {'input':<{width}}  {'in all':>10}  {'that step':>10}"]
    lines += [f"  {one.feature:<{width}}  {_signed(one.total):>10}  {_signed(one.of_step):>10}" for one in shown]
    if len(found) > SHOWN:
        lines.append(f"  and {len(found) - SHOWN} more, {_signed(sum(one.total for one in found[SHOWN:]))} together")
    return "\n".join(lines)


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else '-'}{t.number(abs(value))}"
