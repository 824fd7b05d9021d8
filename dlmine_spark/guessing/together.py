"""What several tables are to each other: which is the panel or the lines, and what the others say about its series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dlmine_spark import schemas as s
from dlmine_spark.errors import SourceError
from dlmine_spark.guessing import words as w
from dlmine_spark.guessing.columns import ColumnFacts
from dlmine_spark.guessing.steps import Steps
from dlmine_spark.guessing.tables import (
    Guess,
    TableFacts,
    baskets_of,
    calendar_of,
    has_named_value,
    lines_of,
    panel_of,
    parts_of_date,
    statics_of,
    table_of,
    time_of,
    unix_times,
    value_of,
    why_no_series,
    wide_columns,
)

_SHARED = 0.8
"""Share of the smaller set of names that two columns have in common, for them to name the same series."""
_ONCE = 0.95
"""Share of different rows with a name of their own, for a table to have one row a name; the others are dirt."""
FEWEST_STEPS = 4
"""History that a model needs at least (``arima.min_history``)."""


@dataclass(frozen=True, slots=True)
class Source:
    """A source of the configuration to be: a table and what it is taken for."""

    name: str
    table: TableFacts
    guess: Guess


def decide(tables: Sequence[TableFacts]) -> list[Source]:
    """What each table is, given the others.

    Of each kind there is one source at most, but for tables that are left alone: of two that could be the panel, it is
    the one whose value has a telling name, then the larger one.

    Raises:
        SourceError: there is nothing to forecast or to mine in any of them, or a panel that cannot be read as it is;
            it names the file and says what to add.
    """
    for table in tables:
        _refuse_wide(table)
    guesses: dict[str, Guess] = {}
    baskets = {one.name: guess for one in tables if (guess := baskets_of(one)) is not None}
    guesses |= dict(list(baskets.items())[:1])
    rest = [one for one in tables if one.name not in baskets]
    lines = {one.name: guess for one in rest if (guess := lines_of(one)) is not None}
    if lines:
        name = max(lines, key=lambda one: next(table.rows for table in rest if table.name == one))
        guesses[name] = lines[name]
    rest = [one for one in rest if one.name not in lines]
    panel = _panel(rest, has_lines=bool(lines))
    if panel is not None:
        table, guess = panel
        guesses[table.name] = guess
        rest = [one for one in rest if one.name != table.name]
    if not guesses:
        raise SourceError("; ".join(_what_is_missing(one) for one in tables))
    for name, guess in guesses.items():
        _refuse_parts(next(one for one in tables if one.name == name), guess)
        _refuse_steps(next(one for one in tables if one.name == name), guess)
    known = _series_names(tables, guesses)
    # Calendars with the names of series first: one for all series could be anything with a date.
    for table in sorted(rest, key=lambda one: _shared_column(one, known) is None):
        guesses[table.name] = _beside(table, known, {guess.kind for guess in guesses.values()})
    return [Source(one.name, one, guesses.get(one.name) or table_of(one)) for one in tables]


def _panel(tables: Sequence[TableFacts], *, has_lines: bool) -> tuple[TableFacts, Guess] | None:
    possible = [(one, guess) for one in tables if (guess := panel_of(one)) is not None and guess.steps is not None]
    # Beside lines, which are a panel by themselves, a number needs a telling name to be another one.
    named = [pair for pair in possible if has_named_value(pair[0])]
    pairs = named or ([] if has_lines else possible)
    return max(pairs, key=lambda pair: (_is_named_ahead(pair[0]), pair[0].rows), default=None)


def _is_named_ahead(table: TableFacts) -> float:
    value, _ = value_of(table)
    return 0.0 if value is None else round(w.likeness(value.name, w.VALUE), 1)


def _beside(table: TableFacts, known: set[str], kinds: set[str]) -> Guess:
    """What a table says about the series of another one."""
    key = _shared_column(table, known)
    time = time_of(table)
    rows = table.sample.cells.drop_duplicates()
    if time is not None and "calendar" not in kinds and kinds & {"panel", "lines"}:
        names = [time.name] if key is None else [key, time.name]
        if len(rows.drop_duplicates(names)) >= _ONCE * len(rows) and (found := calendar_of(table, key)) is not None:
            return found
    if key is not None and "statics" not in kinds and rows[key].nunique() >= _ONCE * rows[key].notna().sum() - 1:
        return statics_of(table, key)
    return table_of(table)


def _series_names(tables: Sequence[TableFacts], guesses: dict[str, Guess]) -> set[str]:
    """The names of the series that are forecast, as far as the sample has them."""
    by_kind = {guess.kind: (one, guess) for one in tables if (guess := guesses.get(one.name)) is not None}
    for kind, name in (("panel", s.UNIQUE_ID), ("lines", s.STORE_ID)):
        if kind not in by_kind:
            continue
        table, guess = by_kind[kind]
        column = guess.column_of(name)
        rules = [rule for one in guess.settings if one.key == "rules" for rule in one.value]
        # A name that a rule joins from several columns is in no other file.
        is_joined = any(name in rule.get("set", ()) for rule in rules)
        return set() if column is None or is_joined else set(table.sample.cells[column].dropna())
    return set()


def _shared_column(table: TableFacts, known: set[str]) -> str | None:
    """The column that holds the names of known series; of several, the one with such a name."""
    found = []
    for one in table.columns.values():
        if one.is_moment or one.is_flag or not known:
            continue
        values = set(table.sample.cells[one.name].dropna())
        if values and len(values & known) >= _SHARED * min(len(values), len(known)):
            found.append((w.likeness(one.name, w.SERIES), one.name))
    return max(found)[1] if found else None


def promoted_item(sources: Sequence[Source]) -> str | None:
    """The covariate, known in advance, that names items of the baskets; None without one."""
    lines = next((one for one in sources if one.guess.kind == "lines"), None)
    if lines is None:
        return None
    items = _texts(lines, str(lines.guess.column_of(s.ITEM)))
    for source in sources:
        for one in source.guess.taken:
            is_ahead = source.guess.kind == "calendar" or one.role == "known_future"
            if is_ahead and source.table.columns[one.column].type == "string" and one.name != s.UNIQUE_ID:
                named = _texts(source, one.column)
                if named and len(named & items) >= _SHARED * len(named):
                    return one.name
    return None


def _texts(source: Source, column: str) -> set[str]:
    return {text.casefold() for text in source.table.sample.cells[column].dropna()}


# What cannot be used


def _what_is_missing(table: TableFacts) -> str:
    time = time_of(table)
    value, _ = value_of(table, but=[time.name] if time is not None else [])
    too_little = _too_little(table, time)
    if too_little is not None:
        return f"{table.sample.path}: {too_little}"
    lacks = [
        *(["a column of dates (2024-01-31, 31.01.2024, 1/31/2024, 2024-01 ...)"] if time is None else []),
        *(["a number to forecast (sales, quantity ...)"] if value is None else []),
    ]
    lacking = " and ".join(lacks) or "several rows a series"
    unix = unix_times(table) if time is None else []
    hint = (
        f" ({unix[0]} looks like seconds since 1970, or parts of them: write them as dates and times)" if unix else ""
    )
    return (
        f"{table.sample.path}: cannot tell what to forecast or to mine: it lacks {lacking}{hint}; there are "
        f"{table.saw()}. "
        "Add it, or a column of baskets and one of items; to look for errors only: dlmine clean --profile "
        f"--set sources.{table.name}.kind=table --set sources.{table.name}.path={table.sample.path}"
    )


def _too_little(table: TableFacts, time: ColumnFacts | None) -> str | None:
    """What keeps a table from being a panel that has a date and a number; None where it lacks one of these."""
    numbers = [one for one in table.columns.values() if one.is_number and one is not time]
    named = [one for one in numbers if w.likeness(one.name, w.VALUE) > 0] or numbers[:1]
    if time is None or not named:
        return None
    value = named[0]
    if table.rows < FEWEST_STEPS:
        rows = "one row" if table.rows == 1 else f"{table.rows} rows"
        return f"holds {rows}: a forecast that is tested needs {FEWEST_STEPS} dates at least"
    if value.distinct == 1:
        return f"{value.name} is {value.examples[0]} in all rows: there is nothing to learn, and any forecast is that"
    return None


def _refuse_wide(table: TableFacts) -> None:
    names = [] if table.sample.baskets is not None else wide_columns(table)
    why = why_no_series(table, names) if names else None
    if not names or (why is not None and has_named_value(table)):
        return
    shown = f"{', '.join(names[:3])}, ...: {len(names):,} of them"
    long = f"dlmine init {table.sample.path} --long {table.name}_long.csv"
    if why is not None:
        raise SourceError(
            f"{table.sample.path}: has many numbers ({shown}) that look like attributes rather than series, since {why}"
            ", and none that sounds like what is forecast: call that one y or sales; or, if each of them is a series, "
            f"have a row written for each series and date: {long}"
        )
    raise SourceError(
        f"{table.sample.path}: has a column for each series or date ({shown}), and a panel has a row for each series "
        f"and date; have it written so: {long}; or, if they are attributes, call the number to forecast y or sales"
    )


def _refuse_parts(table: TableFacts, guess: Guess) -> None:
    """Refuse a panel whose date is spread over columns: years alone would be sums of what has months."""
    parts = parts_of_date(table) if guess.kind == "panel" else []
    if parts:
        raise SourceError(
            f"{table.sample.path}: the date is spread over columns {' and '.join(parts)}: add one that holds it whole, "
            "like 2024-03 or 2024-03-31"
        )


def _refuse_steps(table: TableFacts, guess: Guess) -> None:
    """Refuse a panel whose step or history nothing could be learned from."""
    steps: Steps | None = guess.steps
    if steps is None:
        return
    time = guess.column_of(s.DS) or guess.column_of(s.TS)
    if steps.frequency is None:
        raise SourceError(
            f"{table.sample.path}: rows of a series are usually {steps.distance} apart (column {time}), which is no "
            "known step: sum them by hour, day, week, month, quarter or year"
        )
    if steps.history < FEWEST_STEPS:
        raise SourceError(
            f"{table.sample.path}: column {time} goes from {steps.first} to {steps.last}, {steps.history} "
            f"{steps.frequency.name}s: a forecast that is tested needs {FEWEST_STEPS} at least"
        )
