"""Rows as texts: what rules mined from the data compare, whatever the types of the columns are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark.cleaning.plan import ORDER

ROW_ID, COLUMN, VALUE, COPIES = "__row_id", "column", "value", "copies"
FEWEST_REPEATS = 0.05
"""Share of a column's cells whose value is there more than once; below, the column is an identifier or free text."""
LONGEST_CATEGORY = 120
"""Letters on average; longer values are free text."""
_BATCH = 200
"""Columns an aggregation: Spark's planning grows with its expressions."""


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """What is known of one column's texts."""

    name: str
    place: int
    rows: int
    known: int
    distinct: int
    """Different values (approximate for a column of free text or identifiers)."""
    mean_length: float
    repeated: int = 0
    """Values there more than once; 0 for free text and identifiers."""
    chance: float = 1.0
    """Probability that two rows drawn by chance agree (Simpson's index)."""

    @property
    def is_category(self) -> bool:
        """Whether values return, so that they can be compared."""
        return self.repeated > 0 and self.distinct > 1


def row_id() -> Column:
    """A number for each row; two of a hundred million rows share one with a chance of 1 to 3,000."""
    return F.xxhash64(*ORDER).alias(ROW_ID)


def texts_of(rows: DataFrame, types: Mapping[str, str]) -> DataFrame:
    """One row per row: ``ROW_ID`` and each column as text, whole numbers without decimals."""
    return rows.select(row_id(), *(as_text(name, type_).alias(name) for name, type_ in types.items()))


def as_text(name: str, type_: str) -> Column:
    """The text that a value of this type is compared as."""
    value = F.col(f"`{name}`")
    if type_ != "double":
        return value.cast("string")
    is_whole = (value % 1 == 0) & (F.abs(value) < 1e15)
    return F.when(is_whole, value.cast("bigint").cast("string")).otherwise(value.cast("string"))


def facts_of(texts: DataFrame, names: Sequence[str]) -> list[ColumnFacts]:
    """Count rows, values and letters of each column (an action per ``_BATCH`` columns, one row collected by each)."""
    found = []
    for start in range(0, len(names), _BATCH):
        batch = names[start : start + _BATCH]
        made = [F.count(F.lit(1)).alias("rows")]
        for place, name in enumerate(batch):
            value = F.col(f"`{name}`")
            made += [
                F.count(value).alias(f"known_{place}"),
                F.approx_count_distinct(value).alias(f"distinct_{place}"),
                F.avg(F.length(value)).alias(f"length_{place}"),
            ]
        row = texts.agg(*made).collect()[0]
        found += [
            ColumnFacts(
                name=name,
                place=start + place,
                rows=row["rows"],
                known=row[f"known_{place}"],
                distinct=row[f"distinct_{place}"],
                mean_length=row[f"length_{place}"] or 0.0,
            )
            for place, name in enumerate(batch)
        ]
    return found


def may_repeat(facts: ColumnFacts) -> bool:
    """Whether a column is worth counting value by value."""
    return 1 < facts.distinct < 0.97 * facts.known and facts.mean_length <= LONGEST_CATEGORY


def value_counts(texts: DataFrame, columns: Sequence[ColumnFacts]) -> DataFrame:
    """One row per column (its place) and value, with its ``COPIES``."""
    cells = F.array(
        *(F.struct(F.lit(facts.place).alias(COLUMN), F.col(f"`{facts.name}`").alias(VALUE)) for facts in columns)
    )
    return (
        texts.select(F.explode(cells).alias("cell"))
        .select("cell.*")
        .where(F.col(VALUE).isNotNull())
        .groupBy(COLUMN, VALUE)
        .agg(F.count(F.lit(1)).alias(COPIES))
    )


def with_counts(columns: Sequence[ColumnFacts], counts: DataFrame) -> list[ColumnFacts]:
    """The facts with what ``value_counts`` tells (one action; a row per column is collected)."""
    copies = F.col(COPIES)
    told = {
        row[COLUMN]: row
        for row in counts.groupBy(COLUMN)
        .agg(
            F.count(F.lit(1)).alias("distinct"),
            F.count_if(copies > 1).alias("repeated"),
            F.sum(F.when(copies > 1, copies).otherwise(0)).alias("repeats"),
            F.sum(copies * (copies - 1.0)).alias("agreeing"),
        )
        .collect()
    }
    made = []
    for facts in columns:
        row = told.get(facts.place)
        if row is None:
            made.append(facts)
            continue
        is_category = row["repeats"] >= FEWEST_REPEATS * facts.known
        made.append(
            ColumnFacts(
                name=facts.name,
                place=facts.place,
                rows=facts.rows,
                known=facts.known,
                distinct=row["distinct"],
                mean_length=facts.mean_length,
                repeated=row["repeated"] if is_category else 0,
                chance=row["agreeing"] / (facts.known * max(1, facts.known - 1)),
            )
        )
    return made
