"""Guesses about public data (skipped where there is none): kind and columns, by a configuration that loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dlmine_spark.pipelines import init
from tests.guessing import examples as x


def mapped(source: dict[str, Any]) -> dict[str, str]:
    """Our column -> its column in the file."""
    return {name: one if isinstance(one, str) else one["from"] for name, one in source["columns"].items()}


@pytest.mark.parametrize(
    ("name", "kind", "columns", "horizon"),
    [
        (
            "online_retail/online_retail_2010-12_to_2011-12.csv.gz",
            "lines",
            {
                "basket_id": "InvoiceNo",
                "item": "StockCode",
                "ts": "InvoiceDate",
                "quantity": "Quantity",
                "price": "UnitPrice",
                "customer_id": "CustomerID",
                "store_id": "Country",
                "description": "Description",
            },
            28,
        ),
        (
            "cheese/cheese.csv",
            "panel",
            {"ds": "WEEK_IDX", "unique_id": "RETAILER", "y": "VOLUME", "disp": "DISP", "price": "PRICE"},
            12,
        ),
        (
            "aus_retail/aus_retail.csv.gz",
            "panel",
            {"ds": "Month", "unique_id": "Series ID", "y": "Turnover", "state": "State", "industry": "Industry"},
            12,
        ),
        (
            "completejourney/transactions_sample.csv.gz",
            "lines",
            {
                "basket_id": "basket_id",
                "item": "product_id",
                "ts": "transaction_timestamp",
                "quantity": "quantity",
                "customer_id": "household_id",
                "store_id": "store_id",
                "sales_value": "sales_value",
                "retail_disc": "retail_disc",
                "coupon_disc": "coupon_disc",
                "coupon_match_disc": "coupon_match_disc",
                "week": "week",
            },
            28,
        ),
    ],
)
def test_tables(public_data: Path, tmp_path: Path, name: str, kind: str, columns: dict[str, str], horizon: int) -> None:
    config = x.configured(tmp_path, public_data / name)

    (source,) = config["sources"].values()
    assert source["kind"] == kind
    assert mapped(source) == columns
    assert config["evaluation"]["horizon"] == horizon


@pytest.mark.parametrize(
    ("name", "separator"),
    [
        ("groceries/groceries.csv", ","),
        ("fimi/retail_fimi.dat", r"\s+"),
        ("fimi/mushroom_fimi.dat", r"\s+"),
        ("uci_discrete/heart-cleveland.dat", r"\s+"),
        ("uci_discrete/german-credit.dat", r"\s+"),
    ],
)
def test_baskets(public_data: Path, tmp_path: Path, name: str, separator: str) -> None:
    assert x.source_of(tmp_path, public_data / name) == {"kind": "baskets", "format": "text", "separator": separator}


def test_hospital_is_wide_and_is_turned(public_data: Path, tmp_path: Path) -> None:
    told = init.reshape(str(public_data / "hospital" / "hospital_wide.csv"), tmp_path / "hospital.csv")
    config = x.configured(tmp_path, tmp_path / "hospital.csv")

    assert told.startswith(f"{767 * 84:,} rows")
    assert mapped(config["sources"]["hospital"]) == {"ds": "ds", "unique_id": "unique_id", "y": "y"}
    assert config["evaluation"] == {"horizon": 12}


def test_the_files_of_complete_journey_go_together(public_data: Path, tmp_path: Path) -> None:
    names = ("transactions_sample", "products", "demographics", "campaigns", "coupon_redemptions")
    config = x.configured(tmp_path, *(public_data / "completejourney" / f"{name}.csv.gz" for name in names))

    kinds = {name: source["kind"] for name, source in config["sources"].items()}
    assert kinds == {"transactions_sample": "lines"} | dict.fromkeys(names[1:], "table")
    # There is no price to multiply a quantity with.
    assert config["cleaning"] == {"panel_value": "quantity"}
