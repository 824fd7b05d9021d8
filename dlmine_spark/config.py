"""The typed configuration: one frozen pydantic model, read from YAML files, the environment and the command line.

Precedence, lowest first: the defaults below, the files in the order given, ``DLMINE__SECTION__KEY`` environment
variables, ``--set section.key=value``. Unknown keys are refused; every error names the key, what was found and where it
was set. ``${NAME}`` inside a YAML string is replaced by that environment variable.
"""

from __future__ import annotations

import difflib
import graphlib
import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dlmine_spark import schemas as s
from dlmine_spark.errors import ConfigError
from dlmine_spark.frequency import COUNTED, KNOWN_ALIASES, from_alias, from_text
from dlmine_spark.redaction import public, without_credentials

ENVIRONMENT_PREFIX = "DLMINE__"

Kind = Literal["lines", "panel", "statics", "calendar", "baskets", "table"]
Role = Literal["known_future", "past_only", "static", "ignore"]
ColumnType = Literal["string", "integer", "double", "boolean", "date", "timestamp"]
Scalar = str | int | float | bool
Signal = Literal["segments", "rules", "arima", "sequences", "activations"]
SIGNALS: tuple[Signal, ...] = ("segments", "rules", "arima")
"""Mined signals that the network is given by default; the others have to be asked for."""
ALL_SIGNALS: tuple[Signal, ...] = get_args(Signal)


def _spelt_out(action: Any) -> Any:
    """``error`` is another word for quarantine, and YAML reads a bare ``null`` as nothing."""
    if action is None:
        return "null"
    return "quarantine" if action == "error" else action


RowAction = Annotated[Literal["quarantine", "warn", "repair"], BeforeValidator(_spelt_out)]
"""What happens to a row that breaks a rule: it is refused, it stays and is flagged, or its cells are set."""
CellAction = Annotated[Literal["quarantine", "null", "warn"], BeforeValidator(_spelt_out)]
"""What happens to a cell that breaks a rule: its row is refused, it becomes a blank, or it stays and is flagged."""

CANONICAL_TYPES: dict[str, ColumnType] = {
    s.TS: "timestamp",
    s.DS: "date",
    s.Y: "double",
    s.QUANTITY: "double",
    s.PRICE: "double",
    s.OPEN: "integer",
}
"""Types of the columns the suite knows; every other column is a string unless the source declares its type."""

REQUIRED_COLUMNS: dict[str, tuple[str, ...]] = {
    "lines": (s.BASKET_ID, s.ITEM),
    "panel": (s.DS, s.Y),
    "statics": (s.UNIQUE_ID,),
    "calendar": (s.DS,),
    "baskets": (),
    "table": (),
}
"""What a source of a kind has to map; a panel without ``unique_id`` is one series."""

DEFAULT_KEYS: dict[str, tuple[str, ...]] = {
    "panel": (s.UNIQUE_ID, s.DS),
    "calendar": (s.UNIQUE_ID, s.DS),
    "statics": (s.UNIQUE_ID,),
    "baskets": (s.BASKET_ID,),
}
"""What identifies a row of a kind where its source does not say so, as far as these columns are there."""


class Section(BaseModel):
    """A frozen part of the configuration that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=False, protected_namespaces=())

    execution: ClassVar[frozenset[str]] = frozenset()
    """Settings that say how the work is done and leave its result as it is."""

    @field_validator("*", mode="before")
    @classmethod
    def _one_stands_for_a_list_of_one(cls, value: Any, info: ValidationInfo) -> Any:
        """``formats: dd.MM.yyyy`` means ``formats: [dd.MM.yyyy]``."""
        if isinstance(value, str) and info.field_name is not None:
            annotation = cls.model_fields[info.field_name].annotation
            element = get_args(annotation)[0] if get_origin(annotation) is tuple else None
            if element is str or get_origin(element) is Literal:
                return (value,)
        return value


_PASSWORD_IN_ADDRESS = re.compile("//[^/@:]*:[^/@]+@")


class LakehouseConfig(Section):
    """Where the tables lie: a folder or object-store address, or a catalog."""

    root: str = Field("lakehouse", description="folder or address; a table lies at <root>/<layer>/<name>")
    files: str | None = Field(
        None, description="folder of models and report, where root is an address in an object store; default: root"
    )
    catalog: str | None = Field(None, description="catalog to use instead of root, e.g. main")
    schema_name: str | None = Field(
        None, alias="schema", description="schema in the catalog; default: one schema per layer"
    )

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @field_validator("root", "files")
    @classmethod
    def _holds_no_password(cls, place: str | None) -> str | None:
        if place is not None and _PASSWORD_IN_ADDRESS.search(place):
            # Not repeated: the message ends in logs.
            raise ValueError("holds a user and a password, which a configuration must not: the environment has them")
        return place


class SparkConfig(Section):
    """How the session is built where this program starts it."""

    app_name: str = Field("dlmine-spark", description="name shown in the Spark UI")
    master: str | None = Field(None, description="master address; default: what spark-submit gives, else local[*]")
    remote: str | None = Field(None, description="Spark Connect address (sc://host:port) instead of a master")
    driver_memory: str = Field("3g", description="driver heap, where this program starts the JVM")
    jvm: Literal["server", "quick"] = Field(
        "server",
        description="server: Java's defaults, fastest in long runs; quick: compile lightly, for minutes of small work",
    )
    shuffle_partitions: int | None = Field(
        None, ge=1, description="spark.sql.shuffle.partitions; default: twice the cores in local mode"
    )
    executor_timeout: float = Field(
        40.0, gt=0, description="seconds to wait for a cluster's first executor; more where machines start first"
    )
    conf: dict[str, Scalar] = Field(default_factory=dict, description="further Spark settings, passed as they are")

    @field_validator("conf", mode="before")
    @classmethod
    def _dotted(cls, value: Any) -> Any:
        """``--set spark.conf.spark.executor.memory=8g`` comes as sections within sections; Spark's names have dots."""
        return dict(_joined(value)) if isinstance(value, dict) else value


class OutlierRule(Section):
    """How values far from the rest of their group are recognised, and what happens to them."""

    method: Literal["iqr", "zscore", "mad", "quantile", "hampel"] = Field(
        "iqr", description="test of a value; hampel: against the rows around it in time"
    )
    threshold: float = Field(3.0, gt=0, description="fences in units of the method (IQR, sd, MAD; quantile: percent)")
    window: int = Field(7, ge=3, description="hampel: rows of the window, with the tested one in the middle (odd)")
    by: tuple[str, ...] = Field(
        (),
        description="columns whose groups have statistics of their own; hampel: default unique_id, where there is one",
    )
    action: Annotated[Literal["flag", "clip", "null", "quarantine"], BeforeValidator(_spelt_out)] = Field(
        "null", description="keep and flag, move to the fence, blank (so that fill applies), or refuse the row"
    )

    @model_validator(mode="after")
    def _window_has_a_middle(self) -> OutlierRule:
        if self.window % 2 == 0:
            raise ValueError(f"window {self.window} has no middle: use {self.window + 1}")
        return self


class Lookup(Section):
    """The value of a column in the matching row of another source."""

    source: str = Field(description="the other source")
    column: str | None = Field(None, description="its column that the value is taken from; default: the same name")
    on: dict[str, str] = Field(
        min_length=1,
        description="columns that are equal in both: [names], or a mapping of this source's to the other's",
    )

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    @model_validator(mode="before")
    @classmethod
    def _on_is_no_truth(cls, value: Any) -> Any:
        """YAML reads a bare ``on`` as true, also where it is a key."""
        return {"on" if key is True else key: item for key, item in value.items()} if isinstance(value, dict) else value

    @field_validator("on", mode="before")
    @classmethod
    def _same_names(cls, value: Any) -> Any:
        """``on: [item]`` means ``on: {item: item}``."""
        names = [value] if isinstance(value, str) else value
        return {name: name for name in names} if isinstance(names, list | tuple) else names


class ColumnConfig(Section):
    """One canonical column of a source: where it comes from and what is expected of it."""

    source: str | None = Field(None, alias="from", description="column in the file; default: the same name")
    type: ColumnType | None = Field(None, description="type after cleaning")
    formats: tuple[str, ...] = Field((), description="accepted date or time patterns (Spark's), tried in order")
    time_zone: str | None = Field(
        None,
        description="of timestamps written without a zone, e.g. Europe/Berlin (default: the session's, UTC); of dates "
        "that are instants in Delta, Parquet or a database, where the day is meant",
    )
    required: bool | None = Field(
        None, description="a row without it is quarantined; default: true for the keys of the kind"
    )
    decimal: Literal[".", ","] = Field(".", description="decimal sign when a number is ambiguous (1,234)")
    minimum: float | None = Field(None, alias="min", description="smallest legal value")
    maximum: float | None = Field(None, alias="max", description="largest legal value")
    out_of_range: CellAction = Field("quarantine", description="what happens to a value below min or above max")
    pattern: str | None = Field(
        None, description="regular expression (Java's) that the whole text has to match, after trimming"
    )
    min_length: int | None = Field(None, ge=1, description="fewest characters of a text")
    max_length: int | None = Field(None, ge=1, description="most characters of a text")
    not_matching: CellAction = Field(
        "quarantine", description="what happens to a text that does not match the pattern, or is too short or long"
    )
    allowed: tuple[str, ...] = Field((), description="legal values; near misses are corrected")
    not_allowed: CellAction = Field(
        "quarantine", description="what happens to a text that no allowed value is near enough to"
    )
    similarity: float = Field(
        0.8, gt=0, le=1, description="least similarity (1 - edit distance / length) for a correction"
    )
    case: Literal["keep", "upper", "lower"] = Field("keep", description="letter case after trimming")
    fill: Literal[
        "none",
        "constant",
        "mean",
        "median",
        "mode",
        "latest",
        "lookup",
        "forward",
        "backward",
        "linear",
        "seasonal_median",
    ] = Field(
        "none",
        description="how blanks are filled; latest: the last known value of the same fill_by, also a later one; "
        "lookup: the value of another source; filled cells are flagged <column>_imputed",
    )
    fill_value: Scalar | None = Field(None, description="value of fill: constant")
    fill_from: Lookup | None = Field(None, description="where fill: lookup finds the value")
    fill_by: tuple[str, ...] = Field(
        (), description="groups of the fill, e.g. [store_id]; fills along time: default unique_id, where there is one"
    )
    outliers: OutlierRule | None = Field(None, description="treatment of outliers")

    # YAML reads 1 and 2016 as numbers, also where they are names of columns or values of a category.
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, coerce_numbers_to_str=True)

    @model_validator(mode="after")
    def _consistent(self) -> ColumnConfig:
        if problems := [*_contradictions(self), *_odd_values(self)]:
            raise ValueError("; ".join(problems))
        return self

    def has_length(self, text: str) -> bool:
        """Whether a text is neither too short nor too long."""
        return (self.min_length or 0) <= len(text) and (self.max_length is None or len(text) <= self.max_length)


def _contradictions(spec: ColumnConfig) -> Iterator[str]:
    """Settings of a column that no cell could satisfy together."""
    if spec.minimum is not None and spec.maximum is not None and spec.minimum > spec.maximum:
        yield f"min {spec.minimum} is above max {spec.maximum}"
    if spec.min_length is not None and spec.max_length is not None and spec.min_length > spec.max_length:
        yield f"min_length {spec.min_length} is above max_length {spec.max_length}"
    if (spec.fill == "constant") != (spec.fill_value is not None):
        yield "fill: constant and fill_value go together: give both or neither"
    if (spec.fill == "lookup") != (spec.fill_from is not None):
        yield "fill: lookup and fill_from go together: give both or neither"
    for setting in ("out_of_range", "not_matching", "not_allowed"):
        if spec.required and getattr(spec, setting) == "null":
            yield f"required and {setting}: null contradict each other: use quarantine"
    if spec.fill == "latest" and not spec.fill_by:
        yield "fill: latest needs fill_by, the columns of the entity whose latest value it is"
    if spec.required and spec.outliers is not None and spec.outliers.action == "null":
        yield "required and outliers.action: null contradict each other: use clip, flag or quarantine"


def _odd_values(spec: ColumnConfig) -> Iterator[str]:
    """Values of the declaration itself that its own rules would refuse."""
    for value in spec.allowed:
        if not spec.has_length(value):
            yield f"allowed: {value!r} is shorter than min_length or longer than max_length"
    if spec.fill_value is None:
        return
    text = str(spec.fill_value)
    if spec.allowed and text not in spec.allowed:
        yield f"fill_value {text!r} is no allowed value"
    if not spec.has_length(text):
        yield f"fill_value {text!r} is shorter than min_length or longer than max_length"
    if _is_value_of(spec.fill_value, "double"):
        number = float(spec.fill_value)
        if (spec.minimum is not None and number < spec.minimum) or (spec.maximum is not None and number > spec.maximum):
            yield f"fill_value {spec.fill_value!r} is below min or above max"


class RowRule(Section):
    """A condition every row should meet."""

    name: str = Field(description="shown as the reason in silver.quarantine")
    expr: str = Field(description="Spark SQL predicate over canonical columns; null counts as met")
    action: RowAction = Field(
        "quarantine", description="refuse the row (also: error), count and keep it, or repair it by 'set'"
    )
    set: dict[str, str] = Field(
        default_factory=dict, description="action: repair: column -> Spark SQL expression of its new value"
    )

    @field_validator("set", mode="before")
    @classmethod
    def _numbers_are_expressions(cls, value: Any) -> Any:
        """``set: {quantity: 0}`` is the expression 0."""
        if not isinstance(value, Mapping):
            return value
        return {name: str(new) if isinstance(new, int | float) else new for name, new in value.items()}

    @model_validator(mode="after")
    def _repair_says_how(self) -> RowRule:
        if (self.action == "repair") != bool(self.set):
            raise ValueError("action: repair and set go together: give both or neither (set: {column: expression})")
        return self


class Equation(Section):
    """Arithmetic between numeric columns: ``quantity * price = amount``."""

    name: str = Field(description="shown as equation:<name> in silver.quarantine and silver.repairs")
    product: tuple[str, ...] = Field((), description="columns whose product it is")
    sum: tuple[str, ...] = Field((), description="columns whose sum it is, instead of product")
    equals: str = Field(description="column that holds the result")
    tolerance: float = Field(0.01, ge=0, description="largest difference that is none, in units of the result")
    action: RowAction = Field(
        "quarantine",
        description="where all are there and it does not hold: refuse the row, warn, or set the result (repair); a "
        "single missing one is computed from the others in any case",
    )

    @model_validator(mode="after")
    def _is_one(self) -> Equation:
        if bool(self.product) == bool(self.sum):
            raise ValueError("give either product or sum: [columns]")
        if len(self.terms) < 2:
            raise ValueError("product and sum need two columns at least")
        repeated = [name for name in dict.fromkeys(self.columns) if self.columns.count(name) > 1]
        if repeated:
            raise ValueError(f"column {repeated[0]} is there twice")
        return self

    @property
    def terms(self) -> tuple[str, ...]:
        """The columns on the left side."""
        return self.product or self.sum

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of both sides."""
        return (*self.terms, self.equals)


class Cancellations(Section):
    """How basket lines that cancel an earlier sale are recognised, and what happens to both."""

    marker: str = Field(description="Spark SQL predicate of a cancelling line, e.g. \"basket_id like 'C%'\"")
    match: tuple[str, ...] = Field(
        min_length=1, description="columns that are equal in a sale and its cancellation, e.g. [customer_id, item]"
    )
    quantity: str = Field(s.QUANTITY, description="column that is opposite: 3 in the sale, -3 in its cancellation")
    action: Literal["drop_both", "flag"] = Field(
        "drop_both", description="refuse both lines, with a reason that names the other, or warn of both"
    )


class DeclaredDependency(Section):
    """A functional dependency that is known to hold: equal values of ``from`` have one value of ``to``."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, coerce_numbers_to_str=True)

    determinant: tuple[str, ...] = Field(alias="from", min_length=1, max_length=2, description="one or two columns")
    dependent: str = Field(alias="to", description="the column that they determine")

    @model_validator(mode="after")
    def _is_not_trivial(self) -> DeclaredDependency:
        if self.dependent in self.determinant or len(set(self.determinant)) < len(self.determinant):
            raise ValueError(f"{', '.join(self.determinant)} -> {self.dependent} names a column twice")
        return self


class MinedRules(Section):
    """Quality rules found in the data itself: what breaks them is suspicious, and has a probable true value."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    enabled: bool = Field(True, description="look for suspicious cells; false keeps the section without using it")
    columns: tuple[str, ...] = Field((), description="columns looked at; default: all")
    max_columns: int = Field(60, ge=1, description="columns looked at, at most; those left out are logged")
    dependencies: tuple[DeclaredDependency, ...] = Field((), description="dependencies used beside the mined ones")
    min_confidence: float = Field(
        0.9, gt=0.5, le=1, description="least share of rows that agree with a mined dependency (1 - g3)"
    )
    min_groups: int = Field(3, ge=1, description="groups of two rows or more that a mined dependency is seen in")
    sample_rows: int = Field(100_000, ge=1_000, description="rows a dependency is looked for in, in whole groups")
    min_suspicion: float = Field(0.4, ge=0, le=1, description="suspicion from which a cell is on record")
    apply_above: float | None = Field(
        None, ge=0, le=1, description="confidence from which a proposed repair is applied; default: none is"
    )
    repair_columns: tuple[str, ...] = Field(
        (), description="columns that repairs are applied to; default: all but the key"
    )
    quarantine_above: float | None = Field(
        None, ge=0, le=1, description="suspicion from which a row whose cell was not repaired is refused; default: none"
    )

    @model_validator(mode="after")
    def _consistent(self) -> MinedRules:
        if self.quarantine_above is not None and self.quarantine_above < self.min_suspicion:
            raise ValueError(
                f"quarantine_above {self.quarantine_above} is below min_suspicion {self.min_suspicion}: rows would be "
                "refused for cells that are not even on record"
            )
        if self.repair_columns and self.apply_above is None:
            raise ValueError(
                "repair_columns without apply_above: no repair is applied anywhere, so set both or neither"
            )
        pairs = [(rule.determinant, rule.dependent) for rule in self.dependencies]
        for determinant, dependent in dict.fromkeys(pairs):
            if pairs.count((determinant, dependent)) > 1:
                raise ValueError(f"dependencies: {', '.join(determinant)} -> {dependent} is there twice")
        named = {name for determinant, dependent in pairs for name in (*determinant, dependent)}
        outside = sorted((named | set(self.repair_columns)) - set(self.columns))
        if self.columns and outside:
            raise ValueError(f"columns: {', '.join(outside)} is used here, but not among the columns looked at")
        return self


class Reference(Section):
    """Columns whose values have to be found in another source: a foreign key."""

    columns: tuple[str, ...] = Field(
        min_length=1, description="columns that refer to a row; a row with a blank in one of them refers to none"
    )
    source: str = Field(description="the source that has to have such a row, among its good ones")
    to: tuple[str, ...] = Field((), description="its columns, in the same order; default: its key")
    action: CellAction = Field(
        "quarantine", description="what happens where there is none: refuse the row, blank the columns, or warn"
    )

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


class Freshness(Section):
    """How old the newest row of a source may be."""

    column: str | None = Field(None, description="date or timestamp of a row; default: the time of the source")
    max_age_days: float = Field(ge=0, description="largest age of its newest value; of dates: days of the calendar")
    action: Literal["error", "warn"] = Field(
        "error", description="of an older source: stop before any silver table is changed, or warn"
    )


class Drift(Section):
    """How far a source may differ from what it was in the previous run; null: not compared."""

    rows: float | None = Field(0.5, ge=0, description="largest relative change of the number of good rows")
    blanks: float | None = Field(0.1, ge=0, le=1, description="largest change of a column's share of blanks")
    shares: float | None = Field(
        0.2,
        ge=0,
        le=1,
        description="largest share of a column's values that may lie elsewhere: Kolmogorov-Smirnov distance of "
        "numbers, total variation distance of the frequent texts; dates are not compared",
    )
    columns: tuple[str, ...] = Field((), description="mapped columns compared; default: all")
    action: Literal["error", "warn"] = Field(
        "warn", description="of a larger change: stop before any silver table is changed, or warn"
    )

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


STRUCTURED = ("json", "parquet", "delta", "jdbc")
"""Formats that bring their columns, and may have lists in a cell."""
_WITH_INSTANTS = ("parquet", "delta", "jdbc")
"""Formats whose cells may be times that are told in some zone only when they are read."""


class DatabaseConfig(Section):
    """A table behind JDBC: what is read of it, by how many tasks, and who may."""

    table: str = Field(min_length=1, description="name of the table or view, or (SELECT ...) AS name")
    credentials: str | None = Field(
        None,
        pattern=r"^[A-Za-z][A-Za-z0-9_]*$",
        description="NAME of the variables DLMINE_NAME_USER and DLMINE_NAME_PASSWORD; on Databricks also of the "
        "secrets NAME_user and NAME_password in scope dlmine. Default: what the driver finds by itself",
    )
    driver: str | None = Field(None, description="class of the JDBC driver; default: the one that claims the address")
    partition_column: str | None = Field(
        None, description="number, date or time by whose ranges tasks share the table; default: one task reads it"
    )
    partitions: int = Field(8, ge=1, le=1_000, description="tasks, and connections, with partition_column")
    fetch_size: int = Field(10_000, ge=1, description="rows that a round trip to the database brings")
    incremental_column: str | None = Field(
        None,
        description="number, date or time that is higher in rows that are new or changed. load: merge reads the rows "
        "beyond the highest so far; load: replace reads the table only where it, or the number of rows, changed",
    )
    lookback: str | None = Field(
        None,
        description="load: merge reads again what lies this far below the highest so far, for rows that came late: a "
        "number, or '2 days'",
    )

    @model_validator(mode="after")
    def _lookback_has_a_column(self) -> DatabaseConfig:
        if self.lookback is not None and self.incremental_column is None:
            raise ValueError("lookback: needs incremental_column, which it is counted in")
        if self.lookback is not None and not re.fullmatch(LOOKBACK, self.lookback):
            raise ValueError(f"lookback: {self.lookback!r} is no number or time span: use 1000, 2 days or 6 hours")
        return self


LOOKBACK = r"\d+( (minute|hour|day|week)s?)?"
"""A number, or a span of time in words that SQL has, too."""


class SourceConfig(Section):
    """One source: files of one shape, and how they become rows of a silver table."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    kind: Kind = Field(description="what a row is: basket line, series value, static attributes, calendar, basket")
    path: str = Field(min_length=1, description="file, folder or glob; of format jdbc, the address jdbc:...")
    format: Literal["csv", "json", "parquet", "delta", "text", "jdbc"] = Field(
        "csv", description="file format; jdbc: a table of a database"
    )
    database: DatabaseConfig | None = Field(None, description="format jdbc: which table, and how it is read")
    delimiter: str = Field(",", min_length=1, max_length=4, description="between the cells of a CSV line")
    encoding: str = Field("UTF-8", description="of text files: UTF-8, UTF-16 or one with a byte a letter (cp1252)")
    multiline: bool = Field(
        False, description="quoted CSV cells, or JSON records, may hold line breaks (a file is then read by one task)"
    )
    separator: str = Field(
        r"[\s,]+", description="kind baskets: regular expression between items; a quoted CSV item stays whole"
    )
    columns: dict[str, ColumnConfig] = Field(
        default_factory=dict, description="canonical column: its column in the file, or its whole declaration"
    )
    other_columns: Literal["drop", "keep"] = Field(
        "drop", description="columns not mapped: dropped, or kept (typed as number or text by their content)"
    )
    null_tokens: tuple[str, ...] = Field(
        ("", "NA", "N/A", "n/a", "null", "NULL", "None", "NaN", "nan", "-", "?"),
        description="cells that mean missing, after trimming",
    )
    unicode: Literal["nfc", "keep"] = Field(
        "nfc", description="nfc: a letter followed by its accent becomes one character; keep: texts stay as they are"
    )
    roles: dict[str, Role] = Field(default_factory=dict, description="covariate: its role in forecasting")
    default_role: Role = Field("past_only", description="role of covariates without one; past_only cannot leak")
    key: tuple[str, ...] = Field((), description="columns that identify a row; default by kind")
    load: Literal["replace", "merge"] = Field(
        "replace",
        description="replace: the tables hold what the files there now hold; merge: files that are new are added, by "
        "key, to what earlier ones brought",
    )
    new_columns: Literal["add", "refuse"] = Field(
        "add", description="load merge: a file with other columns than earlier ones is taken, or refused"
    )
    keep: Literal["first", "last", "most_complete", "sum"] = Field(
        "last",
        description="which row of a key stays, in the order of file name and line; most_complete: the last of those "
        "with most known cells; sum: the last, with sum_columns summed over all rows of the key",
    )
    sum_columns: tuple[str, ...] = Field(
        (), description="columns that keep: sum adds up; default: every column of type double outside the key"
    )
    rules: tuple[RowRule, ...] = Field((), description="conditions on whole rows")
    equations: tuple[Equation, ...] = Field((), description="arithmetic between numeric columns")
    cancellations: Cancellations | None = Field(
        None, description="kind lines: lines that cancel an earlier sale, and are taken out with it"
    )
    references: tuple[Reference, ...] = Field((), description="columns whose values have to be found in other sources")
    freshness: Freshness | None = Field(None, description="how old the newest row may be; default: any age")
    drift: Drift | None = Field(None, description="how far it may differ from the previous run; default: not compared")
    mined: MinedRules | None = Field(None, description="quality rules mined from the data; default: none are")

    @field_validator("columns", mode="before")
    @classmethod
    def _expand_shorthand(cls, value: Any) -> Any:
        """``quantity: Menge`` means ``quantity: {from: Menge}``."""
        if not isinstance(value, Mapping):
            return value
        switches = [str(name) for name, spec in value.items() if isinstance(spec, bool)]
        if switches:
            raise ValueError(
                f"{', '.join(switches)}: YAML takes a bare yes, no, on or off for a switch: quote the name"
            )
        return {
            name: {"from": spec} if isinstance(spec, str) else ({} if spec is None else spec)
            for name, spec in value.items()
        }

    @model_validator(mode="after")
    def _has_required_columns(self) -> SourceConfig:
        missing = [name for name in REQUIRED_COLUMNS[self.kind] if name not in self.columns]
        if missing:
            raise ValueError(
                f"a source of kind {self.kind} has to map {', '.join(missing)} "
                f"(columns: {{{missing[0]}: <column in the file>}})"
            )
        return self

    @model_validator(mode="after")
    def _makes_sense(self) -> SourceConfig:
        problems = [*_bad_names(self), *(problem for name in self.columns for problem in _misfits(self, name))]
        if self.kind == "baskets":
            problems += _bad_baskets(self)
        listings = {
            "key": self.key,
            "sum_columns": self.sum_columns,
            "rules": tuple(rule.name for rule in self.rules),
            "equations": tuple(equation.name for equation in self.equations),
        }
        for listed, names in listings.items():
            problems += [f"{listed}: {name} is there twice" for name in dict.fromkeys(names) if names.count(name) > 1]
        problems += [*_bad_repairs(self), *_bad_equations(self), *_bad_versions(self), *_bad_cancellations(self)]
        problems += [*_bad_merge(self), *_bad_database(self)]
        problems += [*_bad_references(self), *_bad_freshness(self), *_bad_drift(self)]
        if any(sign in self.delimiter for sign in '"\r\n'):
            problems.append("delimiter: a quote or line break cannot separate cells")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def column_type(self, name: str) -> ColumnType:
        """Type of a mapped column: declared, else the canonical one, else string."""
        declared = self.columns[name].type if name in self.columns else None
        return declared or CANONICAL_TYPES.get(name, "string")

    def is_required(self, name: str) -> bool:
        """Whether a row whose cell is missing is quarantined (``y`` may be missing: it can be filled)."""
        declared = self.columns[name].required if name in self.columns else None
        if declared is not None:
            return declared
        return name in REQUIRED_COLUMNS[self.kind] and name != s.Y

    @property
    def time(self) -> str | None:
        """The column that orders the rows in time, if the kind and the mapping give one."""
        if self.kind in ("panel", "calendar"):
            return s.DS
        return s.TS if self.kind == "lines" and s.TS in self.columns else None

    @property
    def mapped_key(self) -> tuple[str, ...]:
        """Columns that identify a row, as far as the mapping tells: the declared ones, else those of the kind."""
        return self.key or tuple(name for name in DEFAULT_KEYS.get(self.kind, ()) if name in self.columns)

    @property
    def mining(self) -> MinedRules | None:
        """The mined rules, where they are in use."""
        return self.mined if self.mined is not None and self.mined.enabled else None

    def role(self, name: str) -> Role:
        """Role of a covariate; names are compared without regard to case, as Spark does."""
        by_name = {key.lower(): role for key, role in self.roles.items()}
        return by_name.get(name.lower(), self.default_role)


_ALONG_TIME = ("forward", "backward", "linear", "seasonal_median")
"""Fills that look at neighbours in time."""


def _bad_names(source: SourceConfig) -> Iterator[str]:
    """Names that Delta refuses as columns, or that mean something else."""
    for name in source.columns:
        if re.search(r"[ ,;{}()\n\t=.`]", name) or name.startswith("_") or name.endswith(s.IMPUTED_SUFFIX):
            yield (
                f"columns: {name!r} cannot be the name of a column (no spaces or signs like ,;.(), no leading _, "
                f"not ending with {s.IMPUTED_SUFFIX}): name it otherwise, and the column in the file by 'from'"
            )
    by_case: dict[str, str] = {}
    for name in source.columns:
        if by_case.setdefault(name.lower(), name) != name:
            yield f"columns: {by_case[name.lower()]} and {name} are one name to Spark, which ignores case"


def _misfits(source: SourceConfig, name: str) -> Iterator[str]:
    """Settings of a column that its type, or the kind of its source, gives no meaning to."""
    spec, type_ = source.columns[name], source.column_type(name)
    needs = {
        "min": (spec.minimum is not None, ("double", "integer")),
        "max": (spec.maximum is not None, ("double", "integer")),
        "outliers": (spec.outliers is not None, ("double", "integer")),
        f"fill: {spec.fill}": (spec.fill in ("mean", "median", "linear", "seasonal_median"), ("double", "integer")),
        "formats": (bool(spec.formats), ("date", "timestamp")),
        "time_zone": (
            spec.time_zone is not None,
            ("timestamp", "date") if source.format in _WITH_INSTANTS else ("timestamp",),
        ),
        "pattern": (spec.pattern is not None, ("string",)),
        "min_length": (spec.min_length is not None, ("string",)),
        "max_length": (spec.max_length is not None, ("string",)),
        "allowed": (bool(spec.allowed), ("string",)),
        f"case: {spec.case}": (spec.case != "keep", ("string",)),
    }
    for setting, (is_used, types) in needs.items():
        if is_used and type_ not in types:
            yield f"columns.{name}: {setting} needs type {' or '.join(types)}, the column is of type {type_}"
    if spec.fill in _ALONG_TIME and source.time is None:
        yield f"columns.{name}: fill: {spec.fill} goes along time, which this source does not have: use median or mode"
    if spec.outliers is not None and spec.outliers.method == "hampel":
        if source.time is None:
            yield f"columns.{name}: outliers: hampel goes along time, which this source does not have: use mad"
        elif source.kind == "lines" and not spec.outliers.by:
            yield f"columns.{name}: outliers: hampel on lines needs by, the columns of a series"
    if spec.fill_value is not None and not _is_value_of(spec.fill_value, type_):
        yield f"columns.{name}: fill_value {spec.fill_value!r} is no {type_}"


_NUMERIC = ("double", "integer")


def _bad_repairs(source: SourceConfig) -> Iterator[str]:
    for rule in source.rules:
        for name in rule.set:
            if name not in source.columns:
                yield f"rules.{rule.name}.set: no column {name} is mapped{_near(source, name)}"


def _bad_equations(source: SourceConfig) -> Iterator[str]:
    """Columns of an equation that are not mapped as numbers (of columns kept unmapped nobody knows it yet)."""
    for equation in source.equations:
        for name in equation.columns:
            yield from _not_numeric(source, f"equations.{equation.name}", name)


def _bad_versions(source: SourceConfig) -> Iterator[str]:
    """Settings of ``keep: sum`` without it, or without a key, or about columns that cannot be summed."""
    if source.sum_columns and source.keep != "sum":
        yield f"sum_columns: needs keep: sum, keep is {source.keep}"
    if source.keep in ("sum", "most_complete") and not source.key and source.kind in ("lines", "table"):
        yield f"keep: {source.keep} needs a key: [columns], kind {source.kind} has none of its own"
    for name in source.sum_columns:
        if name in source.key:
            yield f"sum_columns: {name} is part of the key"
        yield from _not_numeric(source, "sum_columns", name)


def _bad_cancellations(source: SourceConfig) -> Iterator[str]:
    rule = source.cancellations
    if rule is None:
        return
    if source.kind != "lines":
        yield f"cancellations: are of kind lines, the source is of kind {source.kind}"
    if rule.quantity in rule.match:
        yield f"cancellations.match: {rule.quantity} is opposite in the two lines, it cannot be equal"
    yield from _not_numeric(source, "cancellations.quantity", rule.quantity)


def _bad_merge(source: SourceConfig) -> Iterator[str]:
    """What cannot be told of a delivery without the rows of all others."""
    if source.load == "replace":
        if source.new_columns == "refuse":
            yield "new_columns: refuse needs load: merge"
        return
    if source.kind == "calendar":
        yield "load: a calendar is replaced; merge is for rows that come day by day"
    if source.format == "delta":
        yield "load: merge takes files, format delta has none of its own; use load: replace"
    if source.kind == "baskets" and s.BASKET_ID not in source.columns:
        yield "load: merge needs basket_id to be mapped: without it a basket has no name that lasts"
    if source.kind in ("lines", "table") and not source.key:
        yield f"load: merge needs a key: [columns], kind {source.kind} has none of its own"
    for name in source.mapped_key:
        if name not in source.columns:
            yield f"load: merge goes by key, of which {name} is not mapped{_near(source, name)}"
            continue
        spec = source.columns[name]
        if spec.required is False:
            yield f"load: merge goes by key, of which {name} may be missing: drop required: false"
        blanked = "null" in (spec.out_of_range, spec.not_matching, spec.not_allowed)
        moved = spec.outliers is not None and spec.outliers.action in ("clip", "null")
        if spec.fill != "none" or blanked or moved:
            yield f"columns.{name}: is part of the key that load: merge goes by, so no rule may give it other values"
    if source.keep in ("most_complete", "sum"):
        yield f"keep: {source.keep} needs all rows of a key, load: merge has those of new files: use last or first"
    if source.cancellations is not None:
        yield "cancellations: a sale and its cancellation may come with different deliveries: use load: replace"
    if source.mining is not None:
        yield "mined: rules are mined from all rows: use load: replace"
    for name, spec in source.columns.items():
        if spec.outliers is not None and spec.outliers.method == "hampel":
            yield f"columns.{name}: outliers: hampel looks at neighbours, which may come later: use load: replace"


def _bad_database(source: SourceConfig) -> Iterator[str]:
    """Settings of a database on files and the reverse; credentials where everybody reads them."""
    if source.format != "jdbc":
        if source.database is not None:
            yield f"database: is for format jdbc, the format is {source.format}"
        elif source.path.lower().startswith("jdbc:"):
            yield "format: path is the address of a database: set format: jdbc and database: {table: NAME}"
        return
    if source.database is None:
        yield "database: format jdbc needs it: {table: NAME}"
        return
    if holds_credentials(source.path):
        # Not repeated: the message ends in logs.
        yield (
            "path: holds a user or a password, which a configuration must not: take it out, and name the variables "
            "that hold them by database.credentials"
        )
    elif not source.path.lower().startswith("jdbc:"):
        yield f"path: format jdbc needs an address like jdbc:postgresql://host:5432/name, got {source.path!r}"
    if source.encoding != "UTF-8":
        yield "encoding: is for text files, a database says its own"
    if source.load == "merge" and source.database.incremental_column is None:
        yield "load: merge of a database needs database.incremental_column, by which new rows are told"
    if source.load == "replace" and source.database.lookback is not None:
        yield "database.lookback: is for load: merge"


def holds_credentials(address: str) -> bool:
    """Whether the address of a database says who may read it (``//user:word@host``, ``?password=``)."""
    place = re.split("[?;]", address)[0]
    return bool(re.search("[^:/]@", place) or re.search(r"(?i)[?&;](user|username|uid|\w*password|pwd)=", address))


def _bad_references(source: SourceConfig) -> Iterator[str]:
    """What is wrong with the columns that refer to other sources; ``_bad_relations`` looks at those sources."""
    for place, reference in enumerate(source.references):
        key = f"references.{place}"
        if source.kind == "baskets":
            yield f"{key}: kind baskets has no columns to refer by; use kind lines"
        for name in dict.fromkeys(reference.columns):
            if reference.columns.count(name) > 1:
                yield f"{key}.columns: {name} is there twice"
            if name not in source.columns:
                yield f"{key}.columns: no column {name} is mapped{_near(source, name)}"
            elif reference.action == "null" and (source.is_required(name) or name in source.mapped_key):
                yield f"{key}: {name} is required, and action: null would blank it: use quarantine"


def _bad_freshness(source: SourceConfig) -> Iterator[str]:
    if source.freshness is None:
        return
    name = source.freshness.column or source.time
    if name is None:
        yield "freshness.column: is needed, since a source of this kind and mapping has no time of its own"
    elif name not in source.columns:
        yield f"freshness.column: no column {name} is mapped{_near(source, name)}"
    elif source.column_type(name) not in ("date", "timestamp"):
        yield f"freshness.column: {name} has to be a date or timestamp, it is of type {source.column_type(name)}"


def _bad_drift(source: SourceConfig) -> Iterator[str]:
    if source.drift is None:
        return
    if source.kind == "baskets" and source.drift.columns:
        yield "drift.columns: kind baskets has no columns to compare, only a number of rows"
        return
    for name in source.drift.columns:
        if name not in source.columns:
            yield f"drift.columns: no column {name} is mapped{_near(source, name)}"


def _bad_relations(sources: Mapping[str, SourceConfig]) -> Iterator[str]:
    """What is wrong between sources: references and lookups that cannot find what they name."""
    for name, source in sources.items():
        for place, reference in enumerate(source.references):
            key = f"sources.{name}.references.{place}"
            other = sources.get(reference.source)
            if other is None:
                yield f"{key}.source: there is no source {reference.source}{_nearest(reference.source, sources)}"
                continue
            to = reference.to or other.mapped_key
            if not to:
                yield f"{key}.to: is needed, since source {reference.source} has no key"
            elif len(to) != len(reference.columns):
                yield (
                    f"{key}: {_listed(reference.columns)} cannot refer to {_listed(to)} of source {reference.source}: "
                    "as many columns are needed on both sides"
                )
            else:
                pairs = dict(zip(reference.columns, to, strict=True))
                yield from _bad_pairs(source, other, pairs, f"{key}.to", reference.source)
        for column, spec in source.columns.items():
            if spec.fill_from is not None:
                yield from _bad_lookup(source, column, spec.fill_from, sources, f"sources.{name}.columns.{column}")
    try:
        list(reference_order(sources).static_order())
    except graphlib.CycleError as error:
        # Its names run against the references.
        circle = " -> ".join(reversed(error.args[1]))
        yield f"sources: references go in a circle, {circle}: none of these can be judged first, so drop one of them"


def reference_order(sources: Mapping[str, SourceConfig]) -> graphlib.TopologicalSorter[str]:
    """The sources in an order in which each comes after those that it refers to; it may refer to itself."""
    named = {
        name: {one.source for one in source.references if one.source in sources} - {name}
        for name, source in sources.items()
    }
    return graphlib.TopologicalSorter(named)


def _bad_lookup(
    source: SourceConfig, column: str, lookup: Lookup, sources: Mapping[str, SourceConfig], at: str
) -> Iterator[str]:
    key = f"{at}.fill_from"
    other = sources.get(lookup.source)
    if other is None:
        yield f"{key}.source: there is no source {lookup.source}{_nearest(lookup.source, sources)}"
        return
    for name in lookup.on:
        if name not in source.columns:
            yield f"{key}.on: no column {name} is mapped{_near(source, name)}"
        elif name == column:
            yield f"{key}.on: {name} is the column to be filled, which is blank where a value is looked up"
    mapped = {name: to for name, to in lookup.on.items() if name in source.columns}
    yield from _bad_pairs(source, other, mapped, f"{key}.on", lookup.source)
    wanted = lookup.column or column
    if wanted not in other.columns or other.kind == "baskets":
        yield f"{key}.column: source {lookup.source} has no column {wanted}{_near(other, wanted)}"
        return
    type_, given = source.column_type(column), other.column_type(wanted)
    if given != type_ and (given, type_) != ("integer", "double"):
        yield f"{key}.column: {wanted} of source {lookup.source} is of type {given}, {column} is of type {type_}"


def _bad_table(key: str, name: str, columns: Iterable[str], sources: Mapping[str, SourceConfig]) -> Iterator[str]:
    """What is wrong with columns of a table that a stage is to read (of those kept unmapped nobody knows it yet)."""
    source = sources.get(name)
    if source is None:
        yield f"{key}.source: there is no source {name!r}{_nearest(name, sources)}; sources: {', '.join(sources)}"
        return
    if source.kind not in ("table", "statics"):
        yield f"{key}.source: {name} is of kind {source.kind}, expected table or statics"
        return
    for column in columns:
        if column not in source.columns and source.other_columns == "drop":
            yield f"{key}.columns: source {name} maps no column {column}{_near(source, column)}"


def _not_counted(key: str, columns: Iterable[str], source: SourceConfig) -> Iterator[str]:
    for name in columns:
        if name in source.columns and source.column_type(name) not in _NUMERIC:
            yield f"{key}: {name} has to be a number, it is of type {source.column_type(name)}: declare its type"


def _bad_pairs(
    source: SourceConfig, other: SourceConfig, pairs: Mapping[str, str], key: str, other_name: str
) -> Iterator[str]:
    """Columns (own name -> the other's) that are not there, or whose values can never be equal."""
    for name, to in pairs.items():
        if to not in other.columns or other.kind == "baskets":
            yield f"{key}: source {other_name} has no column {to}{_near(other, to)}"
        elif name in source.columns:
            type_, found = source.column_type(name), other.column_type(to)
            if type_ != found and not {type_, found} <= set(_NUMERIC):
                yield f"{key}: {to} of source {other_name} is of type {found}, {name} is of type {type_}"


def _listed(names: Sequence[str]) -> str:
    return f"({', '.join(names)})"


def _not_numeric(source: SourceConfig, key: str, name: str) -> Iterator[str]:
    if name not in source.columns:
        yield f"{key}: no column {name} is mapped{_near(source, name)}"
    elif source.column_type(name) not in _NUMERIC:
        yield f"{key}: {name} has to be a number, it is of type {source.column_type(name)}"


def _near(source: SourceConfig, name: str) -> str:
    return _nearest(name, source.columns)


def _nearest(name: str, names: Iterable[str]) -> str:
    """``, did you mean ...?`` for the most similar of the names, where case counts little; nothing if none is."""
    by_case = {one.lower(): one for one in names}
    near = difflib.get_close_matches(name.lower(), by_case, n=1)
    return f", did you mean {by_case[near[0]]}?" if near else ""


def _is_value_of(value: Scalar, type_: ColumnType) -> bool:
    try:
        if type_ in ("double", "integer", "boolean"):
            return math.isfinite(float(value)) and (type_ == "double" or float(value).is_integer())
        if type_ in ("date", "timestamp"):
            datetime.fromisoformat(str(value))
    except ValueError:
        return False
    return True


def _bad_baskets(source: SourceConfig) -> Iterator[str]:
    """What a source of one basket a line cannot use."""
    if source.format in STRUCTURED and s.ITEMS not in source.columns:
        yield f"columns: format {source.format} has to map items (a list, or text with a separator)"
    for name, spec in source.columns.items():
        if name not in (s.BASKET_ID, s.ITEMS):
            yield f"columns: kind baskets has no column {name}, only {s.BASKET_ID} and {s.ITEMS}; use kind lines"
        elif spec != ColumnConfig(source=spec.source):
            yield f"columns.{name}: kind baskets uses nothing but 'from'"
    if s.BASKET_ID in source.columns and s.ITEMS not in source.columns:
        yield f"columns: with {s.BASKET_ID}, {s.ITEMS} has to be mapped too"
    if source.other_columns == "keep":
        yield "other_columns: kind baskets keeps none"
    if any(rule.action == "repair" for rule in source.rules):
        yield "rules: kind baskets has no cells to repair"
    if source.keep == "sum":
        yield "keep: kind baskets has no numbers to sum"
    if source.mined is not None and source.mined.enabled:
        yield "mined: kind baskets has no columns to mine rules from; use kind lines"


class CleaningConfig(Section):
    """What is the same for every source."""

    frequency: str = Field(
        "auto",
        description="step of the panel: h (hour), 30min (or another part of a day), D, W, MS (month), QS (quarter), YS "
        "(year), or step, where ds is a whole number that counts steps; auto: from the file. Weeks may begin on any "
        "weekday, months be named by their first or last day",
    )
    fill_gaps: bool = Field(True, description="add the dates missing inside a series, as missing values")
    cutoff: date | None = Field(
        None,
        description="last date that fills and outlier fences are learned from; later rows are filled and judged by "
        "them; default: all rows (sources without a time always)",
    )
    max_rejected: float = Field(
        0.5,
        ge=0,
        le=1,
        description="largest share of a source that may be quarantined, and of the panel's series that may be set "
        "aside, before the job fails",
    )
    panel_value: Literal["amount", "quantity", "baskets"] = Field(
        "amount", description="what y is when the panel is aggregated from lines"
    )

    @field_validator("frequency")
    @classmethod
    def _has_one_name(cls, value: str) -> str:
        """``H``, ``W-SUN`` and ``ME`` are other words for ``h``, ``W`` and ``MS``."""
        if value == "auto":
            return value
        known = from_alias(value)
        if known is None:
            raise ValueError(f"{value!r} is no step of a panel: use auto, {KNOWN_ALIASES}")
        return known.alias

    @model_validator(mode="after")
    def _steps_have_no_date(self) -> CleaningConfig:
        if self.cutoff is not None and self.frequency == COUNTED.alias:
            raise ValueError("cutoff is a date, but with frequency: step ds counts steps: leave cutoff away")
        return self


class RowsConfig(Section):
    """Rows of a table that are segmented by columns of numbers."""

    source: str = Field(description="source of kind table or statics, a row each")
    columns: tuple[str, ...] = Field(min_length=1, description="columns of numbers, each as telling as the others")
    skewed: tuple[str, ...] = Field((), description="of these, those compared on a logarithmic scale: counts, amounts")
    entity: str = Field("row", pattern=r"[a-z][a-z ]*", description="what a row is, in one word, e.g. patient")

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    @model_validator(mode="after")
    def _consistent(self) -> RowsConfig:
        if self.entity in ("store", "customer"):
            raise ValueError(f"entity {self.entity!r} is that of the panel or of the lines: name it otherwise")
        twice = [name for name in dict.fromkeys(self.columns) if self.columns.count(name) > 1]
        if twice:
            raise ValueError(f"columns: {twice[0]} is there twice")
        for name in self.skewed:
            if name not in self.columns:
                raise ValueError(f"skewed: {name} is not among columns{_nearest(name, self.columns)}")
        return self


class SegmentationConfig(Section):
    """k-means on stores (or series), on customers, and on rows of a table."""

    k: int | Literal["auto"] = Field("auto", description="clusters; auto: by silhouette up to k_max")
    k_max: int = Field(8, ge=2, description="largest k tried by auto")
    engine: Literal["auto", "mllib", "blocked"] = Field(
        "auto",
        description="what fits the centres; mllib: MLlib; blocked: matrix products in Arrow batches; auto: blocked",
    )
    restarts: int = Field(
        10, ge=1, description="starts; of MLlib's at most, fewer where one is as good as a sample can do"
    )
    max_iter: int = Field(30, ge=1, description="Lloyd iterations at most")
    customers: bool = Field(True, description="also cluster customers by recency, frequency and money")
    rows: RowsConfig | None = Field(None, description="also cluster rows of a table; default: none")
    assign_only: bool = Field(
        False, description="place stores and customers in the segments of the last fit (gold.segment_models), fit none"
    )
    seed: int = Field(7, description="of the starts")

    @field_validator("k")
    @classmethod
    def _k_at_least_two(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 2:
            raise ValueError("must be at least 2, or auto")
        return value


class SideTemplate(Section):
    """Which items a rule may have on one side."""

    require: tuple[str, ...] = Field((), description="items that are all there")
    forbid: tuple[str, ...] = Field((), description="items of which none is there")
    only: tuple[str, ...] = Field((), description="no other items are there; default: any may be")

    # YAML reads 39 as a number, also where it is the name of an item.
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    @field_validator("*", mode="before")
    @classmethod
    def _a_number_stands_for_a_list_of_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int) else value

    @model_validator(mode="after")
    def _can_be_met(self) -> SideTemplate:
        for item in self.require:
            if item in self.forbid:
                raise ValueError(f"item {item!r} is required and forbidden: no rule can be so")
            if self.only and item not in self.only:
                raise ValueError(f"item {item!r} is required and not among the only ones: add it to only")
        if self.only and set(self.only) <= set(self.forbid):
            raise ValueError("all items of only are forbidden: no rule can be so")
        return self


class SequencesConfig(Section):
    """Frequent sequences of a customer's baskets."""

    enabled: Literal["auto", True, False] = Field(
        "auto", description="auto: where lines have customer_id and ts, and unless there are too many sequences"
    )
    min_support: float = Field(0.05, gt=0, le=1, description="least share of customers whose history holds a sequence")
    max_len: int | None = Field(4, ge=1, description="most items of a sequence in all; null: unbounded")
    max_elements: int | None = Field(None, ge=1, description="most baskets of a sequence; default: as max_len allows")
    max_gap: int | None = Field(
        1, ge=1, description="a basket and the next one of a sequence are at most so many visits apart; null: unbounded"
    )
    max_gap_days: int | None = Field(None, ge=1, description="and at most so many days; null: unbounded")
    max_sequences: int = Field(200_000, ge=1, description="guard: stop beyond so many")
    max_history: int = Field(
        10_000, ge=1, description="a customer with more baskets (an id that means unknown) is named and left out"
    )


class RecommendConfig(Section):
    """What ``dlmine mine --recommend`` makes of the rules."""

    entity: Literal["basket", "customer"] = Field(
        "basket", description="to whom: each basket, or each customer by all that he bought"
    )
    top: int = Field(5, ge=1, le=1000, description="items recommended to each")
    rules: Literal["kept", "all"] = Field(
        "kept", description="rules applied: those that are kept, or all in gold.rules"
    )
    holdout: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of the baskets, the last in time, that the score is measured on; without times, those that "
        "a hash of their id chooses",
    )


class GroupsConfig(Section):
    """Which groups of baskets ``dlmine mine --by`` compares."""

    min_baskets: int = Field(
        200, ge=1, description="a smaller group is not mined alone; it counts among what others are compared with"
    )
    min_count: int = Field(20, ge=1, description="fewest baskets of a group that hold an itemset, whatever its support")
    max_groups: int = Field(100, ge=2, description="guard: stop with an error beyond so many")

    @model_validator(mode="after")
    def _groups_hold_itemsets(self) -> GroupsConfig:
        if self.min_count > self.min_baskets:
            raise ValueError(f"min_count is {self.min_count}, but a group may have min_baskets={self.min_baskets} only")
        return self


class TaxonomyConfig(Section):
    """Categories of items, for rules of mixed levels."""

    source: str | None = Field(
        None, description="source of kind table or statics, a row an item; default: columns of the basket lines"
    )
    item: str = Field(s.ITEM, min_length=1, description="with a source: its column that names the item")
    categories: tuple[str, ...] = Field(min_length=1, description="columns of categories, each a level or a view")

    @model_validator(mode="after")
    def _columns_differ(self) -> TaxonomyConfig:
        twice = [name for name in dict.fromkeys(self.categories) if self.categories.count(name) > 1]
        if twice:
            raise ValueError(f"categories: {twice[0]} is there twice")
        if self.item in self.categories:
            raise ValueError(f"categories: {self.item} names the items themselves")
        if self.source is None and self.item != s.ITEM:
            raise ValueError(f"item is {self.item!r}, but basket lines have their items in {s.ITEM}: name a source too")
        return self


class AttributesConfig(Section):
    """Columns of a table whose rows are baskets: the value of each is an item."""

    source: str = Field(description="source of kind table or statics, a row a basket")
    columns: dict[str, str] = Field(
        min_length=1,
        description="columns whose values are items called <column>=<value>: [names], or a mapping of columns to what "
        "they are called in items; columns called alike have items in common",
    )
    cuts: dict[str, tuple[float, ...]] = Field(
        default_factory=dict,
        description="column of numbers: where it is cut into ranges, which are its items instead of values",
    )

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    @field_validator("columns", mode="before")
    @classmethod
    def _names_are_their_own_words(cls, value: Any) -> Any:
        """``columns: [age]`` means ``columns: {age: age}``."""
        names = [value] if isinstance(value, str) else value
        if isinstance(names, list | tuple):
            return {name: name for name in names}
        return names

    @field_validator("cuts", mode="before")
    @classmethod
    def _one_cut_makes_two_ranges(cls, value: Any) -> Any:
        """``cuts: {age: 40}`` means ``cuts: {age: [40]}``."""
        if not isinstance(value, Mapping):
            return value
        return {name: (cuts,) if isinstance(cuts, int | float) else cuts for name, cuts in value.items()}

    @model_validator(mode="after")
    def _cuts_make_ranges(self) -> AttributesConfig:
        for name, cuts in self.cuts.items():
            if name not in self.columns:
                raise ValueError(f"cuts: {name} is not among columns{_nearest(name, self.columns)}: add it there")
            if not cuts or list(cuts) != sorted(set(cuts)):
                raise ValueError(f"cuts.{name}: expected ascending numbers, e.g. [1000, 5000], got {list(cuts)}")
        return self


SPEND = "spend"
"""In ``mining.weight``: quantity times price of the basket's lines."""


class MiningConfig(Section):
    """Frequent itemsets, rules and sequences over baskets."""

    # Applying rules leaves them as they are.
    execution = frozenset({"recommend", "groups"})

    algorithm: Literal["auto", "apriori", "fpgrowth"] = Field("auto", description="engine; both count exactly")
    min_support: float = Field(0.01, gt=0, le=1, description="least share of baskets that hold an itemset")
    min_confidence: float = Field(0.3, ge=0, le=1, description="least confidence of a rule")
    min_lift: float = Field(1.0, ge=0, description="least lift of a rule; 1: no better than chance")
    max_consequent: int = Field(1, ge=1, description="most items on the right side of a rule")
    antecedent: SideTemplate = Field(default_factory=SideTemplate, description="items on the left side of a rule")
    consequent: SideTemplate = Field(default_factory=SideTemplate, description="items on the right side of a rule")
    prune: bool = Field(True, description="let readers of gold.rules pass by redundant and insignificant rules")
    min_improvement: float = Field(
        0.0, ge=0, lt=1, description="a rule no more confident than a more general one by more than this is redundant"
    )
    max_q: float = Field(
        0.05, gt=0, le=1, description="largest q-value of a significant rule: share of false ones among those kept"
    )
    max_len: int | None = Field(None, ge=1, description="largest itemset; default: unbounded")
    max_itemsets: int = Field(5_000_000, ge=1, description="guard: stop with an error beyond so many")
    max_basket: int = Field(10_000, ge=1, description="a longer basket is refused by name")
    num_partitions: int | None = Field(None, ge=1, description="tasks of the miner; default: the session's")
    promoted_item: str | None = Field(
        None, description="known-future covariate that names the promoted item; rules say what it drags along"
    )
    verify: bool = Field(False, description="run both engines and compare")
    sequences: SequencesConfig = Field(
        default_factory=SequencesConfig, description="what customers buy one time after another"
    )
    attributes: AttributesConfig | None = Field(
        None, description="columns of a table whose rows are the baskets, in place of sources of lines or baskets"
    )
    taxonomy: TaxonomyConfig | None = Field(
        None, description="categories of items that rules may be about too; default: rules are about items only"
    )
    weight: str | None = Field(
        None,
        min_length=1,
        description="what a basket weighs in the weighted measures of rules: spend (quantity times price), or a column "
        "of the basket lines, summed",
    )
    recommend: RecommendConfig = Field(default_factory=RecommendConfig, description="see dlmine mine --recommend")
    groups: GroupsConfig = Field(default_factory=GroupsConfig, description="see dlmine mine --by")

    @model_validator(mode="after")
    def _templates_can_be_met(self) -> MiningConfig:
        if len(set(self.consequent.require)) > self.max_consequent:
            raise ValueError(
                f"consequent.require lists {len(set(self.consequent.require))} items, max_consequent is "
                f"{self.max_consequent}: set max_consequent={len(set(self.consequent.require))}"
            )
        both = set(self.antecedent.require) & set(self.consequent.require)
        if both:
            raise ValueError(f"item {min(both)!r} is required on both sides: a rule has it on one")
        return self


class ArimaConfig(Section):
    """One ARIMA per series: regression on calendar and covariates with ARMA errors."""

    # Results do not depend on how series are dealt out to waves.
    execution = frozenset({"wave_values"})

    engine: Literal["statsmodels", "statsforecast"] = Field(
        "statsmodels", description="our own search, with statsmodels' likelihood; or statsforecast's AutoARIMA"
    )
    season_length: int | Literal["auto"] = Field(
        "auto",
        description="steps in a season; auto: a day of hours (or minutes), 7 days, 52 weeks, 12 months, 4 quarters",
    )
    season_lengths: tuple[int, ...] | Literal["auto"] = Field(
        "auto",
        description="further, longer seasons in steps, as waves; auto: a week if season_length is the steps of a day",
    )
    max_p: int = Field(3, ge=0, le=24, description="largest autoregressive order tried")
    max_q: int = Field(3, ge=0, le=24, description="largest moving-average order tried")
    order: tuple[int, int, int] | None = Field(None, description="fixed (p, d, q) instead of a search")
    fourier: int = Field(3, ge=0, description="pairs of yearly Fourier terms where two years are known")
    min_history: int = Field(16, ge=4, description="fewer known values: status too_short, naive forecast")
    max_history: int = Field(1500, ge=50, description="older values are not used")
    transform: Literal["auto", "none", "log1p"] = Field(
        "auto",
        description="auto: the values, their root or log1p, whatever makes changes steadiest; log1p: not of series "
        "with values of -1 or less",
    )
    levels: tuple[float, ...] = Field(
        (),
        description="further intervals beside those of 80 and 95 %, in percent, e.g. [50, 99]: gold.arima_intervals",
    )
    fitted: bool = Field(
        False, description="write what the final fit makes of every known value, and its parts: gold.arima_fitted"
    )
    feature_origins: int = Field(
        52,
        ge=0,
        description="origins before the first backtest cutoff whose out-of-sample forecasts become inputs of the "
        "network; they go on at the same distance up to the final cutoff (0: forecasts at the cutoffs only)",
    )
    feature_step: int | None = Field(
        None, ge=1, description="steps between those origins; default: 7 on daily data, a day of shorter steps, else 1"
    )
    timeout: float = Field(60.0, gt=0, description="seconds a series may take before its fallback is used")
    wave_values: int = Field(
        1_000_000,
        ge=1,
        description="values that a core fits before what is done is kept for a run that is killed: a minute or two",
    )

    @field_validator("season_length")
    @classmethod
    def _is_a_season(cls, steps: int | Literal["auto"]) -> int | Literal["auto"]:
        if steps != "auto" and steps < 1:
            raise ValueError(f"{steps} is no number of steps: at least 1 (no season), e.g. 7, or auto")
        return steps

    @field_validator("season_lengths")
    @classmethod
    def _are_seasons(cls, seasons: tuple[int, ...] | Literal["auto"]) -> tuple[int, ...] | Literal["auto"]:
        wrong = [steps for steps in seasons if steps < 2] if seasons != "auto" else []
        if wrong:
            raise ValueError(f"a season of {wrong[0]} steps: at least 2, e.g. [168], [] for none, or auto")
        return seasons

    @field_validator("order")
    @classmethod
    def _is_an_order(cls, order: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
        if order is not None and not (min(order) >= 0 and max(order[0], order[2]) <= 24 and order[1] <= 2):
            raise ValueError(f"{list(order)} is no (p, d, q): p and q from 0 to 24, d from 0 to 2, e.g. [1, 1, 1]")
        return order

    @field_validator("levels")
    @classmethod
    def _are_percent(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        wrong = [level for level in levels if not 0 < level < 100]
        if wrong:
            raise ValueError(f"{wrong[0]:g} is no share of an interval: between 0 and 100 percent, e.g. 99")
        return tuple(sorted(set(levels)))


TEXTBOOK: dict[str, int | float] = {"hidden": 50, "layers": 1, "dropout": 0.0}
"""Settings of ``training`` that the preset textbook brings with it."""


class TrainingConfig(Section):
    """The global LSTM and how its ranks run."""

    # The same loss curve comes from every backend and number of ranks.
    execution = frozenset(
        {
            "backend",
            "workers",
            "device",
            "fallback",
            "in_memory_mb",
            "scratch",
            "keep_checkpoints",
            "checkpoint_minutes",
            "launch_timeout",
            "max_restarts",
        }
    )

    backend: Literal["horovod", "torch", "local"] = Field("horovod", description="how ranks are started and average")
    workers: int = Field(2, ge=1, description="ranks; local: threads of the one process")
    device: Literal["cpu", "cuda", "auto"] = Field(
        "cpu", description="what ranks compute on; auto: a GPU where there is one"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the products of matrices in training; auto: bfloat16 on GPUs that have it"
    )
    fallback: bool = Field(True, description="use backend torch, with a warning, where Horovod is not installed")
    in_memory_mb: float = Field(
        512, ge=0, description="MB of a cutoff's panel that a rank holds in memory; larger ones are mapped from files"
    )
    scratch: str | None = Field(
        None, description="folder on a local disk for these files; default: the system's for temporary files"
    )
    preset: Literal["default", "textbook"] = Field(
        "default",
        description="the network; textbook: LSTM(50) + Dense(1), one step after another from past values alone, to "
        "compare with",
    )
    history: int = Field(56, ge=2, description="steps the encoder sees")
    hidden: int = Field(64, ge=1, description="units of the LSTM")
    layers: int = Field(1, ge=1, description="LSTM layers")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout between layers and before the head")
    embedding: int = Field(6, ge=1, description="width of the embedding of a categorical static")
    members: int = Field(2, ge=1, description="networks whose mean is the forecast; random numbers tell them apart")
    epochs: int = Field(12, ge=1, description="passes over the sampled origins at most")
    samples_per_epoch: int = Field(12_800, ge=1, description="windows drawn an epoch, all ranks together")
    batch_size: int = Field(64, ge=1, description="windows a step, all ranks together")
    accumulate: int = Field(
        1, ge=1, description="batches whose gradients make one step: ranks exchange once for so many"
    )
    compression: Literal["none", "fp16", "bf16"] = Field(
        "none", description="16-bit numbers that gradients travel as between ranks; none: as they are (32 bits)"
    )
    learning_rate: float = Field(3e-3, gt=0, description="peak of the one-cycle schedule")
    weight_decay: float = Field(1e-4, ge=0, description="AdamW's")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    patience: int = Field(4, ge=1, description="epochs without a better validation loss before stopping")
    validation_origins: int = Field(2, ge=1, description="last origins before the cutoff kept for validation")
    final_epochs: int = Field(4, ge=1, description="epochs of the production model, started from the evaluated one")
    seed: int = Field(7, ge=0, description="of weights, sampling and dropout")
    keep_checkpoints: int = Field(2, ge=1, description="checkpoints kept")
    checkpoint_minutes: float = Field(
        10, ge=0, description="minutes between checkpoints within an epoch; 0: only after epochs"
    )
    launch_timeout: float = Field(120.0, gt=0, description="seconds to wait until every rank is there")
    max_restarts: int = Field(2, ge=0, description="fresh starts from the last checkpoint after a rank was lost")
    mined: tuple[Signal, ...] = Field(
        SIGNALS,
        description="mined signals among the inputs, those of the default as far as the data has them; sequences (of "
        "customers' baskets) and activations (baskets that hold what rules begin with) are made only if they are named",
    )

    @model_validator(mode="before")
    @classmethod
    def _preset_brings_settings(cls, values: Any) -> Any:
        is_textbook = isinstance(values, Mapping) and values.get("preset") == "textbook"
        return {**TEXTBOOK, **values} if is_textbook else values

    @model_validator(mode="after")
    def _preset_is_what_it_is(self) -> TrainingConfig:
        for key, value in TEXTBOOK.items() if self.preset == "textbook" else ():
            if getattr(self, key) != value:
                raise ValueError(
                    f"preset textbook has {key} {value}, got {getattr(self, key)}: leave {key} out or set it to "
                    f"{value}, or choose preset: default"
                )
        return self

    def require_covariates(self, asked: str) -> None:
        """Refuse what can be asked only of a network that reads covariates.

        Args:
            asked: the option of the command line, for the message.

        Raises:
            ConfigError: the network reads past values alone.
        """
        if self.preset == "textbook":
            raise ConfigError(
                f"{asked}: the network of training.preset textbook reads past values alone, no covariates and no mined "
                "signals, so there is nothing to tell; train with training.preset=default"
            )

    @model_validator(mode="after")
    def _batch_covers_ranks(self) -> TrainingConfig:
        if self.batch_size < self.workers:
            raise ValueError(f"batch_size {self.batch_size} is below workers {self.workers}: a rank would get nothing")
        return self


class LightGBMConfig(Section):
    """Gradient-boosted trees beside the network, from the same inputs (extra lightgbm)."""

    # Trees come out the same with any number of threads.
    execution = frozenset({"threads"})

    enabled: bool = Field(False, description="whether LightGBM forecasts, is compared and may be part of the blend")
    max_rows: int = Field(
        200_000, ge=1_000, description="rows (a window and a step ahead) to learn from at most; a sample of more"
    )
    trees: int = Field(1_500, ge=1, description="at most; the error on validation windows says how many")
    learning_rate: float = Field(0.05, gt=0, le=1, description="how much of its error a tree takes away")
    leaves: int = Field(63, ge=2, description="of a tree at most")
    min_rows_a_leaf: int = Field(50, ge=1, description="fewer rows make no leaf")
    seed: int = Field(7, ge=0, description="of the samples of rows and columns")
    threads: int = Field(1, ge=1, description="of the driver; more than there are free cores make it much slower")


class EvaluationConfig(Section):
    """Held-out time."""

    horizon: int = Field(28, ge=1, description="steps forecast after a cutoff")
    cutoffs: int = Field(1, ge=1, description="rolling origins; the last one leaves one horizon of actuals")
    step: int | None = Field(None, ge=1, description="steps between origins; default: the horizon")
    unknown_future: Literal["repeat", "refuse"] = Field(
        "repeat",
        description="known-future covariates that end before the horizon: repeat those a season ago, or refuse",
    )


class AblationConfig(Section):
    """What each mined signal adds to the forecast, see ``dlmine backtest --ablation``."""

    seeds: int = Field(3, ge=1, description="networks trained without each signal, of the seeds from training.seed on")
    signals: tuple[Signal, ...] = Field(
        (), description="signals removed in turn; default: those of training.mined that the data has"
    )


TUNABLE = (
    "history",
    "hidden",
    "layers",
    "dropout",
    "embedding",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "clip",
)
"""Settings of ``training`` that may be searched; the others say how long or on what a network is trained."""


class Span(Section):
    """What a setting may be: a range, or one of several values (written as a list)."""

    low: int | float | None = Field(None, description="least value", allow_inf_nan=False)
    high: int | float | None = Field(None, description="greatest value", allow_inf_nan=False)
    log: bool = Field(False, description="whether a value is as likely between 1 and 10 as between 10 and 100")
    choices: tuple[int | float, ...] = Field((), description="the values, instead of a range")

    @model_validator(mode="before")
    @classmethod
    def _a_list_holds_the_choices(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return value
        if not isinstance(value, list | tuple):
            raise ValueError("expected {low: .., high: ..} or a list of values")
        if not value:
            raise ValueError("an empty list leaves nothing to choose")
        return {"choices": value}

    @model_validator(mode="after")
    def _holds_something(self) -> Span:
        if self.choices:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("expected a range (low, high, log) or choices, got both")
            if len(set(self.choices)) < len(self.choices):
                raise ValueError(f"a value is there twice: {_listed([str(one) for one in self.choices])}")
            return self
        if self.low is None or self.high is None:
            raise ValueError("a range needs low and high, e.g. {low: 0.001, high: 0.01, log: true}")
        if self.low >= self.high:
            raise ValueError(f"the range from {self.low} to {self.high} is empty: low has to be below high")
        if self.log and self.low <= 0:
            raise ValueError(f"log: true needs low above 0, got {self.low}")
        return self

    @property
    def extremes(self) -> tuple[int | float, ...]:
        """The values between which, or among which, the setting is searched."""
        return self.choices or tuple(one for one in (self.low, self.high) if one is not None)


class TuningConfig(Section):
    """A search for better settings of the network, see ``dlmine tune``."""

    # What is applied is read from a file of the search's own.
    execution = frozenset({"apply"})

    trials: int = Field(24, ge=1, description="networks tried, that of the configured settings included")
    minutes: float | None = Field(None, gt=0, description="no trial is started after so long; default: no limit")
    parallel: int = Field(
        4, ge=1, description="trials under way at once at most; results do not depend on the number of cores"
    )
    reduction: int = Field(
        2, ge=2, description="after a 4th and a half (for 2) of the epochs, the best 1/reduction of the trials go on"
    )
    origins: int = Field(2, ge=1, description="selection windows of a series, a horizon apart, before the test windows")
    seeds: int = Field(
        2, ge=0, description="networks of the defaults and of the winner for the comparison on held-out dates; 0: none"
    )
    space: dict[str, Span] | None = Field(
        None, description="setting of training: {low, high, log} or a list of values; default: seven of them"
    )
    until: str | int | None = Field(
        None, description="last moment of the selection windows; default: the first backtest cutoff"
    )
    apply: bool = Field(False, description="train with the settings that the last search found, where there are some")

    @field_validator("space")
    @classmethod
    def _names_settings(cls, space: dict[str, Span] | None) -> dict[str, Span] | None:
        if space is None:
            return None
        if not space:
            raise ValueError("names no setting to search; leave it away for the default")
        for key in space:
            if key not in TUNABLE:
                legal = _nearest(key, TUNABLE) or f"; these can: {', '.join(TUNABLE)}"
                raise ValueError(f"{key} is no setting of training that can be tuned{legal}")
        return space

    @field_validator("until")
    @classmethod
    def _is_a_moment(cls, until: str | int | None) -> str | int | None:
        try:
            from_text(str(until))
        except ValueError:
            if until is not None:
                raise ValueError("expected a date, a time or the number of a step") from None
        return until


class ExplainConfig(Section):
    """What drives the forecast."""

    windows: int = Field(256, ge=1, description="windows that importance is measured on")
    repeats: int = Field(3, ge=1, description="permutations a feature")
    seed: int = Field(7, description="of the permutations")
    surrogate: bool = Field(
        False, description="whether rules that imitate the network are made each time, and shown in the report"
    )
    surrogate_depth: int = Field(4, ge=1, le=6, description="conditions of a rule that imitates the network, at most")


class ReportConfig(Section):
    """The HTML page."""

    title: str = Field("dlmine report", description="heading of the page")
    path: str | None = Field(None, description="file to write; default: <lakehouse.root>/report/index.html")
    series: tuple[str, ...] = Field((), description="series to draw; default: a choice of good and bad ones")
    max_series: int = Field(8, ge=1, description="series drawn when none are named")
    max_listed: int = Field(1_000, ge=0, description="series that can be looked up on the page, those drawn included")
    max_rules: int = Field(25, ge=1, description="rules in the table")
    truth: str | None = Field(None, description="truth/ folder of a simulation, to compare with")

    @field_validator("path")
    @classmethod
    def _from_the_working_folder(cls, value: str | None) -> str | None:
        """Absolute: the same words in another folder mean another file, which has to be written."""
        return None if value is None else str(Path(value).absolute())


class TrackingConfig(Section):
    """Runs, their metrics and models in MLflow, beside the ledger."""

    enabled: bool = Field(False, description="whether runs of stages are logged to MLflow (extra mlflow)")
    uri: str | None = Field(
        None,
        description="tracking server or database, e.g. https://host or sqlite:///mlflow.db; default: the platform's on "
        "Databricks, else MLFLOW_TRACKING_URI, else <lakehouse.root>/tracking/mlflow.db",
    )
    experiment: str = Field("dlmine-spark", min_length=1, description="experiment that runs are logged to")
    registered_model: str | None = Field(
        None,
        min_length=1,
        description="name under which each trained model becomes a version of a registered model; default: none does",
    )

    @model_validator(mode="after")
    def _credentials_are_elsewhere(self) -> TrackingConfig:
        # The resolved configuration is printed, and kept beside models.
        if self.uri is not None and without_credentials(self.uri) != self.uri:
            raise ValueError(
                "tracking.uri holds credentials: give them in the environment, as MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN, or the whole address as MLFLOW_TRACKING_URI"
            )
        return self


class Config(Section):
    """Everything a run needs to know."""

    lakehouse: LakehouseConfig = Field(default_factory=LakehouseConfig)
    spark: SparkConfig = Field(default_factory=SparkConfig)
    sources: dict[str, SourceConfig] = Field(default_factory=dict)
    cleaning: CleaningConfig = Field(default_factory=CleaningConfig)
    segmentation: SegmentationConfig = Field(default_factory=SegmentationConfig)
    mining: MiningConfig = Field(default_factory=MiningConfig)
    arima: ArimaConfig = Field(default_factory=ArimaConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    lightgbm: LightGBMConfig = Field(default_factory=LightGBMConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    ablation: AblationConfig = Field(default_factory=AblationConfig)
    tuning: TuningConfig = Field(default_factory=TuningConfig)
    explain: ExplainConfig = Field(default_factory=ExplainConfig)
    report: ReportConfig = Field(default_factory=ReportConfig)
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)

    @field_validator("sources")
    @classmethod
    def _names_are_identifiers(cls, sources: dict[str, SourceConfig]) -> dict[str, SourceConfig]:
        for name in sources:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise ValueError(f"source name {name!r} must be lower-case letters, digits and _ (it names a table)")
            if sources[name].kind == "table" and f"silver.{name}" in s.TABLES:
                raise ValueError(f"source name {name!r}: kind table would overwrite silver.{name}; name it otherwise")
            if name.endswith("_rows") and sources[name].kind == "table" and name.removesuffix("_rows") in sources:
                raise ValueError(f"source name {name!r}: silver.{name} may be kept for {name.removesuffix('_rows')}")
        return sources

    def source_of_kind(self, kind: Kind) -> tuple[str, SourceConfig] | None:
        """Name and declaration of the source of a kind, or None; two of one kind are refused at load."""
        return next(((name, src) for name, src in self.sources.items() if src.kind == kind), None)

    @model_validator(mode="after")
    def _one_source_a_kind(self) -> Config:
        for kind in ("lines", "panel", "statics", "calendar", "baskets"):
            names = [name for name, source in self.sources.items() if source.kind == kind]
            if len(names) > 1:
                raise ValueError(f"sources {' and '.join(names)} are both of kind {kind}: give one path with a glob")
        return self

    @model_validator(mode="after")
    def _sources_fit_together(self) -> Config:
        if problems := list(_bad_relations(self.sources)):
            raise ValueError("; ".join(problems))
        return self

    @model_validator(mode="after")
    def _baskets_have_a_weight(self) -> Config:
        weight = self.mining.weight
        if weight is None or not self.sources:
            return self
        lines = self.source_of_kind("lines")
        if lines is None:
            raise ValueError(f"mining.weight is {weight!r}, but no source of kind lines is configured: nothing has one")
        mapped = {name.lower() for name in lines[1].columns}
        needed = s.PRICE if weight == SPEND else weight
        if needed not in mapped and (weight == SPEND or lines[1].other_columns == "drop"):
            raise ValueError(
                f"mining.weight is {weight!r}, but sources.{lines[0]}.columns maps no {needed}"
                + ("" if weight == SPEND else f"{_near(lines[1], weight)}: name its column, or take {SPEND}")
            )
        return self

    @model_validator(mode="after")
    def _taxonomy_has_its_source(self) -> Config:
        taxonomy = self.mining.taxonomy
        if taxonomy is None or not self.sources:
            return self
        if taxonomy.source is None:
            if self.source_of_kind("lines") is None:
                raise ValueError("mining.taxonomy: there is no source of kind lines to take categories from; name one")
        elif taxonomy.source not in self.sources:
            raise ValueError(
                f"mining.taxonomy.source: there is no source {taxonomy.source!r}; sources: {', '.join(self.sources)}"
            )
        elif self.sources[taxonomy.source].kind not in ("table", "statics"):
            raise ValueError(
                f"mining.taxonomy.source: {taxonomy.source} is of kind {self.sources[taxonomy.source].kind}, "
                "expected table or statics: a row has to be an item"
            )
        return self

    @model_validator(mode="after")
    def _tables_have_the_columns(self) -> Config:
        attributes, rows = self.mining.attributes, self.segmentation.rows
        if not self.sources:
            return self
        if attributes is not None:
            problems = [*_bad_table("mining.attributes", attributes.source, attributes.columns, self.sources)]
            if not problems:
                source = self.sources[attributes.source]
                problems += _not_counted("mining.attributes.cuts", attributes.cuts, source)
            others = [name for name, source in self.sources.items() if source.kind in ("lines", "baskets")]
            if others:
                problems.append(
                    f"mining.attributes: rows of {attributes.source} and baskets of {others[0]} would be counted "
                    "together: mine one of them in a configuration and lakehouse of its own"
                )
            if problems:
                raise ValueError("; ".join(problems))
        if rows is not None:
            problems = [*_bad_table("segmentation.rows", rows.source, rows.columns, self.sources)]
            if not problems:
                source = self.sources[rows.source]
                problems += _not_counted("segmentation.rows.columns", rows.columns, source)
                if not source.mapped_key:
                    problems.append(f"segmentation.rows: source {rows.source} needs a key: [columns], to name its rows")
            if problems:
                raise ValueError("; ".join(problems))
        return self

    @model_validator(mode="after")
    def _signals_can_be_there(self) -> Config:
        for signal in self.ablation.signals:
            if signal not in self.training.mined:
                raise ValueError(
                    f"ablation.signals: {signal} is not among training.mined ({', '.join(self.training.mined)}), so "
                    "there is nothing to remove"
                )
        # The default stands for those that there are.
        named = set(self.ablation.signals) | (
            set() if set(SIGNALS) <= set(self.training.mined) else {*self.training.mined}
        )
        if self.sources and "rules" in named:
            where = "ablation.signals" if "rules" in self.ablation.signals else "training.mined"
            if self.source_of_kind("lines") is None:
                raise ValueError(f"{where}: rules are mined from a source of kind lines, and none is configured")
            if self.mining.promoted_item is None:
                raise ValueError(
                    f"{where}: rules say something of promotions only: set mining.promoted_item to the covariate that "
                    "names the promoted item"
                )
        if self.sources and "sequences" in self.training.mined:
            problem = self._why_no_sequences()
            if problem:
                raise ValueError(f"training.mined: sequences are those of customers' baskets: {problem}")
        if self.sources and "activations" in self.training.mined:
            source = self.source_of_kind("lines")
            if source is None or s.TS not in {name.lower() for name in source[1].columns}:
                raise ValueError(
                    f"training.mined: activations are those of dated baskets: a source of kind lines has to map {s.TS}"
                )
        return self

    def _why_no_sequences(self) -> str | None:
        """What is to be done for sequences to be a signal; None if they can be."""
        source, settings = self.source_of_kind("lines"), self.mining.sequences
        missing = {s.CUSTOMER_ID, s.TS} - {name.lower() for name in (source[1].columns if source else {})}
        if missing:
            return f"a source of kind lines has to map {' and '.join(sorted(missing))}"
        if settings.enabled is False:
            return "mining.sequences.enabled must not be false"
        if settings.max_gap is None and settings.max_gap_days is None:
            return "what is to follow any time is never due: set mining.sequences.max_gap or max_gap_days"
        return None

    @model_validator(mode="after")
    def _space_holds_legal_settings(self) -> Config:
        for key, span in (self.tuning.space or {}).items():
            for value in span.extremes:
                try:
                    TrainingConfig.model_validate({**self.training.model_dump(), key: value})
                except ValidationError as error:
                    problem = error.errors()[0]["msg"].removeprefix("Value error, ")
                    raise ValueError(f"tuning.space.{key}: {value} is no legal training.{key}: {problem}") from error
        return self

    def digest(self, *sections: str) -> str:
        """Stable hash of what a stage's result depends on: some sections (or single settings, ``training.mined``),
        without settings of execution.
        """
        ignored: dict[str, Any] = {
            name: set(section.execution) for name, section in self if isinstance(section, Section)
        }
        if not self.lightgbm.enabled:
            ignored["lightgbm"] = set(LightGBMConfig.model_fields) - {"enabled"}
        included: dict[str, Any] = {}
        for section, _, setting in (name.partition(".") for name in sections):
            included[section] = {setting} if setting else True
        chosen = self.model_dump(mode="json", include=included, exclude=ignored)
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]

    def to_yaml(self) -> str:
        """The resolved configuration, as printed and saved beside each run; it loads again to an equal one.

        But Spark's settings that are secret by their name, which are there as ``***``: nothing else may hold one.
        """
        settings = self.model_dump(mode="json", by_alias=True)
        settings["spark"]["conf"] = public(settings["spark"]["conf"])
        text: str = yaml.safe_dump(settings, sort_keys=False)
        return text


def load_config(
    files: Sequence[Path] = (),
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Config:
    """Read, overlay and check the configuration.

    Args:
        files: YAML files, later ones overlay earlier ones key by key (lists are replaced).
        overrides: ``section.key=value`` strings; the value is read as YAML.
        environment: variables to honour (``DLMINE__SECTION__KEY`` and ``${NAME}``); none by default.

    Raises:
        ConfigError: naming the key, what was expected and found, and the file or option that set it.
    """
    environment = environment or {}
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer, origin in _layers(files, overrides, environment):
        _overlay(merged, layer, origin, origins)
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(explain_problems(error, origins)) from error


def with_setting(config: Config, section: str, key: str, value: object, origin: str) -> Config:
    """The configuration with one setting changed, checked as if it had been read so.

    Raises:
        ConfigError: naming the key, what was expected and found, and ``origin``, who set it.
    """
    changed = getattr(config, section).model_dump(by_alias=True) | {key: value}
    try:
        return Config.model_validate({name: getattr(config, name) for name in Config.model_fields} | {section: changed})
    except ValidationError as error:
        raise ConfigError(explain_problems(error, {f"{section}.{key}": origin})) from error


def _layers(
    files: Sequence[Path], overrides: Sequence[str], environment: Mapping[str, str]
) -> Iterator[tuple[dict[str, Any], str]]:
    """The layers of the configuration with a word for where each comes from, lowest precedence first."""
    for file in files:
        yield _substitute(read_yaml(file), environment, str(file)), str(file)
    for variable in sorted(environment):
        if variable.startswith(ENVIRONMENT_PREFIX):
            keys = variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
            yield _nest(keys, _parse_value(environment[variable], variable)), f"environment {variable}"
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {override}: expected section.key=value, e.g. --set evaluation.horizon=28")
        yield _nest(key.strip().split("."), _parse_value(value, f"--set {key}")), f"--set {override}"


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that is there twice, where YAML would drop the first without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            # In Python, 1 is True.
            if sum(type(other) is type(key) and other == key for other in keys) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(file: Path) -> dict[str, Any]:
    """The content of a YAML file that holds a mapping.

    Raises:
        ConfigError: naming the file: it cannot be read, is no YAML, has a key twice, or holds something else.
    """
    try:
        text = file.read_text(encoding="utf-8")
        content = yaml.load(text, _StrictLoader)
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such configuration file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from error
    if not text.strip():
        # A comment would show that nothing is meant to be set.
        raise ConfigError(f"{file}: is empty: a configuration holds sections such as 'sources:'")
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: expected sections such as 'lakehouse:', found a {type(content).__name__}")
    return content


def _parse_value(text: str, where: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        # A comma, a tab or a percent sign says nothing to YAML, and is what the user means.
        if len(text) == 1:
            return text
        raise ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error
    # YAML 1.1 needs a dot in 1e-3; people who type numbers on a command line don't know that.
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


def _substitute(value: Any, environment: Mapping[str, str], where: str) -> Any:
    """Replace ``${NAME}`` in strings by the environment's value."""
    if isinstance(value, dict):
        return {key: _substitute(item, environment, f"{where}: {key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, environment, where) for item in value]
    if not isinstance(value, str):
        return value

    def lookup(match: re.Match[str]) -> str:
        name = match[1]
        if name not in environment:
            raise ConfigError(f"{where}: environment variable {name} is not set (export {name}=...)")
        return environment[name]

    return re.sub(r"\$\{(\w+)\}", lookup, value)


def _nest(keys: Sequence[str], value: Any) -> dict[str, Any]:
    nested: Any = value
    for key in reversed(keys):
        nested = {key: nested}
    result: dict[str, Any] = nested
    return result


def _joined(nested: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names joined by dots, and their values, of sections within sections."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from _joined(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _overlay(
    base: dict[str, Any], layer: Mapping[Any, Any], origin: str, origins: dict[str, str], at: str = ""
) -> None:
    """Merge ``layer`` into ``base`` in place, remembering where each leaf was set."""
    for key, value in layer.items():
        path = f"{at}{key}"
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _overlay(base[key], value, origin, origins, f"{path}.")
        elif isinstance(value, Mapping):
            base[key] = {}
            _overlay(base[key], value, origin, origins, f"{path}.")
        else:
            # `columns.y: Umsatz` over `columns.y: {from: sales, fill: linear}` replaces the source only.
            if at.endswith(".columns.") and isinstance(value, str) and isinstance(base.get(key), dict):
                base[key]["from"] = value
                origins[f"{path}.from"] = origin
                continue
            base[key] = value.isoformat() if isinstance(value, date) else value
        origins[path] = origin


def explain_problems(error: ValidationError, origins: Mapping[str, str], root: type[BaseModel] | None = None) -> str:
    """One line per problem, each with its key, what was found and who set it.

    Args:
        error: what is wrong.
        origins: who set a key, where there are several.
        root: the model that was asked for; default: ``Config``.
    """
    lines = []
    for problem in error.errors():
        keys = [str(part) for part in problem["loc"]]
        path = ".".join(keys)
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"unknown key{_suggestion(keys, root or Config)}"
            where = _origin(path, origins)
            lines.append(f"{path}: {message}{where}")
            continue
        if problem["type"] == "missing":
            lines.append(f"{path}: is required{_origin('.'.join(keys[:-1]), origins)}")
            continue
        found = problem.get("input")
        got = f", got {found!r}" if isinstance(found, Scalar | None) else ""
        lines.append(f"{path or 'configuration'}: {message}{got}{_origin(path, origins)}")
    return without_credentials("; ".join(dict.fromkeys(lines)))


def _origin(path: str, origins: Mapping[str, str]) -> str:
    """Who set a key, else what it is in, else something in it."""
    around = [key for key in origins if key == path or path.startswith(f"{key}.")]
    within = [key for key in reversed(list(origins)) if key.startswith(f"{path}.")]
    nearest = max(around, key=len, default=next(iter(within), None))
    return "" if nearest is None else f" ({origins[nearest]})"


def _suggestion(keys: Sequence[str], root: type[BaseModel]) -> str:
    """`` (did you mean horizon?)`` for the nearest legal key of the same section, else the legal ones."""
    section: type[BaseModel] | None = root
    for key in keys[:-1]:
        section = _subsection(section, key) if section else None
    if section is None:
        return ""
    legal = [info.alias or name for name, info in section.model_fields.items()]
    near = difflib.get_close_matches(keys[-1], legal, n=1)
    return f", did you mean {near[0]}?" if near else f"; known keys: {', '.join(legal)}"


def _subsection(section: type[BaseModel], key: str) -> type[BaseModel] | None:
    if section is Config and key == "sources":
        return None
    info = section.model_fields.get(key)
    candidate = info.annotation if info else None
    return candidate if isinstance(candidate, type) and issubclass(candidate, BaseModel) else None
