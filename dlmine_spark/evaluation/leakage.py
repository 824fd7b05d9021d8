"""What comes after a cutoff replaced by noise, and whether anything made for the cutoff changes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.frequency import Moment, sql_literal

TOLERANCE = 1e-6
"""Of a number, as a share of it (or of 1, where it is smaller): sums over partitions may round differently."""
_NUMBERS = ("double", "float", "bigint", "int", "smallint", "tinyint", "decimal")


@dataclass(frozen=True, slots=True)
class Leak:
    """A column that knows more than its cutoff allows, and how that is known."""

    table: str
    column: str
    cutoff: Moment
    proof: str

    def __str__(self) -> str:
        """For the terminal."""
        return f"{self.table}: column {self.column}, cutoff {self.cutoff}: {self.proof}"


def with_noise(rows: DataFrame, names: Sequence[str], is_later: Column, key: Sequence[str]) -> DataFrame:
    """The rows, of which the later ones have noise where they had values; blanks stay blanks.

    Args:
        rows: of any table.
        names: columns that get noise; those of numbers, texts and truth values, others become blank.
        is_later: which rows.
        key: columns that the noise follows from, so that it is the same whenever the plan is computed.
    """
    types = dict(rows.dtypes)

    def noise(name: str) -> Column:
        number = F.pmod(F.xxhash64(F.lit(name), *(F.col(f"`{part}`") for part in key)), F.lit(1000))
        type_ = types[name]
        if type_ == "string":
            return F.concat(F.lit("noise "), F.pmod(number, F.lit(20)))
        if type_ == "boolean":
            return F.pmod(number, F.lit(2)) == 1
        return number.cast(type_) if type_.startswith(_NUMBERS) else F.lit(None).cast(type_)

    return rows.withColumns(
        {
            name: F.when(is_later & F.col(f"`{name}`").isNotNull(), noise(name)).otherwise(F.col(f"`{name}`"))
            for name in names
        }
    )


def changed_columns(one: DataFrame, other: DataFrame) -> list[str]:
    """Columns that differ between two training panels of the same cutoff (one aggregation).

    A covariate that one of them lacks counts as 0 there: a panel has the indicators of other cutoffs, too.

    Args:
        one, other: rows of ``gold.training_panel``, at most one per series and date.
    """
    keys = [s.UNIQUE_ID, s.DS]
    columns = [name for name in dict.fromkeys([*one.columns, *other.columns]) if name not in (*keys, s.CUTOFF)]
    types = dict(other.dtypes) | dict(one.dtypes)

    def side(rows: DataFrame, mark: str) -> DataFrame:
        values = [
            (F.col(f"`{name}`") if name in rows.columns else F.lit(0.0)).alias(f"{mark}{name}") for name in columns
        ]
        return rows.select(*keys, *values)

    both = side(one, "1:").join(side(other, "2:"), on=keys, how="full")
    differs = [_differs(F.col(f"`1:{name}`"), F.col(f"`2:{name}`"), types[name]).alias(name) for name in columns]
    found = both.select(*differs).agg(*(F.max(F.col(f"`{name}`")).alias(name) for name in columns)).collect()[0]
    return [name for name in columns if found[name]]


def _differs(one: Column, other: Column, type_: str) -> Column:
    if not type_.startswith(("double", "float")):
        return ~one.eqNullSafe(other)
    bound = TOLERANCE * F.greatest(F.abs(one), F.abs(other), F.lit(1.0))
    # Null against a number is a difference, null against null is none.
    return F.coalesce(F.abs(one - other) > bound, ~one.eqNullSafe(other))


def newer_than_cutoff(lineage: DataFrame, cutoffs: Sequence[Moment]) -> list[Leak]:
    """What ``ops.lineage`` itself says to be newer than its cutoff."""
    rows = (
        lineage.where((F.col("newest") > F.col(s.CUTOFF)) & _is_one_of(cutoffs)).orderBy(s.CUTOFF, "column").collect()
    )
    return [
        Leak(
            s.TRAINING_PANEL.name,
            row["column"],
            row[s.CUTOFF],
            f"it was made from {row['source']} (version {row['source_version']}) up to {row['newest']}",
        )
        for row in rows
    ]


def fitted_after_origin(training_panel: DataFrame, origins: DataFrame, cutoffs: Sequence[Moment]) -> list[Leak]:
    """ARIMA paths in use whose parameters were fitted after the path's origin, or of which there is no record.

    Args:
        training_panel: ``gold.training_panel``.
        origins: ``gold.arima_origins`` that its paths were taken from.
        cutoffs: those of the backtest.
    """
    paths = training_panel.where(F.col("arima_path").isNotNull() & _is_one_of(cutoffs)).select(
        s.CUTOFF, s.UNIQUE_ID, F.col(s.DS).alias("origin")
    )
    on_record = paths.join(origins.select(s.UNIQUE_ID, "origin", "fit_cutoff"), on=[s.UNIQUE_ID, "origin"], how="left")
    wrong = on_record.where(F.coalesce(F.col("fit_cutoff") > F.col("origin"), F.lit(True)))
    example = F.min_by(F.struct(s.UNIQUE_ID, "origin", "fit_cutoff"), F.struct(s.UNIQUE_ID, "origin")).alias("of")
    return [
        Leak(
            s.TRAINING_PANEL.name,
            "arima_path",
            row[s.CUTOFF],
            f"the forecast of series {row['of'][s.UNIQUE_ID]} from {row['of']['origin']} has parameters fitted "
            f"up to {row['of']['fit_cutoff'] or 'a date that gold.arima_origins does not tell'}",
        )
        for row in wrong.groupBy(s.CUTOFF).agg(example).orderBy(s.CUTOFF).collect()
    ]


def _is_one_of(cutoffs: Sequence[Moment]) -> Column:
    return F.col(s.CUTOFF).isin([F.expr(sql_literal(cutoff)) for cutoff in cutoffs])
