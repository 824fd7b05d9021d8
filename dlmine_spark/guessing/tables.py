"""What a table is, as far as it tells by itself: its kind, and which of its columns is which of ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pandas as pd

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.names import free_name
from dlmine_spark.config import CANONICAL_TYPES, Kind, Role
from dlmine_spark.guessing import words as w
from dlmine_spark.guessing.columns import ColumnFacts, look_at_columns
from dlmine_spark.guessing.dates import reader
from dlmine_spark.guessing.keys import SeriesKey, series_key
from dlmine_spark.guessing.samples import Sample
from dlmine_spark.guessing.steps import Steps, is_time_of_event, season_of, steps_of

_UNIX_FROM = 1e8
"""Nobody counts so many steps: larger numbers are seconds since 1970 (1e8: March 1973), or parts of seconds."""
_NAMED = 0.5
"""Likeness from which a name counts."""
_REPEATS = 0.98
"""Different baskets over lines, above which lines are no baskets."""
_FREE_TEXT = 0.5
"""Different texts over rows, from which a long text is a remark rather than a label."""
_LONG_TEXT = 60
_MOST_LABELS = 200
"""Different texts of a covariate; more are no labels."""
_RARE = 0.2
"""Share of lines with a quantity or price of no sale, up to which they are taken for returns."""
_NO_VALUE = (w.AHEAD, w.TIME, w.STORE, w.CUSTOMER, w.ITEM, w.BASKET, w.SEEN_AFTER)
"""Names of numbers that a value depends on, or belongs to."""
_WIDE_FROM = 5
_FEATURES = frozenset(
    {"f", "x", "v", "var", "feat", "feature", "col", "column", "attr", "attribute", "pc", "dim", "lag"}
)
"""Names of columns, but for their numbers, that nobody gives to shops or products."""
_MIXED = 0.2
"""Share of columns of another kind than the rest, from which on they are not all measured alike."""
_SCALES = 1e4
"""How many times as large as others some columns are, that are not all measured alike."""
_SHOWN_NAMES = 12
_KNOWN_FLAGS = (
    (s.OPEN, w.OPEN, "its name: 1 where there could be a value"),
    ("promo", w.PROMOTION, "its name: a promotion"),
)
"""Covariates of yes and no that later stages know by their names."""
_OWN = frozenset({s.UNIQUE_ID, s.DS, s.Y, s.TS, s.BASKET_ID, s.ITEM, s.ITEMS, s.CUSTOMER_ID, s.STORE_ID, s.CUTOFF, s.H})


@dataclass(frozen=True, slots=True)
class Taken:
    """A column of a file that is taken for one of ours.

    Attributes:
        column: in the file.
        name: ours.
        because: why.
        settings: of the column in the configuration, beside where it comes from.
        role: of a covariate.
        others: what else it could be, or how else it could be read.
    """

    column: str
    name: str
    because: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    role: Role | None = None
    others: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of a source, and why."""

    key: str
    value: Any
    because: str


@dataclass(frozen=True, slots=True)
class Guess:
    """What one source is taken for."""

    kind: Kind
    because: str
    taken: tuple[Taken, ...] = ()
    left: tuple[tuple[str, str], ...] = ()
    """Columns that are not used, and why."""
    settings: tuple[Setting, ...] = ()
    steps: Steps | None = None
    season: int | None = None
    value: str | None = None
    """What a panel made from lines holds: ``cleaning.panel_value``."""

    def column_of(self, name: str) -> str | None:
        """The column of the file that is taken for one of ours."""
        return next((one.column for one in self.taken if one.name == name), None)


@dataclass(frozen=True)
class TableFacts:
    """A sampled table with the facts of its columns."""

    name: str
    sample: Sample

    @cached_property
    def columns(self) -> dict[str, ColumnFacts]:
        """The columns that could be something: lists and nested values cannot."""
        sample = self.sample
        found = look_at_columns(sample.cells, sample.types, delimiter=sample.delimiter)
        return {one.name: one for one in found}

    @property
    def rows(self) -> int:
        """Rows of the sample."""
        return len(self.sample.cells)

    def saw(self) -> str:
        """The columns and their types, for a message."""
        shown = [f"{one.name} ({one.type})" for one in list(self.columns.values())[:_SHOWN_NAMES]]
        more = len(self.columns) - len(shown)
        return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")


# Baskets


def baskets_of(table: TableFacts) -> Guess | None:
    """Whole baskets: lines of a text file, or a column of lists; a list beside a number over time is a remark."""
    sample = table.sample
    if sample.baskets is not None:
        found = sample.baskets
        examples = ", ".join(found.examples)
        settings = (Setting("separator", found.separator, f"between items; most frequent are {examples}"),)
        return Guess("baskets", f"lines hold any number of items, {found.items:,} different ones", settings=settings)
    if not sample.lists:
        return None
    words = ("items", *w.ITEM, *w.BASKET)
    items = max(sample.lists, key=lambda name: w.likeness(name, words))
    if w.likeness(items, words) < _NAMED and has_named_value(table):
        panel = panel_of(table)
        if panel is not None and panel.steps is not None:
            return None
    taken = [Taken(items, s.ITEMS, "its cells are lists")]
    key = _named([one for one in table.columns.values() if one.name not in sample.lists], w.BASKET)
    if key is not None and key.distinct >= _REPEATS * table.rows:
        taken.append(Taken(key.name, s.BASKET_ID, f"{key.name} sounds like a basket and is different in each row"))
    left = tuple(
        (one, "kind baskets has no such column") for one in table.columns if one not in {t.column for t in taken}
    )
    return Guess("baskets", f"{items} holds lists", tuple(taken), left)


# Lines


def lines_of(table: TableFacts) -> Guess | None:
    """Basket lines: an item, and a basket that comes back, or a customer and the date of a visit."""
    ids = [one for one in table.columns.values() if not one.is_moment and not one.is_flag and one.known]
    time = _time_of_lines(table)
    basket, item = _named(ids, w.BASKET), _named(ids, w.ITEM)
    if item is None or item is basket:
        return None
    # A basket that is another one in each line is a number of the line, or a count.
    comes_back = basket is not None and 1 < basket.distinct < _REPEATS * basket.known
    rules = []
    if basket is not None and comes_back:
        because = f"{basket.name} and {item.name}: {basket.distinct:,} baskets in {table.rows:,} lines of the sample"
        first = Taken(basket.name, s.BASKET_ID, "sounds like a basket and comes back in several lines")
    else:
        basket = _named([one for one in ids if one is not item], w.CUSTOMER)
        if basket is None or time is None or has_named_value(table):
            return None
        because = f"{item.name} by {basket.name} and {time.name}: what somebody took on a day is a basket"
        first = Taken(basket.name, s.BASKET_ID, "sounds like a customer; with the date it names a visit")
        visit = f"concat({s.BASKET_ID}, '/', date({s.TS}))"
        rules.append({"name": "visit", "expr": "false", "action": "repair", "set": {s.BASKET_ID: visit}})
    taken = [first, *_line_columns(table, ids, basket, item, time, is_visit=bool(rules))]
    signs, told = _signs(table, taken)
    if rules:
        told.insert(0, "there is no column of baskets, so a rule joins customer and date to one")
    settings = (Setting("rules", [*rules, *signs], "; ".join(told)),) if rules or signs else ()
    used = {one.column for one in taken}
    free = {name: one for name, one in table.columns.items() if name not in used}
    others, left = _others(table, free, {one.name for one in taken})
    steps = steps_of(time.values.dt.normalize(), None, table.sample.parts) if time is not None else None
    value = _panel_value({one.name for one in taken})
    return Guess("lines", because, (*taken, *others), left, settings, steps, value=value)


def _time_of_lines(table: TableFacts) -> ColumnFacts | None:
    """When a line was sold: with the time of day, if a column has it."""
    moments = [one for one in table.columns.values() if one.is_moment]
    return max(moments, key=lambda one: (one.type == "timestamp", w.likeness(one.name, w.TIME)), default=None)


def _line_columns(
    table: TableFacts,
    ids: Sequence[ColumnFacts],
    basket: ColumnFacts,
    item: ColumnFacts,
    time: ColumnFacts | None,
    *,
    is_visit: bool,
) -> list[Taken]:
    """The columns of a line beside its basket, by their names; each is taken once, but a customer who names a visit."""
    numbers = [one for one in ids if one.is_number]
    places = [one for one in ids if one.distinct <= 0.5 * table.rows]
    wanted = (
        (s.ITEM, w.ITEM, [item], "sounds like an item"),
        (s.QUANTITY, w.QUANTITY, numbers, "a number that sounds like a quantity"),
        (s.PRICE, w.PRICE, numbers, "a number that sounds like a price"),
        (s.CUSTOMER_ID, w.CUSTOMER, [basket] if is_visit else ids, "sounds like a customer"),
        (s.STORE_ID, w.STORE, places, "sounds like a store or place"),
    )
    used = set() if is_visit else {basket.name}
    taken = []
    for name, words, fitting, because in wanted:
        found = _named([one for one in fitting if one.name not in used], words)
        if found is None:
            continue
        used.add(found.name)
        near = [one.name for one in ids if one.name not in used and w.likeness(one.name, words) >= _NAMED][:2]
        others = f"could also be {' or '.join(near)}" if near else ""
        taken.append(Taken(found.name, name, because, _settings(name, found), others=others))
    return [*taken, *([_moment(time, s.TS, f"the dates{_of_offset(time)}")] if time is not None else [])]


def _panel_value(names: set[str]) -> str:
    if {s.QUANTITY, s.PRICE} <= names:
        return "amount"
    return "quantity" if s.QUANTITY in names else "baskets"


def _signs(table: TableFacts, taken: Sequence[Taken]) -> tuple[list[dict[str, str]], list[str]]:
    """Rules for lines that are no sales, and why: a few of negative quantity are returns."""
    rules, words = [], []
    for one in taken:
        if one.name not in (s.QUANTITY, s.PRICE):
            continue
        values = table.columns[one.column].values.dropna()
        share = float((values <= 0).mean()) if len(values) else 0.0
        if 0 < share <= _RARE:
            rules.append({"name": f"{one.name}_not_positive", "expr": f"{one.name} > 0"})
            words.append(f"{share:.1%} of {one.column} are 0 or less")
    told = [f"{' and '.join(words)}: returns or corrections, which are kept out of baskets and sales"] if rules else []
    return rules, told


# Panels


def time_of(table: TableFacts) -> ColumnFacts | None:
    """The column of dates, or one that counts steps."""
    columns = list(table.columns.values())
    moments = [one for one in columns if one.is_moment]
    if moments:
        return max(moments, key=lambda one: (round(w.likeness(one.name, w.TIME), 2), one.known))
    counting = [one for one in _numbers_of_time(table) if one.least < _UNIX_FROM]
    return max(counting, key=lambda one: w.likeness(one.name, w.TIME), default=None)


def unix_times(table: TableFacts) -> list[str]:
    """Columns that hold seconds (or parts of them) since 1970, which are neither dates nor counted steps."""
    return [one.name for one in _numbers_of_time(table) if one.least >= _UNIX_FROM]


def _numbers_of_time(table: TableFacts) -> list[ColumnFacts]:
    columns = table.columns.values()
    return [one for one in columns if one.type == "integer" and w.likeness(one.name, w.TIME) >= _NAMED]


def parts_of_date(table: TableFacts) -> list[str]:
    """Columns that are a date only together: a year and a month, or week, or quarter; none where one is a date."""
    columns = table.columns.values()
    years = [one for one in columns if one.formats is not None and one.formats.patterns == ("yyyy",)]
    parts = [one for one in columns if one.type == "integer" and w.likeness(one.name, w.TIME) >= w.INSIDE]
    has_date = any(one.is_moment and one not in years for one in columns)
    return [] if has_date or not years or not parts else [one.name for one in (years[0], *parts)]


def value_of(table: TableFacts, *, but: Sequence[str] = ()) -> tuple[ColumnFacts | None, tuple[str, ...]]:
    """The number to forecast, and other ones it could be; None where there is no number but flags and names."""
    columns = [one for one in table.columns.values() if one.is_number and not one.is_flag and one.name not in but]
    usable = [one for one in columns if one.distinct > 1]
    named = [one for one in usable if w.likeness(one.name, w.VALUE) >= _NAMED]
    rest = [one for one in usable if max(w.likeness(one.name, words) for words in _NO_VALUE) < _NAMED]
    unnamed = [one for one in rest if w.likeness(one.name, w.SERIES) < _NAMED]
    ranked = sorted(named, key=lambda one: -w.likeness(one.name, w.VALUE)) + [
        one for one in unnamed if one not in named
    ]
    if not ranked:
        # A file of nothing but dates and prices, or temperatures, is about these.
        names = (*w.SERIES, *w.ITEM, *w.BASKET, *w.CUSTOMER)
        ranked = [one for one in usable if w.likeness(one.name, names) < _NAMED]
    return (ranked[0] if ranked else None), tuple(one.name for one in ranked[1:4])


def has_named_value(table: TableFacts) -> bool:
    """Whether a number is there that sounds like what is forecast."""
    value, _ = value_of(table)
    return value is not None and w.likeness(value.name, w.VALUE) >= _NAMED


def wide_columns(table: TableFacts) -> list[str]:
    """Columns that are series (T1, T2, ...) or dates of their own; none where the table is long."""
    columns = list(table.columns.values())
    dated = [one.name for one in columns if one.is_number and _is_date(one.name)]
    if len(dated) >= _WIDE_FROM and len(dated) >= 0.6 * len(columns):
        return dated
    numbers = [one for one in columns if one.is_number and not one.is_flag]
    known = (w.VALUE, w.AHEAD, w.QUANTITY, w.STORE, w.CUSTOMER, w.TIME, w.SEEN_AFTER)
    alike = [one.name for one in numbers if max(w.likeness(one.name, words) for words in known) < _NAMED]
    stems = {re.sub(r"\d+", "", name) for name in alike}
    time = time_of(table)
    once = time is not None and time.values.nunique() >= 0.97 * table.rows
    is_numbered = len(stems) == 1 and len(alike) >= _WIDE_FROM
    is_mostly_alike = once and len(alike) >= 2 * _WIDE_FROM and len(alike) >= 0.8 * len(columns)
    return alike if is_mostly_alike or (is_numbered and (once or len(alike) >= 0.8 * len(columns))) else []


def why_no_series(table: TableFacts, names: Sequence[str]) -> str | None:
    """Why columns that look like series of their own are rather attributes of one; None where nothing says so."""
    if _is_date(names[0]):
        return None
    value, _ = value_of(table, but=names)
    if value is not None and w.likeness(value.name, w.VALUE) >= _NAMED:
        return f"{value.name} sounds like what is forecast"
    columns = [table.columns[name] for name in names]
    stems = {re.sub(r"[\d_ .]+", "", one.name).lower() for one in columns}
    if stems <= _FEATURES:
        return f"they are called {names[0]}, {names[1]} and so on"
    whole = sum(one.type == "integer" for one in columns) / len(columns)
    if _MIXED <= whole <= 1 - _MIXED:
        return f"{whole:.0%} of them hold whole numbers only"
    signed = sum(one.least < 0 for one in columns) / len(columns)
    if _MIXED <= signed <= 1 - _MIXED:
        return f"{signed:.0%} of them have values below 0"
    sizes = pd.Series([float(one.values.abs().median()) for one in columns]).replace(0, float("nan")).dropna()
    if len(sizes) and sizes.quantile(0.9) >= _SCALES * sizes.quantile(0.1):
        return "some are more than ten thousand times as large as others"
    return None


def _is_date(name: str) -> bool:
    return any(
        reader(pattern)(name) for pattern in ("ISO", "yyyy-MM", "yyyyMMdd", "dd.MM.yyyy", "M/d/yyyy", "MMM yyyy")
    )


def panel_of(table: TableFacts) -> Guess | None:
    """Values of series over time; None where there is no time or no number."""
    time = time_of(table)
    value, other_values = value_of(table, but=[time.name] if time is not None else [])
    if time is None or value is None:
        return None
    no_part = (time.name, value.name, *table.sample.lists)
    columns = [one for one in table.columns.values() if one.name not in no_part]
    moments = time.values
    found = series_key(table.sample.cells, moments, columns)
    series = _joined(table.sample.cells, found.columns)
    steps = steps_of(moments, series, table.sample.parts)
    settings: list[Setting] = []
    is_event = steps is not None and (is_time_of_event(steps) or not found.is_unique)
    ds = _moment(time, s.DS, f"the dates{_of_offset(time, steps)}" if time.is_moment else "counts steps")
    if is_event and time.is_moment:
        days = moments.dt.normalize()
        found = series_key(table.sample.cells, days, columns)
        steps = steps_of(days, _joined(table.sample.cells, found.columns), table.sample.parts)
        if time.type == "timestamp":
            ds = replace(
                ds,
                settings={"type": "date", **ds.settings},
                because=f"when each row happened; summed by the day{_of_offset(time)}",
            )
    if not found.is_unique:
        settings.append(Setting("keep", "sum", "a series has several rows a date: their values are summed"))
        settings.append(Setting("sum_columns", [s.Y], "what is summed"))
    taken = [ds, *_series_columns(table, found)]
    if len(found.columns) > 1:
        settings.append(_joined_key(found))
    why = "sounds like what is forecast" if has_named_value(table) else "the number that is left"
    spec = _settings(s.Y, value)
    others = f"the value could also be {' or '.join(other_values)}" if other_values else ""
    taken.append(Taken(value.name, s.Y, why, spec, others=others))
    used = {one.column for one in taken}
    free = {one.name: one for one in table.columns.values() if one.name not in used}
    covariates, left = _covariates(table, free, found, {one.name for one in taken}, is_summed=not found.is_unique)
    season = season_of(time.name, steps.history) if steps is not None and not time.is_moment else None
    because = f"{time.name} and {value.name}: a number over time"
    beside = [name for name in wide_columns(table) if name != value.name]
    if beside:
        because += (
            f"; {len(beside):,} numbers beside it ({beside[0]}, ...) are taken for its covariates, since "
            f"{why_no_series(table, beside)}: if each of them is a series, write the file anew with --long"
        )
    return Guess("panel", because, (*taken, *covariates), left, tuple(settings), steps, season)


def _joined(cells: pd.DataFrame, names: Sequence[str]) -> pd.Series | None:
    if not names:
        return None
    return cells[list(names)].fillna("").agg("/".join, axis=1) if len(names) > 1 else cells[names[0]]


def _series_columns(table: TableFacts, key: SeriesKey) -> list[Taken]:
    """The columns of the key: the first is the series' name, to which a rule adds the others."""
    if not key.columns:
        return []
    others = f"series could also be told by {', or '.join(key.others)}" if key.others else ""
    count = table.columns[key.columns[0]].distinct
    because = key.because if len(key.columns) > 1 else f"{key.because}; {count:,} different"
    taken = [Taken(key.columns[0], s.UNIQUE_ID, because, others=others)]
    names = {one.name for one in taken} | {s.DS, s.Y}
    taken += [Taken(one, own_name(one, names), "part of the series' name", role="static") for one in key.columns[1:]]
    return taken


def _joined_key(key: SeriesKey) -> Setting:
    names = {s.UNIQUE_ID, s.DS, s.Y}
    parts = [s.UNIQUE_ID, *(f"`{own_name(one, names)}`" for one in key.columns[1:])]
    joined = ", '/', ".join(parts)
    rule = {
        "name": "series",
        "expr": "false",
        "action": "repair",
        "set": {s.UNIQUE_ID: f"concat({joined})"},
    }
    return Setting(
        "rules",
        [rule],
        f"a series is named by {' and '.join(key.columns)}; a source maps one column to unique_id, so a rule joins "
        "them (silver.repairs lists each row for that). With a column of its own for the name the rule can go",
    )


def _covariates(
    table: TableFacts, free: Mapping[str, ColumnFacts], key: SeriesKey, names: set[str], *, is_summed: bool
) -> tuple[list[Taken], tuple[tuple[str, str], ...]]:
    """What else a panel has, by role."""
    taken: list[Taken] = []
    left: list[tuple[str, str]] = []
    series = _joined(table.sample.cells, key.columns)
    names = {*names, *_OWN}
    for one in free.values():
        role, because = _role(table, one, series)
        problem = _unusable(table, one)
        if problem is None and is_summed and role != "static":
            problem = "rows are summed to dates, and this is different in them"
        if problem is None and one.distinct == 1 and one.known == table.rows:
            problem = "is the same in all rows"
        if problem is None and role == "past_only" and one.type == "string" and one.distinct > _MOST_LABELS:
            problem = f"{one.distinct:,} different texts, too many to learn from"
        if problem is not None:
            left.append((one.name, problem))
            continue
        taken.append(_covariate(one, role, because, names))
    return taken, tuple(left)


def _covariate(one: ColumnFacts, role: Role, because: str, names: set[str]) -> Taken:
    """A covariate under a name that later stages know, where it is one of these, else its own; ``names`` are told."""
    other = {"static": "", "known_future": "past_only", "past_only": "known_future"}[role]
    others = f"another role: {other}" if other else ""
    for name, words, meaning in _KNOWN_FLAGS:
        if one.is_flag and name not in names and w.likeness(one.name, words) >= w.INSIDE:
            names.add(name)
            settings = {"type": "boolean"}
            return Taken(one.name, name, meaning, settings, "known_future", "another role: past_only")
    # What is called open and is no flag is the first price of a day, say.
    name = own_name(one.name, {*names, s.OPEN})
    names.add(name.lower())
    return Taken(one.name, name, because, _settings("", one), role, others)


def _role(table: TableFacts, one: ColumnFacts, series: pd.Series | None) -> tuple[Role, str]:
    cells = table.sample.cells[one.name]
    if series is None:
        if cells.nunique(dropna=False) == 1:
            return "static", "the same in all rows"
    else:
        values = cells.groupby(series).nunique()
        if len(values) > 1 and (values <= 1).mean() >= 0.98:
            return "static", "the same in all rows of a series"
    if w.likeness(one.name, w.SEEN_AFTER) >= w.INSIDE:
        return "past_only", "its name: known afterwards only"
    is_any_feature = re.fullmatch(r"feature[ _.]*\d+", one.name, re.IGNORECASE) is not None
    if w.likeness(one.name, w.AHEAD) >= _NAMED and not is_any_feature:
        return "known_future", "its name: usually known in advance"
    return "past_only", "nothing says that it is known in advance; past_only cannot leak"


# What other sources are joined by


def calendar_of(table: TableFacts, key: str | None) -> Guess | None:
    """What is known about dates (of series, with ``key``); None where nothing tells the date."""
    time = time_of(table)
    if time is None:
        return None
    taken = [_moment(time, s.DS, "the dates" if time.is_moment else "counts steps")]
    if key is not None:
        taken.append(Taken(key, s.UNIQUE_ID, "the names of series that another file has, too"))
    free = {one.name: one for one in table.columns.values() if one.name not in (time.name, key)}
    covariates, left = _covariates(
        table, free, SeriesKey((key,) if key else (), True, ""), {s.UNIQUE_ID, s.DS}, is_summed=False
    )
    ahead = tuple(
        replace(one, role=None, others="", because="in a calendar: known in advance")
        if one.name != s.OPEN
        else replace(one, role=None)
        for one in covariates
    )
    return Guess(
        "calendar", "dates without a number to forecast, of series that another file has", (*taken, *ahead), left
    )


def statics_of(table: TableFacts, key: str) -> Guess:
    """Attributes of series."""
    free = {one.name: one for one in table.columns.values() if one.name != key}
    others, left = _others(table, free, {s.UNIQUE_ID})
    taken = Taken(key, s.UNIQUE_ID, "the names of series that another file has, too; each is there once")
    return Guess("statics", f"one row for each {key}", (taken, *others), left)


def table_of(table: TableFacts) -> Guess:
    """Anything else: cleaned, and left alone."""
    others, left = _others(table, table.columns, set())
    return Guess("table", "neither a value over time nor baskets, and no series of another file", tuple(others), left)


# Columns


def own_name(column: str, taken: set[str]) -> str:
    """A plain name for a column that is kept: letters, digits and _; ``taken`` is told of it."""
    plain = w.plain_name(column)
    if plain and not plain[0].isalpha():
        plain = f"c_{plain}"
    return free_name(plain[:60] or column[:60], taken)


def _named(columns: Iterable[ColumnFacts], words: w.Words) -> ColumnFacts | None:
    """The column whose name is most like some words, None where none is."""
    named = [one for one in columns if w.likeness(one.name, words) >= _NAMED]
    return max(named, key=lambda one: w.likeness(one.name, words), default=None)


def _moment(one: ColumnFacts, name: str, because: str) -> Taken:
    if one.formats is None:
        return Taken(one.name, name, because, {"type": "integer"} if name == s.DS else {})
    settings = {"formats": list(one.formats.declared)} if one.formats.declared else {}
    written = " or ".join(one.formats.declared or ("yyyy-MM-dd",))
    others = f"could also be {one.formats.rival}: day and month exchanged" if one.formats.rival else ""
    return Taken(one.name, name, f"{because}, as {written}", settings, others=others)


def _of_offset(time: ColumnFacts, steps: Steps | None = None) -> str:
    """What becomes of the offsets that times are written with; nothing where there are none."""
    if not time.has_offset:
        return ""
    if steps is not None and steps.frequency is not None and steps.frequency.is_within_day:
        return ", told in UTC, so that no hour comes twice or never"
    return ", as written: an offset from UTC moves none to another day"


def _settings(name: str, one: ColumnFacts) -> dict[str, Any]:
    """Type, decimal sign and formats of a column, as far as they have to be said."""
    settings: dict[str, Any] = {}
    usual = CANONICAL_TYPES.get(name, "string")
    type_ = usual if name in _OWN or name in CANONICAL_TYPES else _type_of(one)
    if type_ != usual:
        settings["type"] = type_
    if one.is_moment and type_ == one.type and one.formats is not None and one.formats.declared:
        settings["formats"] = list(one.formats.declared)
    if one.decimal == "," and type_ in ("double", "integer"):
        settings["decimal"] = ","
    return settings


def _type_of(one: ColumnFacts) -> str:
    if one.is_flag:
        return "boolean"
    # A number under the name of a thing is its name: 101 stores cannot be summed.
    things = (*w.SERIES, *w.CUSTOMER, *w.ITEM, *w.BASKET)
    is_thing = w.likeness(one.name, things) >= w.INSIDE and w.likeness(one.name, w.VALUE) < _NAMED
    return "string" if one.type == "integer" and (is_thing or "id" in w.tokens(one.name)) else one.type


def _unusable(table: TableFacts, one: ColumnFacts) -> str | None:
    if not one.known:
        return "is empty"
    if one.name in table.sample.lists:
        return "holds lists"
    if one.is_moment:
        return "a further date"
    if one.distinct == table.rows and "id" in w.tokens(one.name):
        return "numbers the rows"
    is_text = one.type == "string"
    if is_text and one.distinct > _FREE_TEXT * table.rows and max(map(len, one.examples)) > _LONG_TEXT:
        return "free text"
    return None


def _others(
    table: TableFacts, free: Mapping[str, ColumnFacts], names: set[str]
) -> tuple[list[Taken], tuple[tuple[str, str], ...]]:
    """Columns that are kept as they are, and those that are not."""
    taken, left = [], []
    names = {*names, *_OWN}
    for one in free.values():
        problem = None if one.is_moment else _unusable(table, one)
        if problem is not None:
            left.append((one.name, problem))
            continue
        taken.append(Taken(one.name, own_name(one.name, names), "kept beside", _settings("", one)))
    return taken, tuple(left)
