"""A source's declaration as one pass over its rows: typed values, reasons to refuse, and a record of what changed.

The rows that come out are still all the rows that went in (the counts law is checked on them): each has its values, its
``REASONS`` (empty for a good row), its ``REPAIRS`` and its ``COPY`` number among exact duplicates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning import equations, parse
from dlmine_spark.cleaning.names import bronze_name
from dlmine_spark.config import DEFAULT_KEYS, ColumnConfig, ColumnType, RowRule, SourceConfig

REASONS, REPAIRS, WARNINGS, SUSPICIONS, ORIGINAL, COPY, RANK = (
    "__reasons",
    "__repairs",
    "__warnings",
    "__suspicions",
    "__original",
    "__copy",
    "__rank",
)
ORDER = (s.BATCH, s.SOURCE_FILE, s.SOURCE_BLOCK, s.SOURCE_ROW)
"""Columns that give the order of rows as they came."""
INTERNAL = (REASONS, REPAIRS, WARNINGS, SUSPICIONS, ORIGINAL, COPY, RANK, *ORDER)
"""What a staged row has beside its values; ``SUSPICIONS`` only where rules are mined."""

_MALFORMED = {
    "csv": "the line does not have as many cells as the header, or leaves a quote open (cells with line breaks need "
    "multiline: true)",
    "json": "the line is no JSON record (records over several lines need multiline: true)",
}
_UNDECODABLE = "the line holds bytes that are none in this encoding"
_REASON = "struct<rule: string, column: string, message: string>"
_REPAIR = "struct<column: string, old_value: string, new_value: string, rule: string>"
_ROW, _COMPOSED, _SET = "__row", "__composed", "__set"
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
    return source.key or tuple(name for name in DEFAULT_KEYS.get(source.kind, ()) if name in there)


def is_good() -> Column:
    """Whether a staged row becomes a silver one: no reason against it, no copy, not superseded."""
    return (F.size(REASONS) == 0) & (F.col(COPY) == 1) & (F.col(RANK) == 1)


def is_refused() -> Column:
    """Whether a staged row goes to the quarantine; of copies, the one that counts does."""
    return (F.col(COPY) == 1) & (F.size(REASONS) > 0)


def reason(rule: str, column: str, message: Column) -> Column:
    """One entry of ``REASONS``."""
    return F.struct(F.lit(rule).alias("rule"), F.lit(column).alias("column"), message.alias("message")).cast(_REASON)


def repair(column: str, old: Column, new: Column, rule: str | Column) -> Column:
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


def shown_row(cells: Column) -> Column:
    """A row of bronze as JSON, in the one form by which quarantine and corrections know it.

    Args:
        cells: its cells as a struct; of a line that could not be split, the line is shown instead.
    """
    return F.when(F.col(s.RAW_LINE).isNull(), F.to_json(cells, {"ignoreNullFields": "false"})).otherwise(
        F.to_json(F.struct(s.RAW_LINE))
    )


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
    numbered = _number_copies(rows, keeps_last=bool(key_of(source, columns)) and source.keep != "first")
    composed, kept = _compose(numbered, cells)
    trimmed = composed.select("*", *(cell.make_trimmed() for cell in cells))
    texts = trimmed.select(_ROW, s.RAW_LINE, COPY, *ORDER, *kept, *(cell.make_text() for cell in cells))
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
    # Only what is refused needs to be kept as it came; these are refused later than the rest.
    may_be_refused = (
        source.cancellations is not None
        or (source.mining is not None and source.mining.quarantine_above is not None)
        or any(spec.outliers and spec.outliers.action == "quarantine" for spec in columns.values())
        or any(reference.action == "quarantine" for reference in source.references)
    )
    is_kept = F.lit(True) if may_be_refused else F.size(REASONS) > 0
    return (
        judge_rows(repair_rows(marked, source, columns), source)
        .withColumn(ORIGINAL, F.when(is_kept, shown_row(F.col(_ROW))))
        .drop(_ROW, s.RAW_LINE)
    )


def judge_rows(marked: DataFrame, source: SourceConfig) -> DataFrame:
    """Add the reasons and warnings of rules about whole rows; a rule that cannot be decided (null) counts as met."""
    refusing = [rule for rule in source.rules if rule.action == "quarantine"]
    warning = [rule for rule in source.rules if rule.action == "warn"]
    unequal = [equation for equation in source.equations if equation.action == "quarantine"]
    doubtful = [equation for equation in source.equations if equation.action == "warn"]
    if not (refusing or warning or unequal or doubtful):
        return marked
    broken = [Entry(_is_broken(rule), reason(rule.name, "", F.lit(rule.expr))) for rule in refusing]
    broken += [
        Entry(equations.is_broken(equation), reason(f"equation:{equation.name}", "", equations.message(equation)))
        for equation in unequal
    ]
    doubted = [Entry(_is_broken(rule), F.lit(rule.name)) for rule in warning]
    doubted += [Entry(equations.is_broken(equation), F.lit(f"equation:{equation.name}")) for equation in doubtful]
    # A line that could not be split has no cells that a rule could be asked about.
    is_line = F.col(s.RAW_LINE).isNull() if s.RAW_LINE in marked.columns else F.lit(True)
    return marked.withColumns(
        {
            REASONS: F.when(is_line, F.concat(REASONS, _entries(broken, no_reasons()))).otherwise(F.col(REASONS)),
            WARNINGS: F.when(is_line, F.concat(WARNINGS, _entries(doubted, _no_warnings()))).otherwise(F.col(WARNINGS)),
        }
    )


def repair_rows(marked: DataFrame, source: SourceConfig, columns: Mapping[str, ColumnConfig]) -> DataFrame:
    """Set the cells that rules repair, in the order of the rules, then those that equations give.

    A rule sees what the ones before it set. What was said of a cell's old value (missing, out of range) is taken back,
    and its column's own rules are asked again about the new one.
    """
    repaired = marked
    for rule in source.rules:
        if rule.action == "repair":
            types = {name: SQL_TYPES[columns[name].type or "string"] for name in rule.set}
            # Cast inside SQL: outside of it, an error on some row would not show the text of the expression. That it is
            # an expression by itself has been checked; the line break ends a comment in it.
            new = {name: F.expr(f"cast(({text}\n) as {types[name]})") for name, text in rule.set.items()}
            repaired = _set_cells(repaired, _is_broken(rule), new, rule.name, columns)
    for equation in source.equations:
        right = equations.solved(equation, columns)
        repaired = _set_cells(repaired, F.lit(True), right, f"equation:{equation.name}", columns)
    return repaired


def number_versions(marked: DataFrame, source: SourceConfig, key: Sequence[str]) -> DataFrame:
    """Number the good rows of each key in ``RANK``; 1 is the one that stays, the others are superseded.

    Rows without a value in their key are nobody's versions: each stays.
    """
    if not key:
        return marked.withColumn(RANK, F.lit(1))
    order = [F.col(name) if source.keep == "first" else F.col(name).desc() for name in ORDER]
    if source.keep == "most_complete":
        cells = [F.col(f"`{name}`") for name in marked.columns if name not in INTERNAL]
        known = F.size(F.filter(F.array(*(cell.isNotNull() for cell in cells)), lambda is_known: is_known))
        order = [known.desc(), *order]
    is_candidate = (F.size(REASONS) == 0) & (F.col(COPY) == 1)
    for name in key:
        is_candidate = is_candidate & F.col(f"`{name}`").isNotNull()
    versions = Window.partitionBy(is_candidate, *(F.col(f"`{name}`") for name in key)).orderBy(*order)
    numbered = marked.withColumn(RANK, F.when(is_candidate, F.row_number().over(versions)).otherwise(1))
    if source.keep == "sum":
        whole_key = versions.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
        is_summed = is_candidate & (F.col(RANK) == 1) & (F.count(F.lit(1)).over(whole_key) > 1)
        return _with_sums(numbered, summed_columns(source, key), is_summed, whole_key)
    return numbered


def summed_columns(source: SourceConfig, key: Sequence[str]) -> list[str]:
    """The columns that are added up over the versions of a key, where the source keeps sums."""
    doubles = (name for name in source.columns if source.column_type(name) == "double" and name not in key)
    return list(source.sum_columns or doubles)


def _with_sums(rows: DataFrame, names: Sequence[str], is_summed: Column, whole_key: WindowSpec) -> DataFrame:
    """Replace the cells of the row that stays by the sums over its key, on record where that changes them."""
    old = {name: F.col(f"`{name}`") for name in names}
    new = {name: F.col(_SET)[name] for name in names}
    sums = {name: F.sum(cell).over(whole_key) for name, cell in old.items()}
    summed = rows.withColumn(_SET, F.when(is_summed, _struct(sums)).otherwise(_struct(old)))
    entries = [Entry(~new[name].eqNullSafe(old[name]), repair(name, old[name], new[name], "sum")) for name in names]
    return summed.withColumns({REPAIRS: F.concat(REPAIRS, _entries(entries, no_repairs())), **new}).drop(_SET)


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

    @property
    def composed(self) -> Column:
        """The cell with letters and their accents as one character, where the source wants that."""
        if not self.composes:
            return self.original
        return F.coalesce(F.get(F.col(_COMPOSED), F.lit(self.place)), self.original)

    @property
    def composes(self) -> bool:
        """Whether accents written apart become one character with their letter; numbers have none."""
        return self.source.unicode == "nfc" and self.type not in parse.NUMERIC

    @property
    def _is_day_as_written(self) -> bool:
        """Whether an offset is left away: a day is the one where it was written, and so is that of a sale.

        In UTC, half past midnight in Berlin would be yesterday. Times of other columns are instants.
        """
        is_of_sale = self.source.kind == "lines" and self.name == s.TS and self.spec.time_zone is None
        return self.type == "date" or is_of_sale

    def _layer(self, name: str) -> Column:
        return F.col(f"__{name}_{self.place}")

    # First and second layer

    def make_trimmed(self) -> Column:
        return parse.trimmed(self.composed).alias(f"__trimmed_{self.place}")

    def make_text(self) -> Column:
        return parse.present(self._layer("trimmed"), self.source.null_tokens).alias(f"__text_{self.place}")

    # Third layer

    def make_values(self) -> list[Column]:
        """What the text says (``read``), whether it says so as declared (``normal``), the nearest allowed value."""
        text = self._layer("text")
        if self.type in parse.NUMERIC:
            made = {"read": parse.number(text, self.spec.decimal)}
        elif self.type in parse.MOMENTS:
            zone = None if self._is_day_as_written else self.spec.time_zone
            attempts = parse.moments(text, self.spec.formats, zone, as_written=self._is_day_as_written)
            read = F.coalesce(*attempts)
            if self.type == "date" and self.spec.time_zone is not None:
                read = F.when(parse.tells_zone(text), read).otherwise(parse.on_clocks_of(read, self.spec.time_zone))
            made = {"read": read, "normal": attempts[0].isNotNull() & (self.original == text)}
        elif self.type == "boolean":
            made = {"read": parse.truth(text)}
        else:
            made = {"read": parse.cased(text, self.spec)}
            if self.spec.allowed:
                is_legal = made["read"].isin(*self.spec.allowed)
                made["near"] = F.when(~is_legal, parse.nearest_allowed(text, self.spec))
            if self._is_text_checked:
                made |= {layer: ~is_met for layer, is_met in parse.text_checks(made["read"], self.spec).items()}
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
            value = self._allowed_value
        if self._has_range and self.spec.out_of_range == "null":
            return F.when(~self._is_outside, value)
        if self._is_text_checked and self.spec.not_matching == "null":
            return F.when(~self._is_misshapen, value)
        return value

    @property
    def _allowed_value(self) -> Column:
        value, near = self._typed, self._layer("near")
        if self.spec.not_allowed == "warn":
            return F.coalesce(near, value)
        return F.when(value.isin(*self.spec.allowed), value).otherwise(near)

    @property
    def _is_unknown(self) -> Column:
        """Whether a text is no allowed value, nor near enough to one."""
        is_legal = self._typed.isin(*self.spec.allowed)
        return self._layer("text").isNotNull() & ~is_legal & self._layer("near").isNull()

    @property
    def _is_text_checked(self) -> bool:
        """Whether a text may have the wrong form: allowed values have the right one, as ``checks`` sees to."""
        is_closed = bool(self.spec.allowed) and self.spec.not_allowed != "warn"
        return self.type == "string" and bool(parse.text_rules(self.spec)) and not is_closed

    @property
    def _is_misshapen(self) -> Column:
        return F.coalesce(_any([self._breaks(rule) for rule in parse.text_rules(self.spec)]), F.lit(False))

    def _breaks(self, rule: str) -> Column:
        """Whether a text breaks a rule about its form; one that is corrected to an allowed value does not."""
        return self._layer(rule) & self._layer("near").isNull() if self.spec.allowed else self._layer(rule)

    @property
    def _is_readable(self) -> Column:
        return self._layer("text").isNull() | self._typed.isNotNull()

    @property
    def _is_outside(self) -> Column:
        return parse.is_outside(self._typed, self.spec)

    def reasons(self) -> list[Entry]:
        """Why the row is refused."""
        shown = F.substring(self.original, 1, parse.SHOWN_LETTERS)
        found = []
        if self.spec.required:
            found.append(self._refuse(self._layer("text").isNull(), "missing", F.lit("is required and has no value")))
            if self.type != "string":
                message = F.concat(F.lit(f"is no {self.type}: "), shown)
                found.append(self._refuse(~self._is_readable, "unparseable", message))
        if self.spec.allowed and self.spec.not_allowed == "quarantine":
            message = F.concat(F.lit("is no allowed value: "), shown)
            found.append(self._refuse(self._is_unknown, "not_allowed", message))
        if self._is_text_checked and self.spec.not_matching == "quarantine":
            for rule, words in parse.text_rules(self.spec).items():
                found.append(self._refuse(self._breaks(rule), rule, F.concat(F.lit(f"{words}: "), shown)))
        if self._has_range and self.spec.out_of_range == "quarantine":
            message = F.concat(F.lit(f"is not {parse.legal_range(self.spec)}: "), shown)
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
            blanked = []
            if self.spec.allowed and self.spec.not_allowed == "null":
                blanked.append(("not_allowed", self._is_unknown))
            if self._is_text_checked and self.spec.not_matching == "null":
                blanked += [(rule, self._breaks(rule)) for rule in parse.text_rules(self.spec)]
            if blanked:
                is_legal = is_legal & value.isNotNull()
            found += [self._change(condition, nothing, rule) for rule, condition in blanked]
            tidied: str | Column = "spaces"
            if self.composes:
                tidied = F.when(self.composed != self.original, F.lit("unicode")).otherwise(F.lit("spaces"))
            found.append(self._change(is_legal & (text != self.original), value, tidied))
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
        found = []
        if self._has_range and self.spec.out_of_range == "warn":
            found.append(Entry(self._is_outside, F.lit(f"out_of_range:{self.name}")))
        if self.spec.allowed and self.spec.not_allowed == "warn":
            found.append(Entry(self._is_unknown, F.lit(f"not_allowed:{self.name}")))
        if self._is_text_checked and self.spec.not_matching == "warn":
            for rule in parse.text_rules(self.spec):
                found.append(Entry(self._breaks(rule), F.lit(f"{rule}:{self.name}")))
        return found

    @property
    def _has_range(self) -> bool:
        return self.spec.minimum is not None or self.spec.maximum is not None

    def _refuse(self, condition: Column, rule: str, message: Column) -> Entry:
        return Entry(condition, reason(rule, self.name, message))

    def _change(self, condition: Column, new: Column, rule: str | Column) -> Entry:
        return Entry(condition, repair(self.name, self.original, new.cast(SQL_TYPES[self.type]), rule))


def _is_broken(rule: RowRule) -> Column:
    return ~F.coalesce(F.expr(rule.expr).cast("boolean"), F.lit(True))


def _set_cells(
    rows: DataFrame, condition: Column, values: Mapping[str, Column], rule: str, columns: Mapping[str, ColumnConfig]
) -> DataFrame:
    """Give the cells of some columns new values, on a condition; those that change are on record and judged anew."""
    old = {name: F.col(f"`{name}`") for name in values}
    new = {name: F.col(_SET)[name] for name in values}
    # A line that could not be split has no cells to set.
    is_set = F.col(s.RAW_LINE).isNull() & condition
    made = rows.withColumn(_SET, F.when(is_set, _struct(values)).otherwise(_struct(old)))
    breaches = {name: parse.breaches(new[name], columns[name]) for name in values}
    blanking = {name: [one.condition for one in found if one.action == "null"] for name, found in breaches.items()}
    if any(blanking.values()):
        kept = {
            name: F.when(~F.coalesce(_any(blanking[name]), F.lit(False)), cell) if blanking[name] else cell
            for name, cell in new.items()
        }
        made = made.withColumn(_SET, _struct(kept))
    is_changed = {name: ~new[name].eqNullSafe(old[name]) for name in values}
    repairs = [Entry(is_changed[name], repair(name, old[name], new[name], rule)) for name in values]
    found = [(name, breach) for name in values for breach in breaches[name]]
    refused = [
        Entry(is_changed[name] & breach.condition, reason(breach.rule, name, breach.message))
        for name, breach in found
        if breach.action == "quarantine"
    ]
    doubted = [
        Entry(is_changed[name] & breach.condition, F.lit(f"{breach.rule}:{name}"))
        for name, breach in found
        if breach.action == "warn"
    ]

    def is_still_true(said_of: Column) -> Column:
        return ~_any([said_of.eqNullSafe(F.lit(name)) & is_changed[name] for name in values])

    kept_reasons = F.filter(REASONS, lambda entry: is_still_true(entry["column"]))
    kept_warnings = F.filter(WARNINGS, lambda entry: is_still_true(F.substring_index(entry, ":", -1)))
    entries = {
        REPAIRS: F.concat(REPAIRS, _entries(repairs, no_repairs())),
        REASONS: F.concat(kept_reasons, _entries(refused, no_reasons())),
        WARNINGS: F.concat(kept_warnings, _entries(doubted, _no_warnings())),
    }
    is_any_changed = _any(list(is_changed.values()))
    judged = {name: F.when(is_any_changed, said).otherwise(F.col(name)) for name, said in entries.items()}
    # Apart: in one step, the names inside a lambda would mean the new values (Spark's lateral aliases).
    return made.withColumns(judged).withColumns(new).drop(_SET)


def _struct(cells: Mapping[str, Column]) -> Column:
    return F.struct(*(cell.alias(name) for name, cell in cells.items()))


def _compose(rows: DataFrame, cells: Sequence[_Cell]) -> tuple[DataFrame, list[str]]:
    """The rows with the composed texts of all cells beside them, where any may have one; and that column's name."""
    if not any(cell.composes for cell in cells):
        return rows, []
    texts = [cell.original if cell.composes else F.lit(None).cast("string") for cell in cells]
    # Most rows are plain ASCII: counting is a tenth of the work of a regular expression.
    is_any_foreign = _any([parse.is_foreign(cell.original) for cell in cells if cell.composes])
    return rows.withColumn(_COMPOSED, F.when(is_any_foreign, parse.with_composed(texts))), [_COMPOSED]


def _number_copies(rows: DataFrame, *, keeps_last: bool) -> DataFrame:
    """Add ``COPY``: 1 for the first of equal rows of a delivery, in the order they came, or for the last of them.

    Where the last row of a key stays, so must the last of its copies: a price may change and change back. What comes
    again in a later delivery is a version.
    """
    order = [F.col(name).desc() if keeps_last else F.col(name) for name in ORDER]
    cells = [F.col(s.BATCH), F.col(_ROW), F.col(s.RAW_LINE)]
    # Sorting by a hash first compares one number where it would compare every cell.
    copies = Window.partitionBy(F.xxhash64(*cells), *cells).orderBy(*order)
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
