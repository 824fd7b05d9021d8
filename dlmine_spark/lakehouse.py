"""The only place that reads and writes Delta tables.

A table has a logical name, ``<layer>.<name>``; it lies at ``<root>/<layer>/<name>`` or, with a catalog, at
``<catalog>.<layer>.<name>`` (``<catalog>.<schema>.<layer>_<name>`` where a schema is set). Every write is one Delta
transaction: a killed job leaves the old table or the new one, never half of either.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dlmine_spark.config import LakehouseConfig
from dlmine_spark.damage import damage_of_log, damaged_table, newest_commit, tables_below, unreadable_log
from dlmine_spark.errors import ConfigError, DlmineError, EnvironmentProblem, TableContractError
from dlmine_spark.places import files_root, local_path, root_of
from dlmine_spark.schemas import MOMENT_TYPES, TABLES, Table
from dlmine_spark.session import DELTA_CATALOG, lack_of_s3
from dlmine_spark.stores import explained

log = logging.getLogger(__name__)

# Written by several stages, each its own rows: their version says nothing about one stage's inputs.
SHARED_TABLES = frozenset({"gold.forecasts", "ops.runs", "ops.corrections", "ops.profiles", "ops.files", "ops.batches"})

# Read as a whole only: the smallest and largest value of every column would cost a tenth of the writing for nothing.
WHOLE_LAYERS = ("bronze.", "staging.")


_NO_ZONE, _NO_ZONE_FEATURE = "timestamp_ntz", "timestampNtz"
"""Spark's type of times of no zone, and what Delta calls the feature of a table that has some."""

CHECK_PREFIX = "dlmine_clean_"
"""Of the name of the one constraint that a silver table has; a digest of it follows, since Delta writes it anew."""

FILE_PREFIX = "file "
"""What a file among a run's outputs starts with; no name of a table does."""


@dataclass(frozen=True, slots=True)
class TableDetails:
    """Bytes of a table's current files, its newest version, and when that was written."""

    size: int
    version: int
    written_at: datetime


class Lakehouse:
    """Access to the tables under one root or catalog, optionally bound to a run.

    Bound to a run (see ``for_run``), reads are pinned to the versions of the run's inputs, tables that are none of its
    inputs count as absent, and every version written is remembered for the ledger.
    """

    def __init__(
        self,
        spark: SparkSession,
        config: LakehouseConfig,
        *,
        run_id: str = "adhoc",
        pinned: Mapping[str, int] | None = None,
    ) -> None:
        self.spark = spark
        self.config = config
        self.run_id = run_id
        self._is_bound = pinned is not None
        self._pinned = dict(pinned or {})
        self.written: dict[str, int] = {}
        """Version of every table written, and size of every file kept (``file <path>``)."""

    def for_run(self, run_id: str, pinned: Mapping[str, int]) -> Lakehouse:
        """The same tables, bound to a run: ``pinned`` maps a table to the version the run reads."""
        return Lakehouse(self.spark, self.config, run_id=run_id, pinned=pinned)

    # Names

    def address(self, table: str) -> str:
        """Where a table lies: a path or object-store address, or a name in the catalog."""
        layer, _, name = table.partition(".")
        if not re.fullmatch(r"[a-z]+", layer) or not re.fullmatch(r"[A-Za-z0-9_]+", name):
            raise ConfigError(f"{table!r} is no table name: expected <layer>.<name>, e.g. silver.panel")
        catalog, schema = self.config.catalog, self.config.schema_name
        if catalog is not None:
            return f"{catalog}.{schema}.{layer}_{name}" if schema else f"{catalog}.{layer}.{name}"
        return f"{root_of(self.config)}/{layer}/{name}"

    def folder(self, name: str) -> Path:
        """A folder for what is not a table (models, report), on a local or mounted file system.

        Raises:
            ConfigError: the root is an object-store address, where ranks and browsers cannot write files.
        """
        root = files_root(self.config)
        if root is None:
            raise ConfigError(
                f"lakehouse.root is {root_of(self.config)}: {name}/ needs a folder that all machines see; set "
                "lakehouse.files to one (on Databricks: /Volumes/...)"
            )
        path = root / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def keep(self, file: Path) -> None:
        """Note a file beside the tables that this run made: without it, whole, the stage is not up to date."""
        self.written[f"{FILE_PREFIX}{self._within_root(file)}"] = file.stat().st_size

    def has(self, output: str, recorded: int) -> bool:
        """Whether a run's output is still there: a table, at whatever version, or a file of the size it had."""
        if not output.startswith(FILE_PREFIX):
            version = self.version(output)
            # Of a shared table that was begun anew, an earlier writer's rows are gone.
            return version is not None and (output not in SHARED_TABLES or version >= recorded)
        file = (files_root(self.config) or Path()) / output.removeprefix(FILE_PREFIX)
        return file.is_file() and file.stat().st_size == recorded

    def _within_root(self, file: Path) -> Path:
        """The path below the root, so that a lakehouse can be moved; the absolute one where it lies elsewhere."""
        root = files_root(self.config)
        absolute = file.absolute()
        return absolute.relative_to(root) if root is not None and absolute.is_relative_to(root) else absolute

    def _sql_name(self, table: str) -> str:
        address = self.address(table)
        if self.config.catalog is not None:
            return ".".join(f"`{part}`" for part in address.split("."))
        return f"delta.`{address.replace('`', '``')}`"

    # Versions

    def version(self, table: str) -> int | None:
        """The newest version of a table, None where there is no such table."""
        local = self._local_folder(table)
        if local is not None:
            return newest_commit(local / "_delta_log")
        try:
            history = self.spark.sql(f"DESCRIBE HISTORY {self._sql_name(table)} LIMIT 1").collect()
        except (PySparkException, Py4JJavaError) as error:
            self._refuse_store(table, error)
            if not isinstance(error, AnalysisException):
                raise
            if _is_missing(error):
                return None
            raise DlmineError(f"{table} ({self.address(table)}): {_first_line(error)}") from error
        return int(history[0]["version"])

    def exists(self, table: str) -> bool:
        """Whether there is such a table; bound to a run, whether one of its inputs or outputs is.

        What an earlier run left of a source that is no longer configured, or of a stage that has nothing to do any
        more, must not slip into a run that knows nothing of it.
        """
        if table in self.written or table in self._pinned:
            return True
        return (not self._is_bound or table in SHARED_TABLES) and self.version(table) is not None

    def adopt(self, table: str) -> bool:
        """Count a table that an earlier run of the same stage wrote among this run's outputs, if there is one.

        From then on this run reads it, as it is now, and the ledger knows that it was kept. Without a run, it only
        tells whether there is such a table.
        """
        if table in self.written:
            return True
        version = self.version(table)
        if version is not None and self._is_bound:
            self.written[table] = version
        return version is not None

    def pinned_version(self, table: str) -> int:
        """The version of a table that reads of this run get."""
        pinned = self.written.get(table, self._pinned.get(table))
        version = self.version(table) if pinned is None else pinned
        if version is None:
            raise self._missing(table)
        return version

    def _local_folder(self, table: str) -> Path | None:
        return local_path(self.address(table)) if self.config.catalog is None else None

    # Damage

    def local_tables(self) -> list[str]:
        """The names of all tables in folders of this machine; none where they lie elsewhere."""
        root = local_path(root_of(self.config)) if self.config.catalog is None else None
        return [] if root is None else list(tables_below(root))

    def damage(self, table: str) -> str | None:
        """What a table's log lacks; None where it is whole, or lies where only Spark can look."""
        folder = self._local_folder(table)
        return None if folder is None else damage_of_log(folder / "_delta_log")

    def set_aside(self, table: str) -> Path:
        """Move the folder of a table of this machine out of the way, and return where it lies now.

        Raises:
            EnvironmentProblem: it cannot be moved.
        """
        folder = self._local_folder(table)
        if folder is None:
            raise ValueError(f"{table} lies in no folder of this machine")
        # Deeper than tables lie, so that nothing takes it for one.
        now = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
        place = folder.parents[1] / "damaged" / now / folder.parent.name / folder.name
        try:
            place.parent.mkdir(parents=True)
            folder.rename(place)
        except OSError as error:
            raise EnvironmentProblem(f"{table} ({folder}): cannot be moved to {place}: {error.strerror}") from error
        self.written.pop(table, None)
        return place

    def describe(self, table: str) -> TableDetails:
        """Size, version and time of a table as it is now, from its log."""
        name = self._sql_name(table)
        size = self.spark.sql(f"DESCRIBE DETAIL {name}").collect()[0]["sizeInBytes"]
        history = self.spark.sql(f"DESCRIBE HISTORY {name} LIMIT 1")
        # A number instead of a time: Python's would pass through the zone of this machine.
        last = history.select("version", F.unix_millis("timestamp").alias("at")).collect()[0]
        return TableDetails(int(size or 0), int(last["version"]), datetime.fromtimestamp(last["at"] / 1000, UTC))

    # Reading and writing

    def read(self, table: str, version: int | None = None) -> DataFrame:
        """The rows of a table, at the version given, else at the one pinned for this run.

        An earlier version that is asked for by number is taken as it is: its contract may have had fewer columns.

        Raises:
            TableContractError: there is no such table, the version was vacuumed, or a column is missing.
        """
        if self._is_bound and not self.exists(table):
            raise self._missing(table)
        reader = self.spark.read
        pinned = self.written.get(table, self._pinned.get(table)) if version is None else version
        if pinned is not None:
            reader = reader.option("versionAsOf", pinned)
        try:
            if self.config.catalog is not None:
                frame = reader.table(self.address(table))
            else:
                frame = reader.format("delta").load(self.address(table))
            columns = frame.columns
        except (PySparkException, Py4JJavaError) as error:
            self._refuse_store(table, error)
            self._refuse_damage(table, error)
            if not isinstance(error, AnalysisException):
                raise
            if _is_missing(error):
                raise self._missing(table) from error
            _refuse_missing_catalog(error)
            raise TableContractError(
                f"{table} ({self.address(table)}) at version {pinned}: {_first_line(error)}"
            ) from error
        if table in TABLES and version is None:
            _check_columns(TABLES[table], columns, f"{table} ({self.address(table)})")
        return frame

    def overwrite(
        self,
        table: str,
        frame: DataFrame,
        *,
        replace_where: str | None = None,
        partition_by: Sequence[str] = (),
        check: str | None = None,
    ) -> int:
        """Replace a table, or the rows of it that meet ``replace_where``, in one transaction.

        The frame is cast to the table's contract where it has one; further columns are refused unless it is open.

        Args:
            table: logical name.
            frame: its rows.
            replace_where: predicate on the rows to replace; default: all.
            partition_by: columns of a table without a contract that its files are split by.
            check: predicate on its rows that Delta holds every writer to from now on, whoever it is.

        Returns:
            The version written.
        """
        contract = TABLES.get(table)
        conformed = _conform(frame, contract)
        writer = conformed.write.format("delta").mode("overwrite")
        if table.startswith(WHOLE_LAYERS):
            writer = writer.option("delta.dataSkippingNumIndexedCols", "0")
        partitions = contract.partition_by if contract is not None else tuple(partition_by)
        if partitions:
            writer = writer.partitionBy(*partitions)
        keeps_rows = replace_where is not None and self._can_keep_rows(table, conformed, contract)
        if replace_where is not None and keeps_rows:
            writer = writer.option("replaceWhere", replace_where).option("mergeSchema", "true")
        else:
            writer = writer.option("overwriteSchema", "true")
        if _NO_ZONE in conformed.schema.simpleString() and self.version(table) is not None:
            self._allow_no_zone(table)
        check_name = None if check is None else f"{CHECK_PREFIX}{hashlib.sha256(check.encode()).hexdigest()[:8]}"
        is_held = self._drop_other_checks(table, check_name)
        with self._writing(table):
            if self.config.catalog is None:
                writer.save(self.address(table))
            elif keeps_rows or (partitions and self._has_columns_of(table, conformed)):
                # Replacing a partitioned table a second time ends in an error of Delta's session catalog, after the
                # commit; replacing its rows does not.
                rows = F.expr(replace_where) if replace_where is not None and keeps_rows else F.lit(True)
                conformed.writeTo(self._sql_name(table)).option("mergeSchema", "true").overwrite(rows)
            else:
                self._create_schema(table)
                writer.saveAsTable(self.address(table))
            if check is not None and not is_held:
                self.spark.sql(f"ALTER TABLE {self._sql_name(table)} ADD CONSTRAINT {check_name} CHECK ({check})")
        return self._remember(table)

    def _allow_no_zone(self, table: str) -> None:
        """Let a table that was made without times of no zone have some; a new one is by itself."""
        features = self.spark.sql(f"DESCRIBE DETAIL {self._sql_name(table)}").collect()[0]["tableFeatures"]
        if _NO_ZONE_FEATURE not in (features or ()):
            properties = f"'delta.feature.{_NO_ZONE_FEATURE}' = 'supported'"
            self.spark.sql(f"ALTER TABLE {self._sql_name(table)} SET TBLPROPERTIES ({properties})")

    def _can_keep_rows(self, table: str, frame: DataFrame, contract: Table | None) -> bool:
        """Whether there are rows that may stay beside new ones: none about dates stay where hours are written now."""
        if self.version(table) is None:
            return False
        if contract is None or not contract.moments:
            return True
        there, new = dict(self._dtypes(table)), dict(frame.dtypes)
        if not there.keys() >= set(contract.moments):
            # A table of another layout altogether is not ours to remove; Delta will refuse it.
            return True
        is_alike = all(there[name] == new[name] for name in contract.moments)
        if not is_alike:
            log.warning("%s: its rows are about another panel (%s) and go", table, there[contract.moments[0]])
        return is_alike

    def _has_columns_of(self, table: str, frame: DataFrame) -> bool:
        """Whether there is a table with a frame's columns, of the same types in the same order."""
        return self.version(table) is not None and self._dtypes(table) == frame.dtypes

    def _dtypes(self, table: str) -> list[tuple[str, str]]:
        """Columns and types of a table that is to be written, as it is now: a run need not be one that may read it."""
        return Lakehouse(self.spark, self.config).read(table, self.version(table)).dtypes

    def _drop_other_checks(self, table: str, name: str | None) -> bool:
        """Whether a table is held to the check of this name already; others of ours are dropped."""
        # Nothing else is ever held to one, and looking costs a query.
        if not table.startswith("silver.") or self.version(table) is None:
            return False
        properties = self.spark.sql(f"SHOW TBLPROPERTIES {self._sql_name(table)}").collect()
        held = {row["key"].removeprefix("delta.constraints.") for row in properties}
        ours = {key for key in held if key.startswith(CHECK_PREFIX)}
        for other in ours - {name}:
            self.spark.sql(f"ALTER TABLE {self._sql_name(table)} DROP CONSTRAINT {other}")
        return name in ours

    def append(self, table: str, frame: DataFrame) -> int:
        """Add rows to a table, creating it at the first call; returns the version written."""
        writer = _conform(frame, TABLES.get(table)).write.format("delta").mode("append").option("mergeSchema", "true")
        with self._writing(table):
            if self.config.catalog is not None:
                self._create_schema(table)
                writer.saveAsTable(self.address(table))
            else:
                writer.save(self.address(table))
        return self._remember(table)

    def merge(
        self, table: str, frame: DataFrame, keys: Sequence[str], *, keep: Sequence[str] = (), update: bool = True
    ) -> int:
        """Update the rows with the same keys that differ, and insert the others; returns the version written.

        Args:
            table: a table that exists.
            frame: at most one row per key, with the table's columns.
            keys: columns that identify a row.
            keep: columns that an update leaves as they are.
            update: whether rows that are there are updated at all.
        """
        source = _conform(frame, TABLES.get(table))
        names = [name for name in source.columns if name not in (*keys, *keep)]
        actions = "WHEN NOT MATCHED THEN INSERT *"
        if update and names:
            types = dict(source.dtypes)
            differs = " OR ".join(_differs(name, types[name]) for name in names)
            sets = ", ".join(f"target.`{name}` = source.`{name}`" for name in names)
            actions = f"WHEN MATCHED AND ({differs}) THEN UPDATE SET {sets} {actions}"
        return self._merge(table, source, keys, actions)

    def delete(self, table: str, keys: DataFrame) -> int:
        """Remove the rows whose values are among ``keys``, by all of its columns; returns the version written."""
        return self._merge(table, keys.distinct(), keys.columns, "WHEN MATCHED THEN DELETE")

    def delete_where(self, table: str, predicate: str) -> int:
        """Remove the rows that meet a predicate; returns the version written."""
        with self._writing(table):
            self.spark.sql(f"DELETE FROM {self._sql_name(table)} WHERE {predicate}")
        return self._remember(table)

    def _merge(self, table: str, source: DataFrame, keys: Sequence[str], actions: str) -> int:
        view = f"dlmine_merge_{uuid.uuid4().hex}"
        source.createOrReplaceTempView(view)
        on = " AND ".join(f"target.`{key}` <=> source.`{key}`" for key in keys)
        try:
            with self._writing(table):
                self.spark.sql(f"MERGE INTO {self._sql_name(table)} target USING {view} source ON {on} {actions}")
        finally:
            self.spark.catalog.dropTempView(view)
        return self._remember(table)

    def _create_schema(self, table: str) -> None:
        schema = self.address(table).rpartition(".")[0]
        self.spark.sql(f"CREATE SCHEMA IF NOT EXISTS {'.'.join(f'`{part}`' for part in schema.split('.'))}")

    def _remember(self, table: str) -> int:
        version = self.version(table)
        if version is None:
            raise self._missing(table)
        self.written[table] = version
        log.debug("%s is at version %d", table, version)
        return version

    def _missing(self, table: str) -> TableContractError:
        return TableContractError(
            f"{table}: there is no such table at {self.address(table)}; run the stage that writes it ('dlmine run')"
        )

    def _refuse_store(self, table: str, error: Exception) -> None:
        """Say what an object store lacks, or what Spark lacks to reach it, if the error is of that."""
        if self.config.catalog is None:
            address = self.address(table)
            reason = lack_of_s3(str(error)) or explained(str(error), address, os.environ)
            if reason is not None:
                raise EnvironmentProblem(f"{table} ({address}): {reason}") from error

    def _refuse_damage(self, table: str, error: Exception) -> None:
        """Say that a table's log is damaged, if the error is of that."""
        told = unreadable_log(str(error))
        if told is not None:
            damage = self.damage(table) or told
            raise DlmineError(damaged_table(table, self.address(table), damage)) from error

    @contextmanager
    def _writing(self, table: str) -> Iterator[None]:
        """Name the table in errors of the storage: a full disk, a missing right, a concurrent writer."""
        try:
            yield
        except (PySparkException, Py4JJavaError) as error:
            # Of a task that failed, Py4J passes on all causes; PySpark would know the first only.
            text = str(error)
            _refuse_missing_catalog(error)
            self._refuse_store(table, error)
            self._refuse_damage(table, error)
            if "No space left on device" in text:
                raise EnvironmentProblem(
                    f"{table} ({self.address(table)}): no space left on device; the table is as it was"
                ) from error
            if "Permission denied" in text:
                raise EnvironmentProblem(f"{table} ({self.address(table)}): permission denied") from error
            if "DELTA_METADATA_MISMATCH" in text:
                raise TableContractError(
                    f"{table} ({self.address(table)}): has other columns or partitions than this version writes; "
                    "remove the table, or give this version its own lakehouse.root"
                ) from error
            violated = re.search(r"\[DELTA_VIOLATE_CONSTRAINT\w*\] (CHECK .*? violated)", text)
            if violated is not None:
                raise TableContractError(
                    f"{table} ({self.address(table)}): {violated[1]}; nothing was written"
                ) from error
            if "Concurrent" in text and "DELTA" in text:
                raise DlmineError(
                    f"{table} ({self.address(table)}): another job wrote it at the same time; run again"
                ) from error
            raise


def _differs(column: str, type_: str) -> str:
    """Whether an update changes a column, in SQL; maps cannot be compared, their entries can."""
    target, source = (
        f"map_entries({side}.`{column}`)" if type_.startswith("map<") else f"{side}.`{column}`"
        for side in ("target", "source")
    )
    return f"NOT ({target} <=> {source})"


def _conform(frame: DataFrame, contract: Table | None) -> DataFrame:
    """The frame with the contract's columns first, cast to its types, and nothing undeclared."""
    if contract is None:
        return frame
    _check_columns(contract, frame.columns, f"frame for {contract.name}")
    further = [name for name in frame.columns if name not in contract.columns]
    if further and not contract.is_open:
        raise TableContractError(f"frame for {contract.name}: undeclared columns {', '.join(further)}")
    columns = contract.typed(_moment_type(frame, contract)) if contract.moments else contract.columns
    declared = [F.col(f"`{name}`").cast(type_).alias(name) for name, type_ in columns.items()]
    return frame.select(*declared, *(F.col(f"`{name}`") for name in further))


def _moment_type(frame: DataFrame, contract: Table) -> str:
    """The one type that the contract's columns about time have; casting another would cut hours off, or move them."""
    types = dict(frame.dtypes)
    found = {name: types[name] for name in contract.moments}
    if len(set(found.values())) > 1 or not set(found.values()) <= set(MOMENT_TYPES):
        shown = ", ".join(f"{name} is {type_}" for name, type_ in found.items())
        raise TableContractError(f"frame for {contract.name}: {shown}; expected one of {', '.join(MOMENT_TYPES)}")
    return found[contract.moments[0]]


def _check_columns(contract: Table, columns: Sequence[str], where: str) -> None:
    missing = [name for name in contract.columns if name not in columns]
    if missing:
        raise TableContractError(f"{where}: column {', '.join(missing)} is missing; found {', '.join(columns)}")


def _refuse_missing_catalog(error: Exception) -> None:
    """Say what a session lacks that somebody else built without Delta's catalog."""
    if "DELTA_CONFIGURE_SPARK_SESSION" in str(error):
        raise EnvironmentProblem(
            "this Spark session has no Delta catalog: start it with "
            f"--conf spark.sql.catalog.spark_catalog={DELTA_CATALOG}"
        ) from error


def _is_missing(error: AnalysisException) -> bool:
    condition = error.getCondition() or ""
    text = str(error)
    return condition in {
        "DELTA_MISSING_DELTA_TABLE",
        "DELTA_PATH_DOES_NOT_EXIST",
        "DELTA_TABLE_NOT_FOUND",
        "PATH_NOT_FOUND",
        "TABLE_OR_VIEW_NOT_FOUND",
        "SCHEMA_NOT_FOUND",
        "DELTA_TABLE_ONLY_OPERATION",
    } or any(word in text for word in ("is not a Delta table", "doesn't exist", "does not exist"))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
