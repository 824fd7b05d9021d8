"""What each shape of file is taken for: a small file in, the source of the configuration out."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from dlmine_spark.errors import SourceError
from dlmine_spark.pipelines import init
from tests.guessing import examples as x


def test_the_smallest_file_is_one_series_of_days(tmp_path: Path) -> None:
    config = x.configured(tmp_path, x.daily_sales(tmp_path / "my sales.csv"))

    assert config["sources"]["my_sales"]["columns"] == {"ds": "date", "y": "sales"}
    assert config["sources"]["my_sales"]["kind"] == "panel"
    assert config["evaluation"] == {"horizon": 12}


def test_a_german_file_has_its_delimiter_encoding_decimal_and_dates_declared(tmp_path: Path) -> None:
    assert x.source_of(tmp_path, x.german_sales(tmp_path / "filialen.csv")) == {
        "kind": "panel",
        "delimiter": ";",
        "encoding": "cp1252",
        "columns": {
            "ds": {"from": "Datum", "formats": ["dd.MM.yyyy"]},
            "unique_id": "Filiale",
            "y": {"from": "Umsatz (€)", "decimal": ","},
            "promo": {"from": "Aktion", "type": "boolean"},
        },
        "roles": {"promo": "known_future"},
    }


def test_months_of_several_series(tmp_path: Path) -> None:
    config = x.configured(tmp_path, x.monthly_patients(tmp_path / "hospital.csv"))

    assert config["sources"]["hospital"]["columns"] == {
        "ds": {"from": "month", "formats": ["yyyy-MM"]},
        "unique_id": "hospital unit",
        "y": "patients",
    }
    assert config["evaluation"] == {"horizon": 9}


def test_covariates_have_roles_by_name_and_content(tmp_path: Path) -> None:
    config = x.configured(tmp_path, x.weekly_store_sales(tmp_path / "walmart.csv"))

    assert config["sources"]["walmart"]["roles"] == {
        "is_holiday": "known_future",
        "price": "known_future",
        "region": "static",
        "temperature": "past_only",
    }
    columns = config["sources"]["walmart"]["columns"]
    assert columns["is_holiday"] == {"from": "IsHoliday", "type": "boolean"}
    assert columns["y"] == "Weekly_Sales"
    assert columns["unique_id"] == "Store"
    assert config["evaluation"] == {"horizon": 13}


def test_lines_of_receipts_with_returns_kept_out(tmp_path: Path) -> None:
    assert x.source_of(tmp_path, x.receipts(tmp_path / "receipts.csv")) == {
        "kind": "lines",
        "columns": {
            "basket_id": "ReceiptNo",
            "item": "Article",
            "ts": "Time",
            "quantity": "Qty",
            "price": "UnitPrice",
            "customer_id": "Card",
            "store_id": "Branch",
            "text": "Text",
        },
        "rules": [{"name": "quantity_not_positive", "expr": "quantity > 0"}],
    }


@pytest.mark.parametrize(("delimiter", "separator"), [(",", ","), (" ", r"\s+"), ("|", r"\|")])
def test_lines_of_any_number_of_items_are_baskets(tmp_path: Path, delimiter: str, separator: str) -> None:
    lines = [[f"item{(place * step) % 7}" for step in range(1, 2 + place % 5)] for place in range(40)]
    file = x.write(tmp_path / "baskets.txt", ([*dict.fromkeys(line)] for line in lines), delimiter=delimiter)

    assert x.source_of(tmp_path, file) == {"kind": "baskets", "format": "text", "separator": separator}


def test_baskets_of_numbers_may_all_have_as_many(tmp_path: Path) -> None:
    file = x.write(tmp_path / "mushroom.dat", ([1 + place % 2, 3 + place % 3, 9] for place in range(30)), delimiter=" ")

    assert x.source_of(tmp_path, file)["kind"] == "baskets"


def test_a_series_may_need_two_columns_which_a_rule_joins(tmp_path: Path) -> None:
    source = x.source_of(tmp_path, x.two_keys(tmp_path / "shelf.csv"))

    assert source["columns"] == {"ds": "day", "unique_id": "store", "sku": "sku", "y": "qty"}
    assert source["rules"] == [
        {
            "name": "series",
            "expr": "false",
            "action": "repair",
            "set": {"unique_id": "concat(unique_id, '/', `sku`)"},
        }
    ]


def test_single_sales_are_summed_by_the_day(tmp_path: Path) -> None:
    assert x.source_of(tmp_path, x.single_sales(tmp_path / "sales.csv")) == {
        "kind": "panel",
        "columns": {"ds": {"from": "timestamp", "type": "date"}, "unique_id": "store", "y": "amount"},
        "keep": "sum",
        "sum_columns": ["y"],
    }


def test_a_price_is_forecast_where_there_is_no_other_number(tmp_path: Path) -> None:
    rows = [(day, 20 + day.day / 8) for day in x.days(60)]

    assert x.source_of(tmp_path, x.write(tmp_path / "share.csv", [("date", "price"), *rows]))["columns"]["y"] == "price"


def test_a_short_history_asks_less_of_a_model(tmp_path: Path) -> None:
    rows = [(month, place % 5) for place, month in enumerate(x.months(12))]
    config = x.configured(tmp_path, x.write(tmp_path / "young.csv", [("month", "sales"), *rows]))

    assert config["arima"] == {"min_history": 4}
    assert config["evaluation"] == {"horizon": 2}


def test_the_first_price_of_a_day_is_no_opening(tmp_path: Path) -> None:
    rows = [(day, 20 + day.day, 21 + day.day % 4, 9000 + day.day) for day in x.days(60)]
    source = x.source_of(tmp_path, x.write(tmp_path / "share.csv", [("Date", "Open", "Close", "Volume"), *rows]))

    assert list(source["columns"]) == ["ds", "y", "open_", "close"]
    assert source["roles"] == {"open_": "past_only", "close": "past_only"}


def test_without_baskets_a_customer_and_a_date_are_one(tmp_path: Path) -> None:
    source = x.source_of(tmp_path, x.visits(tmp_path / "groceries.csv"))

    assert source["columns"] == {
        "basket_id": "Member_number",
        "item": "itemDescription",
        "customer_id": "Member_number",
        "ts": {"from": "Date", "formats": ["dd-MM-yyyy"]},
    }
    assert source["rules"][0]["set"] == {"basket_id": "concat(basket_id, '/', date(ts))"}


def test_weeks_that_are_counted_have_their_season_by_name(tmp_path: Path) -> None:
    rows = [(shop, week, 5 * week % 52) for shop in ("A", "B") for week in range(1, 121)]
    config = x.configured(tmp_path, x.write(tmp_path / "cheese.csv", [("RETAILER", "WEEK_IDX", "VOLUME"), *rows]))

    assert config["sources"]["cheese"]["columns"]["ds"] == {"from": "WEEK_IDX", "type": "integer"}
    assert config["arima"] == {"season_length": 52}


def test_what_becomes_of_offsets_is_said(tmp_path: Path) -> None:
    hours = [f"{day}T{hour:02d}:00:00+02:00" for day in x.days(5) for hour in range(24)]
    hourly = x.write(tmp_path / "load.csv", [("time", "load"), *((hour, at) for at, hour in enumerate(hours))])

    assert "told in UTC" in init.run([str(hourly)], tmp_path / "hourly.yaml")
    nights = x.nights_with_offset(tmp_path / "nights.csv")
    assert "as written: an offset from UTC moves none to another day" in init.run([str(nights)], tmp_path / "d.yaml")


def test_hours_are_steps_of_their_own(tmp_path: Path) -> None:
    rows = [(f"{day}T{hour:02d}:00:00", 10 + hour) for day in x.days(20) for hour in range(24)]
    config = x.configured(tmp_path, x.write(tmp_path / "load.csv", [("time", "load_mw"), *rows]))

    assert config["sources"]["load"]["columns"] == {"ds": "time", "y": "load_mw"}
    assert config["evaluation"] == {"horizon": 48}


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        # Days follow each other only if the day comes second.
        ([f"{day:%m/%d/%Y}" for day in x.days(12)], "MM/dd/yyyy"),
        ([f"{day:%d/%m/%Y}" for day in x.days(12)], "dd/MM/yyyy"),
        ([f"{day:%m/%d/%Y}" for day in x.days(60)], "MM/dd/yyyy"),
        ([f"{day.day}-{day:%b}-{day:%Y}" for day in x.days(60, date(2024, 2, 10))], "d-MMM-yyyy"),
        ([f"{day:%Y%m%d}" for day in x.days(60)], "yyyyMMdd"),
    ],
)
def test_dates_in_any_order(tmp_path: Path, dates: list[str], expected: str) -> None:
    file = x.write(
        tmp_path / "dated.csv",
        [("date", "sales"), *((day, 5 + place) for place, day in enumerate(dates))],
    )

    assert x.source_of(tmp_path, file)["columns"]["ds"] == {"from": "date", "formats": [expected]}


def test_a_mostly_clean_column_has_the_formats_of_its_dirt_too(tmp_path: Path) -> None:
    cells = [f"{day}" for day in x.days(60)]
    cells[7], cells[30] = "08.01.2024", "n/a"
    file = x.write(tmp_path / "dirty.csv", [("date", "sales"), *((day, place) for place, day in enumerate(cells))])

    assert x.source_of(tmp_path, file)["columns"]["ds"] == {"from": "date", "formats": ["yyyy-MM-dd", "dd.MM.yyyy"]}


def test_further_words_for_missing_are_declared(tmp_path: Path) -> None:
    rows = [
        (day, "missing" if place == 9 else place, "tbd" if place == 3 else place)
        for place, day in enumerate(x.days(60))
    ]
    source = x.source_of(tmp_path, x.write(tmp_path / "gaps.csv", [("date", "sales", "visitors"), *rows]))

    assert {"missing", "tbd"} <= set(source["null_tokens"])
    assert {"", "NA"} <= set(source["null_tokens"])


def test_json_lines_and_an_array_of_records(tmp_path: Path) -> None:
    records = [{"when": f"{day}", "shop": "A", "sold": place} for place, day in enumerate(x.days(30))]
    lines, array = tmp_path / "lines.jsonl", tmp_path / "array.json"
    lines.write_text("\n".join(map(json.dumps, records)))
    array.write_text(json.dumps(records, indent=1))

    expected = {"kind": "panel", "format": "json", "columns": {"ds": "when", "unique_id": "shop", "y": "sold"}}
    assert x.source_of(tmp_path, lines) == expected
    assert x.source_of(tmp_path, array) == expected | {"multiline": True}


def test_lines_that_are_no_json_are_counted(tmp_path: Path) -> None:
    lines = [json.dumps({"day": f"{day}", "sold": at}) for at, day in enumerate(x.days(30))]
    file = tmp_path / "sold.jsonl"
    file.write_text("\n".join([*lines[:9], "{broken", *lines[9:], "[1]"]), encoding="utf-8")

    assert "2 of 32 lines are no JSON object, the first is line 10" in init.run([str(file)], tmp_path / "sold.yaml")


def test_a_list_beside_a_number_over_time_hides_no_panel(tmp_path: Path) -> None:
    frame = pd.DataFrame({"day": x.days(30), "sales": range(30), "remarks": [["rain", "fair"], []] * 15})
    frame.to_parquet(tmp_path / "p.parquet")

    source = x.source_of(tmp_path, tmp_path / "p.parquet")

    assert source == {"kind": "panel", "format": "parquet", "columns": {"ds": "day", "y": "sales"}}


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "unique_id": ["a"] * 50 + ["b"] * 50,
            "ds": pd.to_datetime(x.days(50) * 2),
            "y": [float(place) for place in range(100)],
            "onpromotion": [place % 4 == 0 for place in range(100)],
            "code": [f"{place:03d}" for place in range(100)],
        }
    )
    frame.to_parquet(tmp_path / "panel.parquet")

    source = x.source_of(tmp_path, tmp_path / "panel.parquet")

    assert source["format"] == "parquet"
    assert source["columns"] == {
        "ds": "ds",
        "unique_id": "unique_id",
        "y": "y",
        "promo": {"from": "onpromotion", "type": "boolean"},
        "code": "code",
    }
    assert source["roles"] == {"promo": "known_future", "code": "past_only"}


def test_a_delta_folder(tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    table = pa.table({"day": x.days(40), "sales": list(range(40))})
    deltalake.write_deltalake(str(tmp_path / "tables" / "sales"), table)

    source = x.source_of(tmp_path, tmp_path / "tables" / "sales")

    assert source == {"kind": "panel", "format": "delta", "columns": {"ds": "day", "y": "sales"}}


def test_a_column_of_lists_holds_baskets(tmp_path: Path) -> None:
    pd.DataFrame({"order_id": range(9), "products": [["a", "b"], ["a"], ["b", "c"]] * 3}).to_parquet(
        tmp_path / "o.parquet"
    )

    source = x.source_of(tmp_path, tmp_path / "o.parquet")

    assert source == {"kind": "baskets", "format": "parquet", "columns": {"items": "products", "basket_id": "order_id"}}


def test_packed_and_wide_encodings(tmp_path: Path) -> None:
    assert x.source_of(tmp_path, x.daily_sales(tmp_path / "s.csv.gz")) == {
        "kind": "panel",
        "columns": {"ds": "date", "y": "sales"},
    }
    assert x.source_of(tmp_path, x.daily_sales(tmp_path / "w.csv", encoding="utf-16"))["encoding"] == "UTF-16"


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([("shop", "size"), ("A", 7), ("B", 9)], "lacks a column of dates"),
        ([("date", "shop"), *((day, "A") for day in x.days(9))], "a number to forecast"),
        (
            [("time", "sales"), *((1672531200000 + 86_400_000 * day, day % 7) for day in range(60))],
            "time looks like seconds since 1970, or parts of them: write them as dates",
        ),
        ([("date", "sales"), *((day, 7) for day in x.days(30))], "sales is 7 in all rows: there is nothing to learn"),
        ([("date", "sales"), ("2024-01-01", 7)], "holds one row: a forecast that is tested needs 4 dates at least"),
        (
            [("Umsatz je Tag",), ("Stand", "5", "2024"), ("date", "sales"), *((day, day.day) for day in x.days(30))],
            "line 3 (date,sales) looks like the header, and what is above it like a title: remove these lines",
        ),
        ([("date", "sales")], "holds a header"),
        ([(day, place) for place, day in enumerate(x.days(9))], "looks like data: add a header line"),
        ([("date", "sales"), *((day, 1 + day.day) for day in x.days(9, step=4))], "4 days apart"),
        ([("date", "sales"), ("2024-01-01", 1), ("2024-01-02", 2)], "a forecast that is tested needs 4"),
        (
            [
                ("day", *(f"x{n}" for n in range(12))),
                *((day, *(day.day % 9 + n for n in range(12))) for day in x.days(30)),
            ],
            "attributes rather than series, since they are called x0, x1 and so on, and none that sounds like what is",
        ),
        (
            [("year", "month", "sales"), *((2020 + n // 12, n % 12 + 1, n) for n in range(48))],
            "year and month: add one",
        ),
        ([("date", "sales", "Sales"), ("2024-01-01", 1, 2)], "are the same to Spark"),
        ([("to whom it may concern",), ("this is a letter and no table",), ("yours",)], "neither a table nor baskets"),
    ],
)
def test_what_cannot_be_used_is_named_with_what_to_add(
    tmp_path: Path, rows: list[tuple[object, ...]], problem: str
) -> None:
    file = x.write(tmp_path / "odd.csv", rows)

    with pytest.raises(SourceError, match=r"odd\.csv") as raised:
        x.configured(tmp_path, file)

    assert problem in str(raised.value)
    assert not (tmp_path / "guessed.yaml").exists()


@pytest.mark.parametrize(
    ("names", "value", "why"),
    [
        ("x{}", lambda at, n: at % (n + 3), "they are called x0, x1 and so on"),
        ("unit{}", lambda at, n: at % (n + 3) / 2 if n % 2 else at % (n + 3), "of them hold whole numbers only"),
        ("unit{}", lambda at, n: at % (n + 3) - 3 * (n % 2), "of them have values below 0"),
        ("unit{}", lambda at, n: (at % (n + 3) + 1) * 10 ** (n // 2), "ten thousand times as large"),
        ("unit{}", lambda at, n: at % (n + 3), None),
    ],
)
def test_attributes_are_told_from_series_by_how_they_are_measured(
    tmp_path: Path, names: str, value: Callable[[int, int], object], why: str | None
) -> None:
    header = ("day", *(names.format(n) for n in range(12)))
    rows = [(day, *(value(at, n) for n in range(12))) for at, day in enumerate(x.days(30))]
    file = x.write(tmp_path / "many.csv", [header, *rows])

    with pytest.raises(SourceError, match="has a column for each series" if why is None else why):
        x.configured(tmp_path, file)


def test_many_numbers_beside_a_named_one_are_its_covariates(tmp_path: Path) -> None:
    header = ("date", "sales", *(f"f_{n}" for n in range(29)), "feature_29")
    rows = [(day, 10 + at % 7, *(at % (n + 3) for n in range(30))) for at, day in enumerate(x.days(60))]
    file = x.write(tmp_path / "features.csv", [header, *rows])

    told = init.run([str(file)], tmp_path / "features.yaml")

    assert "29 numbers beside it (f_0, ...) are taken for its covariates, since sales sounds like what is" in told
    source = x.source_of(tmp_path, file)
    assert source["columns"]["y"] == "sales"
    # A feature with a number is none of an advertisement, which would be known in advance.
    assert list(source["roles"].values()) == ["past_only"] * 30
    # Who knows better says so.
    assert init.reshape(str(file), tmp_path / "long.csv") == "1,740 rows, one for each date and series"


def test_a_file_with_a_column_for_each_series_says_how_to_turn_it(tmp_path: Path) -> None:
    header = ("month", *(f"T{unit}" for unit in range(1, 13)))
    rows = [(month, *(unit + place for unit in range(12))) for place, month in enumerate(x.months(24))]
    file = x.write(tmp_path / "wide.csv", [header, *rows])

    with pytest.raises(SourceError, match=r"a column for each series or date \(T1, T2, T3.*--long wide_long\.csv"):
        x.configured(tmp_path, file)
