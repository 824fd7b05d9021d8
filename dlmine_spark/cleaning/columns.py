"""What a source's columns are, with nothing left open: their types, which are required, which identify a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.names import bronze_name
from dlmine_spark.cleaning.parse import number, present, trimmed
from dlmine_spark.cleaning.plan import key_of
from dlmine_spark.config import CANONICAL_TYPES, ColumnConfig, SourceConfig

_IDENTIFIERS = (s.UNIQUE_ID, s.BASKET_ID, s.ITEM, s.CUSTOMER_ID, s.STORE_ID)
# 007 is a name, and so is what is too long to be counted with.
_LOOKS_LIKE_A_CODE = r"^[+-]?0\d|\d{16}"


def declared_columns(source: SourceConfig) -> dict[str, ColumnConfig]:
    """The mapped columns with type and need resolved: a row without a value in its key cannot be told from others."""
    key = key_of(source, source.columns)
    return {
        name: spec.model_copy(
            update={
                "source": spec.source or name,
                "type": source.column_type(name),
                "required": source.is_required(name) or (name in key and spec.required is not False),
            }
        )
        for name, spec in source.columns.items()
    }


def other_columns(bronze: DataFrame, source: SourceConfig) -> list[str]:
    """The columns of a file that are kept under their own name: not mapped, and the name is free (case aside)."""
    return [name for name in _unmapped(bronze, source) if not _is_taken(name, source)]


def shadowed_columns(bronze: DataFrame, source: SourceConfig) -> list[str]:
    """Columns of a file that would be kept, but whose name a mapped column or cleaning itself has."""
    return [name for name in _unmapped(bronze, source) if _is_taken(name, source)]


def odd_cells(bronze: DataFrame, names: Sequence[str], source: SourceConfig) -> DataFrame:
    """One row: for each column, how many of its cells are no numbers."""
    lines = bronze.where(F.col(s.RAW_LINE).isNull())
    cells = lines.select(*(trimmed(F.col(f"`{name}`")).alias(name) for name in names))
    texts = cells.select(*(present(F.col(f"`{name}`"), source.null_tokens).alias(name) for name in names))
    return texts.agg(
        *(
            F.count_if(
                F.col(f"`{name}`").isNotNull()
                & (number(F.col(f"`{name}`"), ".").isNull() | F.col(f"`{name}`").rlike(_LOOKS_LIKE_A_CODE))
            ).alias(name)
            for name in names
        )
    )


def kept_columns(odd: Mapping[str, int]) -> dict[str, ColumnConfig]:
    """Declarations of kept columns: a known name has its known type; else numbers, where no cell is anything else."""
    declarations = {}
    for name, count in odd.items():
        type_ = "string" if name in _IDENTIFIERS else CANONICAL_TYPES.get(name, "string" if count else "double")
        declarations[name] = ColumnConfig.model_validate({"from": name, "type": type_, "required": False})
    return declarations


def _unmapped(bronze: DataFrame, source: SourceConfig) -> list[str]:
    if source.other_columns == "drop":
        return []
    mapped = {bronze_name(spec.source or name).lower() for name, spec in source.columns.items()}
    return [name for name in bronze.columns if name.lower() not in mapped and name not in s.BRONZE_METADATA]


def _is_taken(name: str, source: SourceConfig) -> bool:
    return name.startswith("__") or name.lower() in {column.lower() for column in source.columns}
