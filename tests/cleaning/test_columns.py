"""What columns are: names in bronze, types, what is required, which others are kept and as what."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from dlmine_spark.cleaning.columns import declared_columns, kept_columns, odd_cells, other_columns, shadowed_columns
from dlmine_spark.cleaning.names import bronze_name, bronze_names
from dlmine_spark.cleaning.plan import key_of
from dlmine_spark.config import SourceConfig
from tests.cleaning.examples import bronze, source


def test_bronze_keeps_names_but_for_what_delta_refuses_and_what_is_its_own() -> None:
    assert bronze_names(["\ufeffDate", " Unit Price (€) ", "a.b;c=d", "", "_raw", "Größe", "tab\there"]) == [
        "Date",
        "Unit_Price_€_",
        "a_b_c_d",
        "unnamed_4",
        "_raw_",
        "Größe",
        "tab_here",
    ]
    assert bronze_name("_metadata") == "_metadata_"


def test_known_names_have_types_and_a_key_is_required() -> None:
    declaration = SourceConfig.model_validate(
        {
            "kind": "panel",
            "path": "p.csv",
            "columns": {"unique_id": "store", "ds": "date", "y": "sales", "promo": {"type": "boolean"}},
        }
    )

    resolved = declared_columns(declaration)

    assert {name: (spec.source, spec.type, spec.required) for name, spec in resolved.items()} == {
        "unique_id": ("store", "string", True),
        "ds": ("date", "date", True),
        "y": ("sales", "double", False),
        "promo": ("promo", "boolean", False),
    }
    assert key_of(declaration, resolved) == ("unique_id", "ds")
    assert key_of(declaration, ["ds", "y"]) == ("ds",)


@pytest.mark.spark
def test_other_columns_are_kept_as_numbers_if_every_cell_is_one(spark: SparkSession) -> None:
    declaration = source({"y": {"from": "sales", "type": "double"}}, other_columns="keep")
    rows = bronze(
        spark,
        ["sales", "Y", "temperature", "code", "plu", "note", "blank", "item"],
        ("1", "9", "12,5", "007", "4006381333931", "1", None, "12"),
        ("2", "9", " n/a", "12", "40063813339310001", "x", "", "13"),
        (None, None, None, None, None, "broken", None, None),
        raw=[None, None, "broken"],
    )

    others = other_columns(rows, declaration)

    assert others == ["temperature", "code", "plu", "note", "blank", "item"]
    # Its name is taken by a mapped column, case aside.
    assert shadowed_columns(rows, declaration) == ["Y"]
    odd = odd_cells(rows, others, declaration).collect()[0].asDict()
    assert {name: spec.type for name, spec in kept_columns(odd).items()} == {
        "temperature": "double",
        "code": "string",
        "plu": "string",
        "note": "string",
        "blank": "double",
        "item": "string",
    }


@pytest.mark.spark
def test_other_columns_are_dropped_unless_wanted(spark: SparkSession) -> None:
    declaration = source({"y": {"from": "sales"}})

    assert other_columns(bronze(spark, ["sales", "note"], ("1", "x")), declaration) == []
