"""Several files at once: which is the panel or the lines, and what the others are to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlmine_spark.datasets.simulate import simulate
from dlmine_spark.errors import SourceError
from tests.guessing import examples as x


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    simulate("tiny", 7, folder)
    return folder


def test_the_demos_files_are_taken_for_what_they_are(tmp_path: Path, demo: Path) -> None:
    config = x.configured(tmp_path, *sorted(demo.glob("*.csv")))

    sources = config["sources"]
    assert {name: source["kind"] for name, source in sources.items()} == {
        "calendar": "calendar",
        "receipts": "lines",
        "sales": "panel",
        "stores": "statics",
    }
    assert sources["receipts"]["path"] == str(demo / "receipts_000*.csv")
    assert sources["receipts"]["delimiter"] == ";"
    mapped = {name: {ours: one if isinstance(one, str) else one["from"] for ours, one in source["columns"].items()}
              for name, source in sources.items()}  # fmt: skip
    assert mapped["receipts"] == {
        "basket_id": "receipt",
        "item": "item",
        "ts": "time",
        "quantity": "quantity",
        "price": "price",
        "customer_id": "customer",
        "store_id": "store",
        "category": "category",
    }
    assert mapped["sales"] == {"ds": "date", "unique_id": "store", "y": "sales", "visitors": "visitors"}
    assert mapped["calendar"] == {
        "ds": "date",
        "unique_id": "store",
        "open": "open",
        "promo": "promo",
        "promoted_item": "promoted_item",
        "holiday": "holiday",
        "school_holiday": "school_holiday",
    }
    assert mapped["stores"] == {"unique_id": "store", "region": "region", "size_m2": "size_m2", "opened": "opened"}
    assert set(sources["sales"]["columns"]["ds"]["formats"]) == {
        "yyyy-MM-dd", "dd.MM.yyyy", "MM/dd/yyyy", "dd-MMM-yyyy",
    }  # fmt: skip
    assert sources["sales"]["roles"] == {"visitors": "past_only"}
    assert config["mining"] == {"promoted_item": "promoted_item"}
    assert config["evaluation"] == {"horizon": 28}


def test_a_calendar_may_hold_for_all_series(tmp_path: Path) -> None:
    sales = x.weekly_store_sales(tmp_path / "sales.csv")
    holidays = x.write(tmp_path / "holidays.csv", [("day", "what"), *((day, "fair") for day in x.days(9, step=30))])

    sources = x.configured(tmp_path, holidays, sales)["sources"]

    assert sources["holidays"]["kind"] == "calendar"
    assert sources["holidays"]["columns"] == {"ds": "day"}


def test_beside_mere_baskets_there_are_no_dates_to_say_something_of(tmp_path: Path) -> None:
    holidays = x.write(tmp_path / "holidays.csv", [("day", "what"), *((day, "fair") for day in x.days(9, step=30))])

    sources = x.configured(tmp_path, holidays, x.baskets(tmp_path / "groceries.csv"))["sources"]

    assert {name: source["kind"] for name, source in sources.items()} == {"holidays": "table", "groceries": "baskets"}


def test_what_has_nothing_to_do_with_the_series_is_a_table(tmp_path: Path) -> None:
    products = x.write(tmp_path / "panel.csv", [("Article", "group"), *((f"A{item}", item % 2) for item in range(5))])

    sources = x.configured(tmp_path, x.receipts(tmp_path / "receipts.csv"), products)["sources"]

    # silver.panel is another table.
    assert sources["panel_data"]["kind"] == "table"
    assert sources["panel_data"]["columns"]["article"] == "Article"


def test_beside_lines_a_number_needs_a_name_to_be_forecast(tmp_path: Path) -> None:
    receipts = x.receipts(tmp_path / "receipts.csv")
    weather = x.write(tmp_path / "weather.csv", [("date", "degrees"), *((day, day.day) for day in x.days(90))])

    sources = x.configured(tmp_path, receipts, weather)["sources"]

    assert [source["kind"] for source in sources.values()] == ["lines", "calendar"]


def test_files_of_one_shape_need_a_pattern_of_their_own(tmp_path: Path) -> None:
    for name in ("sales_2024.csv", "sales_2025.csv", "sales_old.csv"):
        x.daily_sales(tmp_path / name)

    both = [tmp_path / "sales_2024.csv", tmp_path / "sales_2025.csv"]
    assert next(iter(x.configured(tmp_path, *both)["sources"].values()))["path"] == str(tmp_path / "sales_202*.csv")
    with pytest.raises(SourceError, match="matches others, too"):
        x.configured(tmp_path, tmp_path / "sales_2024.csv", tmp_path / "sales_old.csv")
