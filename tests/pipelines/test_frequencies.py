"""Files of every step through the stages: what comes out stands at the moments that the files go on with."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import Config, load_config
from dlmine_spark.errors import SourceError, TableContractError
from dlmine_spark.evaluation.naive import SIMPLE
from dlmine_spark.frequency import COUNTED, HOURLY, MONTHLY, WEEKLY, Frequency, Moment
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import arima, backtest, blend, clean, forecast, fuse, predict, report, segment, train
from dlmine_spark.training.shards import Features, panel_arrays
from tests.cleaning.examples import values

pytestmark = pytest.mark.spark

Series = tuple[Frequency, Moment, int]
EXAMPLE = Path("conf/examples/panel.yaml")
_NO_FEATURES = Features((), (), (), ())


def config_of(folder: Path, series: dict[str, Series], horizon: int, *overrides: str) -> Config:
    """A file of some series, each from its own start on and so long, and the user's command line for it."""
    generator = np.random.default_rng(3)
    lines = ["unique_id,ds,y,promo"]
    for name, (frequency, start, length) in series.items():
        for step in range(length):
            y = 100 + 20 * np.sin(2 * np.pi * step / max(frequency.season_length, 2)) + generator.normal(0, 2)
            lines.append(f"{name},{frequency.shift(start, step)},{y:.2f},{int(step % 4 == 0)}")
    # Rows may come in any order.
    (folder / "panel.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]), encoding="utf-8")
    light = ("training={backend: local, epochs: 1, samples_per_epoch: 64, hidden: 8}", "arima.feature_origins=2")
    own = (f"sources.panel.path={folder / 'panel.csv'}", f"evaluation.horizon={horizon}")
    return load_config([EXAMPLE], [*own, *light, *overrides])


def forecast_moments(lakehouse: Lakehouse, model: str, name: str) -> list[tuple[Any, list[Any]]]:
    """Of one series: each cutoff, with the moments that are forecast from there in the order of their steps."""
    rows = lakehouse.read(s.FORECASTS.name).where((F.col(s.MODEL) == model) & (F.col(s.UNIQUE_ID) == name))
    by_cutoff: dict[Any, list[Any]] = {}
    for row in rows.orderBy(s.CUTOFF, s.H).collect():
        by_cutoff.setdefault(row[s.CUTOFF], []).append(row[s.DS])
    return list(by_cutoff.items())


def after(series: Series, steps: int, horizon: int) -> list[Moment]:
    """The moments of a horizon after so many steps of a series."""
    frequency, start, _ = series
    return [frequency.shift(start, steps + ahead) for ahead in range(horizon)]


def test_hours_go_through_the_stages(lakehouse: Lakehouse, tmp_path: Path) -> None:
    # In the second night clocks in Berlin skip an hour, which these hours do not.
    series: dict[str, Series] = {
        "a": (HOURLY, datetime(2024, 3, 30), 120),
        "late": (HOURLY, datetime(2024, 3, 31, 1), 95),
    }
    config = config_of(tmp_path, series, 12)
    for stage in (clean, segment, arima, fuse, train, blend, forecast, backtest):
        stage.run(config, lakehouse)
    page = report.run(config, lakehouse).path.read_text(encoding="utf-8")

    panel = lakehouse.read(s.PANEL.name)
    assert dict(panel.dtypes)[s.DS] == "timestamp_ntz"
    assert panel.count() == 215
    final = datetime(2024, 4, 3, 23)
    for model in ("arima", "lstm", "blend"):
        for name in series:
            # Both end with the data.
            assert forecast_moments(lakehouse, model, name) == [
                (HOURLY.shift(final, -12), [HOURLY.shift(final, ahead - 12) for ahead in range(1, 13)]),
                (final, [HOURLY.shift(final, ahead) for ahead in range(1, 13)]),
            ]
    measured = {row[s.MODEL] for row in lakehouse.read(s.METRICS.name).where("metric = 'mase'").collect()}
    assert measured == {"arima", "lstm", "blend", *SIMPLE}
    assert "30 Mar 2024 00:00 to 3 Apr 2024 23:00" in page
    assert "12 hours ahead" in page


def test_weeks_of_any_day_are_forecast_at_the_days_their_series_go_on_with(
    lakehouse: Lakehouse, tmp_path: Path
) -> None:
    series: dict[str, Series] = {"mon": (WEEKLY, date(2022, 1, 3), 30), "wed": (WEEKLY, date(2022, 1, 5), 29)}
    config = config_of(tmp_path, series, 4)
    for stage in (clean, arima, fuse, blend, backtest):
        stage.run(config, lakehouse)

    cutoffs = [date(2022, 6, 27), date(2022, 7, 25)]
    for name, one in series.items():
        ahead = [(cutoffs[0], after(one, one[2] - 4, 4)), (cutoffs[1], after(one, one[2], 4))]
        assert forecast_moments(lakehouse, "arima", name) == ahead
        assert forecast_moments(lakehouse, "seasonal_naive", name) == ahead
    compared = lakehouse.read(s.METRICS.name).where("scope = 'overall' and metric = 'forecasts'").collect()
    assert {(row[s.MODEL], row["value"]) for row in compared} == {(model, 8.0) for model in ("arima", *SIMPLE)}
    # The network reads the last row of each series up to the cutoff, with ARIMA's forecast from there.
    panel = lakehouse.read(s.TRAINING_PANEL.name).where(F.col(s.CUTOFF) == F.lit(cutoffs[0]))
    arrays = panel_arrays(panel.toArrow(), _NO_FEATURES, cutoffs[0], 4)
    assert [str(day) for day in arrays.ds[arrays.cutoff_rows]] == ["2022-06-27", "2022-06-22"]
    assert set(arrays.cutoff_rows) <= set(arrays.path_origins)


@pytest.mark.slow
def test_counted_steps_are_forecast_from_the_end_of_each_series(lakehouse: Lakehouse, tmp_path: Path) -> None:
    series: dict[str, Series] = {"long": (COUNTED, 1, 90), "short": (COUNTED, 1, 70)}
    config = config_of(tmp_path, series, 5, "arima.season_length=6")
    for stage in (clean, arima, fuse, train, blend, forecast, backtest):
        stage.run(config, lakehouse)

    assert dict(lakehouse.read(s.PANEL.name).dtypes)[s.DS] == "int"
    for model in ("arima", "lstm", "blend"):
        assert forecast_moments(lakehouse, model, "long") == [(85, [*range(86, 91)]), (90, [*range(91, 96)])]
        # Cutoffs are those of the longest series.
        assert forecast_moments(lakehouse, model, "short") == [(85, [*range(66, 71)]), (90, [*range(71, 76)])]
    compared = lakehouse.read(s.METRICS.name).where("scope = 'overall' and metric = 'forecasts'")
    assert {(row[s.MODEL], row["value"]) for row in compared.collect()} == {
        (model, 10.0) for model in ("arima", "lstm", "blend", *SIMPLE)
    }
    assert lakehouse.read(s.ARIMA_MODELS.name).where("m <> 6").count() == 0


def test_series_of_other_steps_are_set_aside_and_the_job_goes_on(lakehouse: Lakehouse, tmp_path: Path) -> None:
    weeks: dict[str, Series] = {"a": (WEEKLY, date(2022, 1, 3), 30), "c": (WEEKLY, date(2022, 1, 3), 30)}
    # Its last month is after the last week: the panel ends with its own series.
    months: dict[str, Series] = {"b": (MONTHLY, date(2022, 1, 3), 9)}
    config = config_of(tmp_path, weeks | months, 4)
    assert clean.run(config, lakehouse).message.endswith("; 1 series of other steps set aside")
    arima.run(config, lakehouse)

    reason = "a row each month, where most rows of the panel are one week apart"
    assert values(lakehouse.read(s.SET_ASIDE.name), *s.SET_ASIDE.names) == [
        ("b", 9, date(2022, 1, 3), date(2022, 9, 3), reason)
    ]
    panel = lakehouse.read(s.PANEL.name).groupBy(s.UNIQUE_ID).agg(F.max(s.DS).alias(s.DS)).orderBy(s.UNIQUE_ID)
    assert values(panel, s.UNIQUE_ID, s.DS) == [("a", date(2022, 7, 25)), ("c", date(2022, 7, 25))]
    models = lakehouse.read(s.ARIMA_MODELS.name).orderBy(s.UNIQUE_ID, s.CUTOFF)
    assert values(models.where("unique_id = 'b'"), s.CUTOFF, "status", "error") == [
        (cutoff, "failed", reason) for cutoff in (date(2022, 6, 27), date(2022, 7, 25))
    ]
    assert models.where("status = 'ok'").select(s.UNIQUE_ID).distinct().count() == 2
    predicted = predict.run(config, lakehouse, "later")
    assert predicted.startswith("2 series from 2022-07-25")
    assert lakehouse.read(s.ARIMA_MODELS.name).where("unique_id = 'b'").count() == 2

    # Once they are gone from the source, nothing is said of them any more.
    for _ in range(2):
        clean.run(config_of(tmp_path, weeks, 4), lakehouse)
        assert lakehouse.read(s.SET_ASIDE.name).isEmpty()
    assert lakehouse.version(s.SET_ASIDE.name) == 1


def test_too_many_series_of_other_steps_are_refused_with_the_tables_as_they_were(
    lakehouse: Lakehouse, tmp_path: Path
) -> None:
    series: dict[str, Series] = {"a": (WEEKLY, date(2022, 1, 3), 30), "b": (MONTHLY, date(2022, 1, 3), 9)}
    with pytest.raises(TableContractError, match=r"1 of 2 series have other steps .* series b: a row each month"):
        clean.run(config_of(tmp_path, series, 4, "cleaning.max_rejected=0.4"), lakehouse)
    assert lakehouse.version(s.PANEL.name) is None
    assert lakehouse.version(s.SET_ASIDE.name) is None


def test_numbers_where_dates_are_declared_are_refused_with_the_file(lakehouse: Lakehouse, tmp_path: Path) -> None:
    series: dict[str, Series] = {"a": (COUNTED, 1, 30)}
    with pytest.raises(SourceError, match=r"panel\.csv"):
        clean.run(config_of(tmp_path, series, 4, "cleaning.frequency=W"), lakehouse)
