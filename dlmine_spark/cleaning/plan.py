"""A source's declaration as one pass over its rows: typed values, reasons to refuse, and a record of what changed.

The rows that come out are still all the rows that went in (the counts law is checked on them): each has its values, its
``REASONS`` (empty for a good row), its ``REPAIRS`` and its ``COPY`` number among exact duplicates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning import parse
from dlmine_spark.cleaning.names import bronze_name
from dlmine_spark.config import ColumnConfig, ColumnType, SourceConfig

REASONS, REPAIRS, WARNINGS, SUSPICIONS, ORIGINAL, COPY, RANK = (
    "__reasons",
    "__repairs",
    "__warnings",
    "__suspicions",
    "__original",
    "__copy",
    "__rank",
)
ORDER = (s.SOURCE_FILE, s.SOURCE_BLOCK, s.SOURCE_ROW)
"""Columns that give the order of rows as they came."""
INTERNAL = (REASONS, REPAIRS, WARNINGS, SUSPICIONS, ORIGINAL, COPY, RANK, *ORDER)
"""What a staged row has beside its values; ``SUSPICIONS`` only where rules are mined."""

_MALFORMED = {
    "csv": "the line does not have as many cells as the header, or leaves a quote open (cells with line breaks need "
    "multiline: true)",
    "json": "the line is no JSON record (records over several lines need multiline: true)",
}
_UNDECODABLE = "the line holds bytes that are none in this encoding"
_KEYS: dict[str, tuple[str, ...]] = {
    "panel": (s.UNIQUE_ID, s.DS),
    "calendar": (s.UNIQUE_ID, s.DS),
    "statics": (s.UNIQUE_ID,),
    "baskets": (s.BASKET_ID,),
}
_SHOWN_LETTERS = 100
"""Of a cell in a message: a field of ten megabytes must not be there twice."""
_REASON = "struct<rule: string, column: string, message: string>"
_REPAIR = "struct<column: string, old_value: string, new_value: string, rule: string>"
_ROW = "__row"
SQL_TYPES: dict[ColumnType, str] = {
    "string": "string",
    "integer": "double",
    "double": "double",
    "boolean": "double",
    "date": "date",
    "timestamp": "timestamp",
}


@dataclass(frozen=True)
class Entry:
    """Something to say of a row, and when; a condition that cannot be decided (null) is not met."""

    condition: Column
    value: Column


def key_of(source: SourceConfig, columns: Iterable[str]) -> tuple[str, ...]:
    """Columns that identify a row: the declared ones, else those of the kind that are there; none for lines."""
    there = set(columns)
    return source.key or tuple(name for name in _KEYS.get(source.kind, ()) if name in there)


def is_good() -> Column:
    """Whether a staged row becomes a silver one: no reason against it, no copy, not superseded."""
    return (F.size(REASONS) == 0) & (F.col(COPY) == 1) & (F.col(RANK) == 1)


def reason(rule: str, column: str, message: Column) -> Column:
    """One entry of ``REASONS``."""
    return F.struct(F.lit(rule).alias("rule"), F.lit(column).alias("column"), message.alias("message")).cast(_REASON)


def repair(column: str, old: Column, new: Column, rule: str) -> Column:
    """One entry of ``REPAIRS``."""
    return F.struct(
        F.lit(column).alias("column"),
        old.cast("string").alias("old_value"),
        new.cast("string").alias("new_value"),
        F.lit(rule).alias("rule"),
    ).cast(_REPAIR)


def no_reasons() -> Column:
    """``REASONS`` of a good row."""
    return F.array().cast(f"array<{_REASON}>")


def no_repairs() -> Column:
    """``REPAIRS`` of a row that came as it should."""
    return F.array().cast(f"array<{_REPAIR}>")


def unusable_line(source: SourceConfig) -> Column:
    """Why a line could not be split into cells, where ``RAW_LINE`` says that it could not."""
    is_undecodable = F.contains(F.col(s.RAW_LINE), F.lit("\ufffd"))
    message = F.lit(_MALFORMED.get(source.format, "the record cannot be read"))
    return F.when(is_undecodable, reason("undecodable", "", F.lit(_UNDECODABLE))).otherwise(
        reason("malformed_line", "", message)
    )


def mark_rows(bronze: DataFrame, source: SourceConfig, columns: Mapping[str, ColumnConfig]) -> DataFrame:
    """Type every cell and judge every row, in one pass; exact copies are numbered (one shuffle).

    Args:
        bronze: rows as they came.
        source: the declaration.
        columns: canonical name -> declaration with its type, kept other columns included.

    Returns:
        One row per row of ``bronze``: the canonical columns, then ``INTERNAL`` without ``RANK`` and ``SUSPICIONS``.
    """
    names = [name for name in bronze.columns if name not in s.BRONZE_METADATA]
    cells = [_Cell(place, name, spec, source) for place, (name, spec) in enumerate(columns.items())]
    rows = bronze.select(F.struct(*(F.col(f"`{name}`") for name in names)).alias(_ROW), s.RAW_LINE, *ORDER)
    # Each layer reads the one before several times. As one expression, the work would multiply from layer to layer.
    numbered = _number_copies(rows)
    trimmed = numbered.select("*", *(cell.make_trimmed() for cell in cells))
    texts = trimmed.select(_ROW, s.RAW_LINE, COPY, *ORDER, *(cell.make_text() for cell in cells))
    values = texts.select("*", *(made for cell in cells for made in cell.make_values()))
    marked = values.select(
        *(cell.value.cast(SQL_TYPES[cell.type]).alias(cell.name) for cell in cells),
        _reasons(source, [entry for cell in cells for entry in cell.reasons()]).alias(REASONS),
        _entries([entry for cell in cells for entry in cell.repairs()], no_repairs()).alias(REPAIRS),
        _entries([entry for cell in cells for entry in cell.warnings()], _no_warnings()).alias(WARNINGS),
        _ROW,
        s.RAW_LINE,
        COPY,
        *ORDER,
    )
    # Only what is refused needs to be kept as it came; outliers and suspicious rows are refused later than the rest.
    may_be_refused = any(spec.outliers and spec.outliers.action == "quarantine" for spec in columns.values()) or (
        source.mining is not None and source.mining.quarantine_above is not None
    )
    is_kept = F.lit(True) if may_be_refused else F.size(REASONS) > 0
    original = F.when(F.col(s.RAW_LINE).isNull(), F.to_json(_ROW, {"ignoreNullFields": "false"})).otherwise(
        F.to_json(F.struct(s.RAW_LINE))
    )
    return judge_rows(marked, source).withColumn(ORIGINAL, F.when(is_kept, original)).drop(_ROW, s.RAW_LINE)


def judge_rows(marked: DataFrame, source: SourceConfig) -> DataFrame:
    """Add the reasons and warnings of rules about whole rows; a rule that cannot be decided (null) counts as met."""
    refusing = [rule for rule in source.rules if rule.action == "quarantine"]
    warning = [rule for rule in source.rules if rule.action == "warn"]
    if not source.rules:
        return marked

    def is_broken(expression: str) -> Column:
        return ~F.coalesce(F.expr(expression).cast("boolean"), F.lit(True))

    broken = [Entry(is_broken(rule.expr), reason(rule.name, "", F.lit(rule.expr))) for rule in refusing]
    doubted = [Entry(is_broken(rule.expr), F.lit(rule.name)) for rule in warning]
    # A line that could not be split has no cells that a rule could be asked about.
    is_line = F.col(s.RAW_LINE).isNull() if s.RAW_LINE in marked.columns else F.lit(True)
    return marked.withColumns(
        {
            REASONS: F.when(is_line, F.concat(REASONS, _entries(broken, no_reasons()))).otherwise(F.col(REASONS)),
            WARNINGS: F.when(is_line, F.concat(WARNINGS, _entries(doubted, _no_warnings()))).otherwise(F.col(WARNINGS)),
        }
    )


def number_versions(marked: DataFrame, source: SourceConfig, key: Sequence[str]) -> DataFrame:
    """Number the good rows of each key in ``RANK``; 1 is the one that stays, the others are superseded.

    Rows without a value in their key are nobody's versions: each stays.
    """
    if not key:
        return marked.withColumn(RANK, F.lit(1))
    order = [F.col(name).desc() if source.keep == "last" else F.col(name) for name in ORDER]
    is_candidate = (F.size(REASONS) == 0) & (F.col(COPY) == 1)
    for name in key:
        is_candidate = is_candidate & F.col(f"`{name}`").isNotNull()
    versions = Window.partitionBy(is_candidate, *(F.col(f"`{name}`") for name in key)).orderBy(*order)
    return marked.withColumn(RANK, F.when(is_candidate, F.row_number().over(versions)).otherwise(1))


@dataclass(frozen=True)
class _Cell:
    """The expressions of one canonical column, layer by layer: its text, its value, what is to be said of it."""

    place: int
    name: str
    spec: ColumnConfig
    source: SourceConfig

    @property
    def type(self) -> ColumnType:
        return self.spec.type or "string"

    @property
    def original(self) -> Column:
        """The cell as it came."""
        return F.col(_ROW)[bronze_name(self.spec.source or self.name)]

    def _layer(self, name: str) -> Column:
        return F.col(f"__{name}_{self.place}")

    # First and second layer

    def make_trimmed(self) -> Column:
        return parse.trimmed(self.original).alias(f"__trimmed_{self.place}")

    def make_text(self) -> Column:
        return parse.present(self._layer("trimmed"), self.source.null_tokens).alias(f"__text_{self.place}")

    # Third layer

    def make_values(self) -> list[Column]:
        """What the text says (``read``), whether it says so as declared (``normal``), the nearest allowed value."""
        text = self._layer("text")
        if self.type in parse.NUMERIC:
            made = {"read": parse.number(text, self.spec.decimal)}
        elif self.type in parse.MOMENTS:
            attempts = parse.moments(text, self.spec.formats)
            made = {"read": F.coalesce(*attempts), "normal": attempts[0].isNotNull() & (self.original == text)}
        elif self.type == "boolean":
            made = {"read": parse.truth(text)}
        else:
            made = {"read": parse.cased(text, self.spec)}
            if self.spec.allowed:
                is_legal = made["read"].isin(*self.spec.allowed)
                made["near"] = F.when(~is_legal, parse.nearest_allowed(text, self.spec))
        if self.type in (*parse.NUMERIC, "boolean"):
            made["normal"] = parse.is_normal(self.original, self.type, self.spec)
        return [column.alias(f"__{layer}_{self.place}") for layer, column in made.items()]

    # Fourth layer

    @property
    def _typed(self) -> Column:
        """What the text says, null where it says nothing that this type can be."""
        read = self._layer("read")
        if self.type == "integer":
            return parse.whole(read)
        return parse.plausible(read) if self.type in parse.MOMENTS else read

    @property
    def value(self) -> Column:
        """The value of the silver column."""
        value = self._typed
        if self.spec.allowed:
            return F.when(value.isin(*self.spec.allowed), value).otherwise(self._layer("near"))
        if self.spec.out_of_range == "null":
            return F.when(~self._is_outside, value)
        return value

    @property
    def _is_readable(self) -> Column:
        return self._layer("text").isNull() | self._typed.isNotNull()

    @property
    def _is_outside(self) -> Column:
        value, low, high = self._typed, self.spec.minimum, self.spec.maximum
        below = value < low if low is not None else F.lit(False)
        above = value > high if high is not None else F.lit(False)
        return F.coalesce(below | above, F.lit(False))

    def reasons(self) -> list[Entry]:
        """Why the row is refused."""
        shown = F.substring(self.original, 1, _SHOWN_LETTERS)
        found = []
        if self.spec.required:
            found.append(self._refuse(self._layer("text").isNull(), "missing", F.lit("is required and has no value")))
            if self.type != "string":
                message = F.concat(F.lit(f"is no {self.type}: "), shown)
                found.append(self._refuse(~self._is_readable, "unparseable", message))
        if self.spec.allowed:
            is_unknown = self._layer("text").isNotNull() & self.value.isNull()
            found.append(self._refuse(is_unknown, "not_allowed", F.concat(F.lit("is no allowed value: "), shown)))
        if self._has_range and self.spec.out_of_range == "quarantine":
            message = F.concat(F.lit(f"is not {self._range}: "), shown)
            found.append(self._refuse(self._is_outside, "out_of_range", message))
        return found

    def repairs(self) -> list[Entry]:
        """What became another value."""
        text, value, nothing = self._layer("text"), self.value, F.lit(None)
        found = []
        if self.type == "string":
            if self.spec.allowed:
                found.append(self._change(self._layer("near").isNotNull(), value, "allowed"))
            is_legal = self._layer("near").isNull() if self.spec.allowed else F.lit(True)
            found.append(self._change(is_legal & (text != self.original), value, "spaces"))
            if self.spec.case != "keep":
                is_recased = is_legal & (text == self.original) & (value != text)
                found.append(self._change(is_recased, value, f"case_{self.spec.case}"))
        else:
            found.append(self._change(~self._is_readable, nothing, "unparseable"))
            is_rewritten = self._typed.isNotNull() & ~F.coalesce(self._layer("normal"), F.lit(True))
            found.append(self._change(is_rewritten & text.isNotNull(), self._typed, "format"))
        if self._has_range and self.spec.out_of_range == "null":
            found.append(self._change(self._is_outside, nothing, "out_of_range"))
        return found

    def warnings(self) -> list[Entry]:
        """Names of rules that the row is kept in spite of."""
        if self._has_range and self.spec.out_of_range == "warn":
            return [Entry(self._is_outside, F.lit(f"out_of_range:{self.name}"))]
        return []

    @property
    def _has_range(self) -> bool:
        return self.spec.minimum is not None or self.spec.maximum is not None

    @property
    def _range(self) -> str:
        low = "" if self.spec.minimum is None else f"at least {self.spec.minimum:g}"
        high = "" if self.spec.maximum is None else f"at most {self.spec.maximum:g}"
        return " and ".join(part for part in (low, high) if part)

    def _refuse(self, condition: Column, rule: str, message: Column) -> Entry:
        return Entry(condition, reason(rule, self.name, message))

    def _change(self, condition: Column, new: Column, rule: str) -> Entry:
        return Entry(condition, repair(self.name, self.original, new.cast(SQL_TYPES[self.type]), rule))


def _number_copies(rows: DataFrame) -> DataFrame:
    """Add ``COPY``: 1 for the first of equal rows, in the order they came."""
    cells = [F.col(_ROW), F.col(s.RAW_LINE)]
    # Sorting by a hash first compares one number where it would compare every cell.
    copies = Window.partitionBy(F.xxhash64(*cells), *cells).orderBy(*ORDER)
    return rows.withColumn(COPY, F.row_number().over(copies))


def _reasons(source: SourceConfig, entries: Sequence[Entry]) -> Column:
    """The reasons that apply; of a line that could not be split, this one only."""
    is_unusable = F.col(s.RAW_LINE).isNotNull()
    return F.when(is_unusable, F.array(unusable_line(source))).otherwise(_entries(entries, no_reasons()))


def _entries(entries: Sequence[Entry], nothing: Column) -> Column:
    """The entries that apply, as an array."""
    if not entries:
        return nothing
    made = F.array_compact(F.array(*(F.when(entry.condition, entry.value) for entry in entries)))
    # Most rows have none: asking first spares them the making of an array.
    return F.when(_any([entry.condition for entry in entries]), made).otherwise(nothing)


def _any(conditions: Sequence[Column]) -> Column:
    """Whether any condition is met; nested as a tree, since a chain of thousands would overflow Spark's stack."""
    if len(conditions) == 1:
        return conditions[0]
    half = len(conditions) // 2
    return _any(conditions[:half]) | _any(conditions[half:])


def _no_warnings() -> Column:
    return F.array().cast("array<string>")
