"""What init writes runs as it is: files of many shapes are cleaned by their guessed configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dlmine_spark.config import Config, load_config
from dlmine_spark.datasets.simulate import simulate
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import clean, init
from tests.guessing import examples as x

pytestmark = pytest.mark.spark


def guessed(tmp_path: Path, *paths: Path) -> Config:
    """The configuration of some files, loaded from what was written."""
    out = tmp_path / "guessed.yaml"
    init.run([str(path) for path in paths], out)
    return load_config([out])


def parquet_panel(path: Path) -> Path:
    """Typed columns, with a covariate that is known in advance."""
    import pandas as pd

    frame = pd.DataFrame(
        {
            "unique_id": ["a"] * 40 + ["b"] * 40,
            "ds": pd.to_datetime(x.days(40) * 2),
            "y": [float(place) for place in range(80)],
            "onpromotion": [place % 4 == 0 for place in range(80)],
        }
    )
    frame.to_parquet(path)
    return path


def odd_header(path: Path) -> Path:
    """Many columns under names that neither YAML nor Spark likes."""
    header = ("Fecha ", "Ventas (EUR)", *(f"{sign} col. {place}" for place, sign in enumerate("#:{[&*!|>%@`")))
    rows = [(day, 10 + place, *(place * step % 7 for step in range(12))) for place, day in enumerate(x.days(30))]
    return x.write(path, [header, *rows])


def midnights_of_berlin(path: Path) -> Path:
    """Days that begin the day before in UTC, as pandas writes them with their zone; clocks are changed on 31 March."""
    import pandas as pd

    days = pd.date_range("2024-01-01", periods=100, tz="Europe/Berlin")
    pd.DataFrame({"date": days, "sales": range(100, 200)}).to_parquet(path)
    return path


@pytest.mark.parametrize(
    ("make", "name", "rows", "series", "one"),
    [
        (x.daily_sales, "packed.csv.gz", 60, 1, "ds = '2024-01-03' and y = 102"),
        (
            x.german_sales,
            "filialen.csv",
            100,
            2,
            "unique_id = 'Köln' and ds = '2024-01-02' and y = 1110.1 and promo = 1",
        ),
        (x.monthly_patients, "hospital.csv", 144, 3, "unique_id = 'T2' and ds = '2020-02-01' and y = 21"),
        (
            x.weekly_store_sales,
            "weekly.csv",
            160,
            2,
            "unique_id = '1' and ds = '2023-01-09' and y = 51 and price = 10.5",
        ),
        (x.two_keys, "shelf.csv", 240, 6, "unique_id = 'north/tea' and ds = '2024-01-02' and y = 4"),
        # Sales of 3 and 5 on the first day, and one of the other store.
        (x.single_sales, "single.csv", 100, 2, "unique_id = 'S0' and ds = '2024-01-01' and y = 8"),
        (parquet_panel, "panel.parquet", 80, 2, "unique_id = 'b' and ds = '2024-01-01' and y = 40 and promo = 1"),
        (x.nights_with_offset, "nights.csv", 100, 1, "ds = '2024-04-01' and y = 191"),
        (midnights_of_berlin, "berlin.parquet", 100, 1, "ds = '2024-04-01' and y = 191"),
        (odd_header, "odd.csv", 30, 1, "ds = '2024-01-02' and col_1 = 1 and col_11 = 4"),
    ],
)
def test_a_guessed_panel_is_cleaned_without_a_refused_row(
    lakehouse: Lakehouse,
    tmp_path: Path,
    make: Callable[[Path], Path],
    name: str,
    rows: int,
    series: int,
    one: str,
) -> None:
    clean.run(guessed(tmp_path, make(tmp_path / name)), lakehouse)

    panel = lakehouse.read("silver.panel").toPandas()
    assert lakehouse.read("silver.quarantine").count() == 0
    assert panel["y"].notna().sum() == rows
    assert panel["unique_id"].nunique() == series
    assert lakehouse.read("silver.panel").where(one).count() == 1


def test_guessed_lines_become_baskets_and_a_panel(lakehouse: Lakehouse, tmp_path: Path) -> None:
    clean.run(guessed(tmp_path, x.receipts(tmp_path / "receipts.csv")), lakehouse)

    lines = lakehouse.read("silver.lines")
    assert lines.select("basket_id").distinct().count() == 89
    assert lines.where("ts is null or price is null or customer_id is null").count() == 0
    assert {row["reasons"][0]["rule"] for row in lakehouse.read("silver.quarantine").collect()} == {
        "quantity_not_positive"
    }
    assert lakehouse.read("silver.panel").select("unique_id").distinct().count() == 2


def test_visits_become_baskets_and_their_number_a_panel(lakehouse: Lakehouse, tmp_path: Path) -> None:
    clean.run(guessed(tmp_path, x.visits(tmp_path / "visits.csv")), lakehouse)

    names = {row["basket_id"] for row in lakehouse.read("silver.lines").collect()}
    assert "1001/2024-01-02" in names
    assert len(names) == 60
    assert lakehouse.read("silver.panel").where("y = 1").count() == 60


def test_guessed_baskets_keep_items_of_several_words(lakehouse: Lakehouse, tmp_path: Path) -> None:
    clean.run(guessed(tmp_path, x.baskets(tmp_path / "groceries.csv")), lakehouse)

    baskets = lakehouse.read("silver.baskets")

    assert baskets.count() == 40
    assert baskets.where("array_contains(items, 'whole milk')").count() > 0


def test_the_demos_files_are_cleaned_by_their_guess(lakehouse: Lakehouse, tmp_path: Path) -> None:
    simulate("tiny", 7, tmp_path / "raw")

    clean.run(guessed(tmp_path, *sorted((tmp_path / "raw").glob("*.csv"))), lakehouse)

    panel = lakehouse.read("silver.panel")
    assert panel.select("unique_id").distinct().count() == 8
    assert panel.where("open = 0").count() > 0
    assert lakehouse.read("silver.statics").count() == 8
    assert "promoted_item" in lakehouse.read("silver.calendar").columns
    assert lakehouse.read("silver.lines").select("basket_id").distinct().count() == 3_244
    assert lakehouse.read("silver.quarantine").count() < 0.01 * 24_906
