"""Fills: what stands in a blank, flagged as ``<column>_imputed``.

Fills that look at neighbours (``forward``, ``backward``, ``linear``, ``seasonal_median``) go along the time column
inside the groups of ``fill_by``, by default each series by itself. The others are statistics of groups; all that have
the same groups are one aggregation and one join. ``lookup`` takes the value from another source (``lookup``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.groups import join_groups
from dlmine_spark.cleaning.lookup import fitting, join_lookup
from dlmine_spark.cleaning.plan import ORDER
from dlmine_spark.config import ColumnConfig
from dlmine_spark.frequency import DAILY, Frequency

_POSITION = "__position"
_ALONG_TIME = ("forward", "backward", "linear", "seasonal_median")


def fill_blanks(
    rows: DataFrame,
    columns: Mapping[str, ColumnConfig],
    time: str | None = None,
    frequency: Frequency = DAILY,
    cutoff: date | None = None,
    lookups: Mapping[str, DataFrame] | None = None,
) -> DataFrame:
    """Fill the blanks of every column that declares a fill, where a value can be derived; the rest stay null.

    A closed date (``open`` = 0) is not a missing one: it is neither filled nor learned from. All fills come from the
    rows as they are, so the order of the columns decides nothing.

    Args:
        rows: good rows.
        columns: declarations with types.
        time: the column that orders the rows of a group; None for rows without time.
        frequency: whose season ``seasonal_median`` knows.
        cutoff: statistics come from the rows up to this date, and no row up to it is filled from a later one, where
            there is a time; later rows are filled too.
        lookups: for each column with ``fill: lookup``, its ``lookup_table``.

    Returns:
        The same rows with a flag ``<column>_imputed`` for each of these columns.
    """
    until = cutoff if time is not None else None
    fills = [
        _Fill(place, name, spec, time, until)
        for place, (name, spec) in enumerate(columns.items())
        if spec.fill != "none" and (time is not None or spec.fill not in _ALONG_TIME)
    ]
    flags = {f"{name}{s.IMPUTED_SUFFIX}": F.lit(False) for name, spec in columns.items() if spec.fill != "none"}
    if not fills:
        return rows.withColumns(flags) if flags else rows
    first_layer = {fill.known: fill.make_known(rows) for fill in fills}
    if time is not None and any(fill.spec.fill == "seasonal_median" for fill in fills):
        first_layer[_POSITION] = F.expr(frequency.sql_position(f"`{time}`"))
    known = rows.withColumns(first_layer)
    groupings: dict[tuple[str, ...], list[_Fill]] = {}
    for fill in fills:
        if fill.is_statistic:
            groupings.setdefault(fill.groups(rows), []).append(fill)
    prepared = known
    for by, alike in groupings.items():
        keys = [F.col(f"`{name}`") for name in by]
        statistics = known.groupBy(*keys).agg(*(one.make_statistic(rows) for one in alike))
        prepared = join_groups(prepared, statistics, by)
    for fill in fills:
        if fill.spec.fill_from is not None:
            prepared = join_lookup(prepared, fill.spec.fill_from, (lookups or {})[fill.name], fill.found)
    neighbours = {name: made for fill in fills for name, made in fill.make_neighbours(rows).items()}
    prepared = prepared.withColumns(neighbours) if neighbours else prepared
    derived = prepared.withColumns({fill.value: fill.derived(rows) for fill in fills})
    filled = {fill.name: F.coalesce(F.col(f"`{fill.name}`"), F.col(fill.value)) for fill in fills}
    for fill in fills:
        is_filled = F.col(f"`{fill.name}`").isNull() & F.col(fill.value).isNotNull()
        flags[f"{fill.name}{s.IMPUTED_SUFFIX}"] = is_filled
    return derived.withColumns(flags).withColumns(filled).select(*rows.columns, *flags)


@dataclass(frozen=True)
class _Fill:
    """The expressions of one column's fill, layer by layer: what is known, of group and neighbours too, the fill."""

    place: int
    name: str
    spec: ColumnConfig
    time: str | None
    cutoff: date | None

    @property
    def known(self) -> str:
        return f"__known_{self.place}"

    @property
    def value(self) -> str:
        return f"__fill_{self.place}"

    @property
    def found(self) -> str:
        return f"__found_{self.place}"

    @property
    def is_statistic(self) -> bool:
        """Whether the fill is one value for a group."""
        return self.spec.fill in ("mean", "median", "mode", "latest", "seasonal_median")

    def groups(self, rows: DataFrame) -> tuple[str, ...]:
        """The columns of a group."""
        if self.spec.fill not in _ALONG_TIME:
            return self.spec.fill_by
        by = self.spec.fill_by or ((s.UNIQUE_ID,) if s.UNIQUE_ID in rows.columns else ())
        return (*by, _POSITION) if self.spec.fill == "seasonal_median" else by

    # First layer

    def make_known(self, rows: DataFrame) -> Column:
        """The value, except on a date that was closed."""
        return F.when(self._is_open(rows), F.col(f"`{self.name}`"))

    def _is_open(self, rows: DataFrame) -> Column:
        if s.OPEN in rows.columns and self.name != s.OPEN:
            return F.coalesce(F.col(s.OPEN), F.lit(1)) != 0
        return F.lit(True)

    # Second layer

    def make_statistic(self, rows: DataFrame) -> Column:
        known = F.col(self.known)
        if self.cutoff is not None:
            known = F.when(~self._is_after(F.col(str(self.time))), known)
        if self.spec.fill == "mean":
            made = F.avg(known)
        elif self.spec.fill == "mode":
            # Ties are broken by value, so that the order of rows decides nothing.
            made = F.mode(known, True)
        elif self.spec.fill == "latest":
            arrival = [name for name in ORDER if name in rows.columns]
            order = F.struct(*([self.time] if self.time else []), *arrival, known)
            made = F.max_by(known, F.when(known.isNotNull(), order))
        else:
            made = F.median(known)
        return made.alias(f"__statistic_{self.place}")

    def make_neighbours(self, rows: DataFrame) -> dict[str, Column]:
        """The known values before and after each row, with their times."""
        if self.time is None or self.is_statistic or self.spec.fill not in _ALONG_TIME:
            return {}
        ties = [F.col(name) for name in ORDER if name in rows.columns]
        by = [F.col(f"`{name}`") for name in self.groups(rows)]
        in_time = Window.partitionBy(*by).orderBy(F.col(self.time), *ties)
        known = F.col(self.known)
        point = F.when(known.isNotNull(), F.struct(F.col(self.time).alias("at"), known.alias("value")))
        from_here = in_time.rowsBetween(Window.currentRow, Window.unboundedFollowing)
        made = {}
        if self.spec.fill != "backward":
            made[f"__before_{self.place}"] = F.last(point, ignorenulls=True).over(_up_to_here(in_time))
        if self.spec.fill != "forward":
            made[f"__after_{self.place}"] = F.first(point, ignorenulls=True).over(from_here)
        return made

    # Third layer

    def derived(self, rows: DataFrame) -> Column:
        """What a blank would be filled with; null where nothing is known, or nothing was open."""
        type_ = dict(rows.dtypes)[self.name]
        fill = self._fill(type_)
        if self.spec.type in ("integer", "boolean"):
            fill = F.round(fill)
        return F.when(self._is_open(rows), fill)

    def _fill(self, type_: str) -> Column:
        before, after = F.col(f"__before_{self.place}"), F.col(f"__after_{self.place}")
        if self.cutoff is not None:
            # What comes after the cutoff is not known yet on the dates before it.
            is_hidden = ~self._is_after(F.col(str(self.time))) & self._is_after(after["at"])
            after = F.when(~is_hidden, after)
        if self.spec.fill == "constant":
            return F.lit(self.spec.fill_value).cast(type_)
        if self.spec.fill == "lookup":
            return fitting(F.col(self.found), self.spec)
        if self.spec.fill == "forward":
            return before["value"]
        if self.spec.fill == "backward":
            return after["value"]
        if self.spec.fill == "linear":
            return _interpolated(F.col(str(self.time)), before, after)
        statistic = F.col(f"__statistic_{self.place}")
        if self.spec.fill == "latest":
            # Rows without an entity are not all of one.
            return F.when(_all_known(self.spec.fill_by), statistic)
        return statistic

    def _is_after(self, moment: Column) -> Column:
        """Whether a moment lies after the cutoff; one that nobody knows may."""
        return F.coalesce(F.to_date(moment) > F.lit(self.cutoff), F.lit(True))


def _all_known(names: Sequence[str]) -> Column:
    return reduce(lambda left, right: left & right, [F.col(f"`{name}`").isNotNull() for name in names])


def _up_to_here(in_time: WindowSpec) -> WindowSpec:
    return in_time.rowsBetween(Window.unboundedPreceding, Window.currentRow)


def _interpolated(moment: Column, before: Column, after: Column) -> Column:
    """Linear between the neighbours; at the ends the nearest known value."""

    def seconds(point: Column) -> Column:
        return F.unix_timestamp(point.cast("timestamp"))

    share = (seconds(moment) - seconds(before["at"])) / F.nullif(seconds(after["at"]) - seconds(before["at"]), F.lit(0))
    between = before["value"] + (after["value"] - before["value"]) * share
    return F.coalesce(between, before["value"], after["value"])
