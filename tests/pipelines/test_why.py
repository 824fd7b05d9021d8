"""Where the forecast of a series comes from: in the table and in words, and what cannot be asked."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.errors import ConfigError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import train, why
from dlmine_spark.pipelines.common import check_series
from tests.training.panels import FINAL, SMALL, panel_rows

pytestmark = pytest.mark.spark

CONFIG = Config.model_validate(
    {
        "evaluation": {"horizon": 7},
        "cleaning": {"frequency": "D"},
        "training": SMALL.model_dump() | {"epochs": 2},
        "sources": {
            "panel": {
                "kind": "panel",
                "path": "p",
                "columns": {"unique_id": "u", "ds": "d", "y": "y"},
                "other_columns": "keep",
                "roles": {"promo": "known_future"},
            }
        },
    }
)


def fill(lakehouse: Lakehouse, folder: Path) -> None:
    spark = lakehouse.spark
    for at, cutoff in enumerate((FINAL - timedelta(days=7), FINAL)):
        pq.write_table(panel_rows(cutoff), folder / f"{at}.parquet")
    lakehouse.overwrite(s.TRAINING_PANEL.name, spark.read.parquet(str(folder / "*.parquet")))
    rows = [("s0", date(2023, 8, 1), 1.0, 1, False, 0.0)]
    lakehouse.overwrite(s.PANEL.name, spark.createDataFrame(rows, f"{s.PANEL.ddl}, promo double"))
    train.run(CONFIG, lakehouse.for_run("train-1", {s.TRAINING_PANEL.name: 0, s.PANEL.name: 0}))


def test_a_series_that_is_not_there_is_told_before_any_work(lakehouse: Lakehouse) -> None:
    check_series(lakehouse, "s0")
    rows = [("store-1", date(2023, 8, 1), 1.0, 1, False)]
    lakehouse.overwrite(s.PANEL.name, lakehouse.spark.createDataFrame(rows, s.PANEL.ddl))

    check_series(lakehouse, "store-1")
    with pytest.raises(ConfigError, match=r"--series: there is no series 'stor-1'; did you mean store-1\?"):
        check_series(lakehouse, "stor-1")


def test_contributions_are_written_and_told(lakehouse: Lakehouse, tmp_path: Path) -> None:
    fill(lakehouse, tmp_path)

    message, table = why.run(CONFIG, lakehouse, "s1", None)

    rows = lakehouse.read(s.ATTRIBUTIONS.name).toPandas()
    assert set(rows[s.H]) == set(range(1, 8))
    assert set(rows["feature"]) == {"seasonal values", "arima", "promo", "calendar"}
    by_step = rows.groupby(s.H).agg({"contribution": "sum", "forecast": "first", "baseline": "first", "gap": "first"})
    expected = by_step["forecast"] - by_step["baseline"] - by_step["gap"]
    assert by_step["contribution"].tolist() == pytest.approx(expected.tolist(), abs=1e-3)
    largest = rows.loc[rows["forecast"].idxmax()]
    assert message.startswith(f"s1, {largest[s.DS]}: the network forecasts ")
    assert "which could not be attributed" not in message
    assert "promo" in table

    # Asked of another date, and of a closed one.
    assert why.run(CONFIG, lakehouse, "s1", str(FINAL + timedelta(days=2)))[0].startswith("s1, 2023-08-11: ")
    with pytest.raises(ConfigError, match=r"--date 2023-08-13: series 's0' is closed then"):
        why.run(CONFIG, lakehouse, "s0", "2023-08-13")
    for wrong in ("2024-01-01", "friday"):
        with pytest.raises(ConfigError, match=r"expected a date of the forecast, 2023-08-10 to 2023-08-16"):
            why.run(CONFIG, lakehouse, "s0", wrong)
