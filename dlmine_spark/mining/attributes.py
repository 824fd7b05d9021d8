"""Rows of a table as baskets: of who applied or was admitted, the values of attributes are the items."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import AttributesConfig
from dlmine_spark.errors import ConfigError, TableContractError

_NUMBERS = ("double", "float", "bigint", "int", "smallint", "tinyint")


def baskets_of_rows(rows: DataFrame, attributes: AttributesConfig, key: Sequence[str], *further: Column) -> DataFrame:
    """What each row has, as items; blanks are none.

    An item is called ``<column>=<value>``, or of a column that is cut into ranges ``amount<1000``,
    ``1000<=amount<5000``, ``amount>=5000``. Columns that are called alike have items in common: of three columns of
    diagnoses, a diagnosis is the same item in each.

    Args:
        rows: the table.
        attributes: which columns, what they are called, and where they are cut.
        key: columns that name a row; without any, a hash of all of its cells does.
        further: what else is wanted of a row.

    Returns:
        One row per row: ``basket_id``, ``items`` (distinct, in no particular order), and what else is wanted.

    Raises:
        TableContractError: a column is missing.
        ConfigError: a column that is to be cut is no number.
    """
    types = dict(rows.dtypes)
    missing = [name for name in attributes.columns if name not in types]
    if missing:
        raise TableContractError(
            f"mining.attributes.columns: silver.{attributes.source} has no column {', '.join(missing)}; found "
            f"{', '.join(types)}: map it in the source's columns"
        )
    texts = [name for name in attributes.cuts if types[name] not in _NUMBERS]
    if texts:
        raise ConfigError(
            f"mining.attributes.cuts: {texts[0]} of silver.{attributes.source} is no number but {types[texts[0]]}: "
            "declare its type in the source's columns"
        )
    items = F.array(
        *(
            _range(name, word, attributes.cuts[name])
            if name in attributes.cuts
            else F.concat(F.lit(f"{word}="), _text(name, types[name]))
            for name, word in attributes.columns.items()
        )
    )
    named = F.concat_ws("|", *(F.col(f"`{name}`").cast("string") for name in key))
    row_id = named if key else F.hex(F.xxhash64(*(F.col(f"`{name}`") for name in types)))
    return rows.select(row_id.alias(s.BASKET_ID), F.array_distinct(F.array_compact(items)).alias(s.ITEMS), *further)


def _text(name: str, type_: str) -> Column:
    """A value as it is written; whole numbers, which tables hold as doubles, without decimals."""
    value = F.col(f"`{name}`")
    text = value.cast("string")
    return (
        F.when(value == F.floor(value), value.cast("bigint").cast("string")).otherwise(text)
        if type_ == "double"
        else text
    )


def _range(name: str, word: str, cuts: Sequence[float]) -> Column:
    value = F.col(f"`{name}`")
    first, last = _written(cuts[0]), _written(cuts[-1])
    ranges = F.when(value < cuts[0], f"{word}<{first}")
    for low, high in pairwise(cuts):
        ranges = ranges.when(value < high, f"{_written(low)}<={word}<{_written(high)}")
    return ranges.when(value >= cuts[-1], f"{word}>={last}")


def _written(cut: float) -> str:
    return str(int(cut)) if cut.is_integer() else repr(cut)
