"""What ``clean`` hands from step to step: a source with its rows, their verdicts and their counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.plan import key_of
from dlmine_spark.config import ColumnConfig, Kind, SourceConfig
from dlmine_spark.pipelines.batches import Batch, Scope, Step


@dataclass(frozen=True, slots=True)
class SourceCounts:
    """What became of the rows of one source: ``rows_in = accepted + quarantined + duplicates + superseded``."""

    source: str
    rows_in: int
    accepted: int
    quarantined: int
    duplicates: int
    superseded: int
    warned: int
    """Accepted rows that a rule warns of."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """What there is to read of a source: all of its rows, or those of its new files and the batch that they are."""

    rows: DataFrame
    batch: Batch | None


@dataclass(frozen=True, slots=True)
class Subject:
    """What is judged.

    Attributes:
        name: of the source.
        source: its declaration.
        columns: its columns, kept ones included, with their types.
        bronze: the rows as they came.
        has_two_lanes: whether plain rows stay in bronze.
        step: what new files do to the silver table; None where the source is loaded as a whole.
    """

    name: str
    source: SourceConfig
    columns: Mapping[str, ColumnConfig]
    bronze: DataFrame
    has_two_lanes: bool
    step: Step | None

    @property
    def scope(self) -> Scope:
        """Whether all rows of the source are judged, some that are new, or none."""
        return "all" if self.step is None else self.step.scope


@dataclass(frozen=True, slots=True)
class Judged:
    """A source whose rows have their verdict.

    Attributes:
        subject: the source.
        has_fences: whether an outlier rule was applied.
        counts: what became of its rows.
        copied: how many of them are in files that came before; they are not judged again.
    """

    subject: Subject
    has_fences: bool
    counts: SourceCounts
    copied: int

    @property
    def name(self) -> str:
        """Of the source."""
        return self.subject.name

    @property
    def columns(self) -> Mapping[str, ColumnConfig]:
        """Its columns, kept ones included, with their types."""
        return self.subject.columns

    @property
    def scope(self) -> Scope:
        """Whether all rows of the source were judged, some that are new, or none."""
        return self.subject.scope


SILVER_TABLES: dict[Kind, str] = {
    "lines": s.LINES.name,
    "panel": s.PANEL.name,
    "statics": s.STATICS.name,
    "calendar": s.CALENDAR.name,
    "baskets": s.BASKETS.name,
}
"""Of the other kind, each source has a table of its own."""


def rows_table(name: str, source: SourceConfig) -> str:
    """The table that has the good rows of a source: its silver table, of a panel one without gaps and fills."""
    return f"silver.{name}_rows" if source.kind == "panel" else SILVER_TABLES.get(source.kind, f"silver.{name}")


def merge_key(subject: Subject, rows: DataFrame) -> tuple[str, ...]:
    """The columns by which a new row replaces an earlier one."""
    return key_of(subject.source, rows.columns)
