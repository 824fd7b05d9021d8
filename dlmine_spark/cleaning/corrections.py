"""Corrections by hand: rows that were refused, as somebody says they should have been."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.plan import shown_row

_CORRECTED, _ROW = "__corrected", "__row"


def with_corrections(bronze: DataFrame, corrections: DataFrame) -> DataFrame:
    """Replace the cells of rows that have a correction; their place and number stay, and so does bronze itself.

    Args:
        bronze: rows as they came.
        corrections: ``row`` (a row as ``silver.quarantine`` shows it, at most once) and ``corrected`` (JSON, from
            ``corrected_row``).

    Returns:
        The same number of rows.
    """
    cells = [name for name in bronze.columns if name not in s.BRONZE_METADATA]
    types = ", ".join(f"`{name}` string" for name in cells)
    named = corrections.select(
        row_now(F.col("row"), bronze).alias(_ROW), F.from_json("corrected", types).alias(_CORRECTED)
    )
    joined = bronze.withColumn(_ROW, row_of(bronze)).join(named, on=_ROW, how="left")
    is_corrected = F.col(_CORRECTED).isNotNull()
    changed = {name: F.when(is_corrected, F.col(_CORRECTED)[name]).otherwise(F.col(f"`{name}`")) for name in cells}
    changed[s.RAW_LINE] = F.when(~is_corrected, F.col(s.RAW_LINE))
    return joined.select(*(changed.get(name, F.col(name)).alias(name) for name in bronze.columns))


def row_of(bronze: DataFrame) -> Column:
    """A row of bronze as ``silver.quarantine`` shows it."""
    return shown_row(F.struct(*(F.col(f"`{name}`") for name in bronze.columns if name not in s.BRONZE_METADATA)))


def row_now(row: Column, bronze: DataFrame) -> Column:
    """A row as ``silver.quarantine`` showed it, as it would be shown now: bronze may have got further columns since."""
    types = ", ".join(f"`{name}` string" for name in bronze.columns if name not in s.BRONZE_METADATA)
    shown = F.to_json(F.from_json(row, types), {"ignoreNullFields": "false"})
    is_line = F.get_json_object(row, f"$.{s.RAW_LINE}").isNotNull()
    return F.when(is_line, row).otherwise(shown)


def corrected_row(text: Column, bronze: DataFrame) -> Column:
    """A correction in the form in which the row would be shown if it were refused again; null where it is no JSON.

    Cells that it does not name are blank.
    """
    names = [name for name in bronze.columns if name not in s.BRONZE_METADATA]
    # Spark reads a bare number as an object without anything in it.
    cells = F.when(text.rlike(r"^\s*\{"), F.from_json(text, "map<string, string>"))
    row = F.struct(*(F.try_element_at(cells, F.lit(name)).alias(name) for name in names))
    return F.when(cells.isNotNull(), F.to_json(row, {"ignoreNullFields": "false"}))


def unknown_cells(text: Column, bronze: DataFrame) -> Column:
    """The names in a correction that no column of the source has."""
    names = F.array(*(F.lit(name) for name in bronze.columns if name not in s.BRONZE_METADATA))
    return F.array_except(F.map_keys(F.from_json(text, "map<string, string>")), names)
