"""Segments of rows of a table, such as patients, by columns of numbers."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark.config import RowsConfig
from dlmine_spark.errors import ConfigError, TableContractError
from dlmine_spark.segmentation.features import ENTITY_ID, VALUES

_NUMBERS = ("double", "float", "bigint", "int", "smallint", "tinyint", "boolean")


def row_features(table: DataFrame, rows: RowsConfig, key: Sequence[str]) -> DataFrame:
    """Describe every row: ``entity_id`` (its key, parts joined by ``|``) and ``values`` in the order of ``columns``.

    Raises:
        TableContractError: a column is missing.
        ConfigError: a column is no number.
    """
    types = dict(table.dtypes)
    missing = [name for name in (*key, *rows.columns) if name not in types]
    if missing:
        raise TableContractError(
            f"segmentation.rows: silver.{rows.source} has no column {', '.join(missing)}; found {', '.join(types)}: "
            "map it in the source's columns"
        )
    texts = [name for name in rows.columns if types[name] not in _NUMBERS]
    if texts:
        raise ConfigError(
            f"segmentation.rows.columns: {texts[0]} of silver.{rows.source} is of type {types[texts[0]]}, no number: "
            "declare its type in the source's columns, or leave it out"
        )
    values = (F.coalesce(F.col(f"`{name}`").cast("double"), F.lit(float("nan"))) for name in rows.columns)
    named = F.concat_ws("|", *(F.col(f"`{name}`").cast("string") for name in key))
    return table.select(named.alias(ENTITY_ID), F.array(*values).alias(VALUES))
