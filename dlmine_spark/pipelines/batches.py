"""Batches: the new files of a source with ``load: merge``, taken in exactly once.

Every step of a batch can be repeated, so a job that was killed anywhere is run again and nothing is lost or doubled:

1. The new files are noted in ``ops.files`` under the next number.
2. Their rows become the partition of that number in bronze. From here on the batch is what bronze has, whatever becomes
   of the files: a run that was killed later goes on from there.
3. The rows are judged. If they are refused, the partition is removed again and no silver table is changed.
4. ``ops.batches`` notes the batch as ``begun``, with the version of the silver table before it: whatever silver rows a
   repeated attempt looks at are those of that version.
5. Silver, quarantine and repairs are merged by key; merging twice changes nothing.
6. ``ops.batches`` notes the batches of all sources as ``done``, in one commit.

All rows of bronze are judged anew where the declaration, the columns or the corrections by hand are not those of the
batches before.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark import sources
from dlmine_spark.config import ColumnConfig, Config, SourceConfig
from dlmine_spark.errors import NoRowsError, SourceError, TableContractError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.sources import SourceFile

log = logging.getLogger(__name__)

BEGUN, DONE, VOID = "begun", "done", "void"
_FILE = ("path", "size", "modified")
_NOT_CLEANING = {
    "path", "format", "database", "delimiter", "encoding", "multiline", "roles", "default_role", "load", "new_columns",
    "freshness", "drift",
}  # fmt: skip
"""Settings of a source that say nothing about what becomes of a row of bronze."""
_SHOWN = 10
_ANOTHER_PLAN = "judge all rows anew"
_KEPT_DAYS = 6
"""How long a killed attempt can wait to be repeated: VACUUM may remove versions of tables that are a week old."""
_MICROSECONDS_A_DAY = 86_400_000_000
_ONE_AT_A_TIME = threading.Lock()
"""Sources are judged at the same time, and of two writers of a table Delta refuses the later one."""

Scope = Literal["all", "some", "none"]


@dataclass(frozen=True, slots=True)
class State:
    """What the ledger says of a source.

    Attributes:
        number: of the last batch that is done, or void; 0 where there was none.
        since: number of the last void batch: what came up to it counts no more.
        plan: by which the rows in silver were judged; None where there are none.
        begun: plan and base version of each attempt at the next batch that may have changed silver, oldest first;
            without a base version, all rows were judged.
        begun_days_ago: the oldest of these.
    """

    number: int
    since: int
    plan: str | None
    begun: tuple[tuple[str, int | None], ...]
    begun_days_ago: float = 0.0


_NEW = State(0, 0, None, ())


@dataclass(frozen=True, slots=True)
class Batch:
    """The next batch of a source.

    Attributes:
        source: its name.
        number: from 1.
        files: that came with it; none where only the plan may have changed.
        is_ingested: whether bronze has its rows, of a run that did not end.
        state: of the source before it.
    """

    source: str
    number: int
    files: tuple[SourceFile, ...]
    is_ingested: bool
    state: State

    @property
    def is_first(self) -> bool:
        """Whether there is nothing to add to."""
        return self.state.plan is None

    @property
    def predicate(self) -> str:
        """What tells its rows from others, of any source's bronze."""
        return f"{s.BATCH} = {self.number}"


@dataclass(frozen=True, slots=True)
class Contents:
    """Rows of the files of a batch, and those among them in files that had come before, row for row."""

    rows: int
    copied: int


@dataclass(frozen=True, slots=True)
class Step:
    """What a batch does to the silver table of its source.

    Attributes:
        batch: the batch.
        scope: whether ``all`` rows of bronze are judged and replace the table, ``some`` (those of the batch) are merged
            into it, or ``none``: it stays as it is.
        plan: digest of what the rows are judged by.
        base_version: version of the table before the batch, where some rows are merged into it.
        copied: rows of the batch in files that had come before; they are duplicates.
    """

    batch: Batch
    scope: Scope
    plan: str
    base_version: int | None
    copied: int


@dataclass(frozen=True, slots=True)
class EndedStep:
    """A step that is done: rows of the batch, how many of them were accepted, and rows that the table gained."""

    step: Step
    rows_in: int
    accepted: int
    inserted: int


# Before anything is read


def next_batch(lakehouse: Lakehouse, name: str, source: SourceConfig) -> Batch:
    """The files of a source that are new, or the batch of a run that did not end.

    Raises:
        SourceError: a file is not what the source says.
        NoRowsError: there never was a file.
        TableContractError: bronze is gone, so that a plan that changes could not be applied to earlier rows.
    """
    state = _state_of(lakehouse, name)
    number = state.number + 1
    if _has_rows(lakehouse, name, number):
        resumed = _resumed(lakehouse, name, source, state)
        if resumed is not None:
            return resumed
    if state.plan is not None and not lakehouse.adopt(f"bronze.{name}"):
        raise TableContractError(
            f"bronze.{name}: is gone, and with it the rows of {state.number - state.since:,} batches: restore it, or "
            f"start over with the files that are there now by running once with sources.{name}.load=replace"
        )
    listed = _listed(lakehouse, name, source, state, state.number)
    if not listed and state.plan is None:
        raise NoRowsError(f"{source.path} (source {name}): there is no {'row' if source.database else 'file'} yet")
    batch = Batch(name, number, tuple(_unknown(lakehouse, name, listed, state)), False, state)
    if not batch.files:
        # What a killed or refused attempt noted did not come.
        _forget_files(lakehouse, batch)
    return batch


def _resumed(lakehouse: Lakehouse, name: str, source: SourceConfig, state: State) -> Batch | None:
    """The batch that bronze has the rows of; None where it may hold half a file, which is taken out again."""
    noted = _files(lakehouse, name).where(F.col("batch") == state.number + 1).select(*_FILE, "rows").collect()
    files = tuple(SourceFile(*(row[column] for column in _FILE)) for row in noted)
    batch = Batch(name, state.number + 1, files, True, state)
    was_checked = all(row["rows"] is not None for row in noted)
    if not was_checked and sources.is_local(source.path) and sources.first_changed(files, may_be_gone=True):
        _take_out(lakehouse, batch)
        return None
    return batch


def fingerprint(lakehouse: Lakehouse, name: str, source: SourceConfig) -> str:
    """Hash of every file that ever came and those that lie there now: it changes when one is new, and never else."""
    state = _state_of(lakehouse, name)
    last = state.number + (1 if _has_rows(lakehouse, name, state.number + 1) else 0)
    files = _frame(lakehouse, _listed(lakehouse, name, source, state, last))
    if lakehouse.version(s.FILES.name) is not None:
        files = files.unionByName(_came(lakehouse, name, state, last))
    row = files.distinct().agg(F.count(F.lit(1)), F.bit_xor(F.xxhash64(*_FILE))).collect()[0]
    return f"{row[0]} files since batch {state.since}: {row[1]}"


def _state_of(lakehouse: Lakehouse, name: str) -> State:
    return _states_of(lakehouse, [name]).get(name, _NEW)


def _states_of(lakehouse: Lakehouse, names: Sequence[str] | None = None) -> dict[str, State]:
    """What the ledger says of those of the sources that it knows, or of all that it knows (one aggregation)."""
    if names == [] or lakehouse.version(s.BATCHES.name) is None:
        return {}
    noted = lakehouse.read(s.BATCHES.name)
    if names is not None:
        noted = noted.where(F.col("source").isin(*names))
    is_begun = F.col("status") == BEGUN
    age = (F.unix_micros(F.current_timestamp()) - F.unix_micros("noted_at")) / _MICROSECONDS_A_DAY
    attempt = F.struct("noted_at", "batch", "plan", "base_version", age.alias("age"))
    by_source = noted.groupBy("source").agg(
        F.max_by(F.struct("batch", "status", "plan"), F.when(~is_begun, F.struct("batch", "noted_at"))).alias("last"),
        F.max(F.when(F.col("status") == VOID, F.col("batch"))).alias("since"),
        F.array_sort(F.collect_list(F.when(is_begun, attempt))).alias("begun"),
    )
    of_next = F.filter("begun", lambda one: one["batch"] > F.coalesce(F.col("last.batch"), F.lit(0)))
    return {row["source"]: _state(row) for row in by_source.withColumn("begun", of_next).collect()}


def _state(row: Row) -> State:
    last, begun = row["last"], row["begun"]
    return State(
        number=last["batch"] if last is not None else 0,
        since=row["since"] or 0,
        plan=last["plan"] if last is not None and last["status"] == DONE else None,
        begun=tuple((one["plan"], one["base_version"]) for one in begun),
        begun_days_ago=begun[0]["age"] if begun else 0.0,
    )


def _has_rows(lakehouse: Lakehouse, name: str, number: int) -> bool:
    if not lakehouse.adopt(f"bronze.{name}"):
        return False
    bronze = lakehouse.read(f"bronze.{name}")
    # Tables of versions before this one have no such column.
    return s.BATCH in bronze.columns and not bronze.where(F.col(s.BATCH) == number).isEmpty()


def _unknown(lakehouse: Lakehouse, name: str, listed: Sequence[SourceFile], state: State) -> list[SourceFile]:
    """The files that did not come yet; one that changed is a new one under an old name."""
    if state.plan is None or lakehouse.version(s.FILES.name) is None:
        return list(listed)
    known = _files(lakehouse, name).where(_is_between(state.since + 1, state.number))
    new = _frame(lakehouse, listed).join(known, on=list(_FILE), how="left_anti").orderBy("path")
    return [SourceFile(*row) for row in new.select(*_FILE).collect()]


def _listed(lakehouse: Lakehouse, name: str, source: SourceConfig, state: State, last: int) -> list[SourceFile]:
    """The files there are; of a database, the rows beyond those of the batches up to ``last``."""
    came = []
    if source.format == "jdbc" and lakehouse.version(s.FILES.name) is not None:
        came = [SourceFile(*row) for row in _came(lakehouse, name, state, last).collect()]
    return sources.list_files(lakehouse.spark, name, source, came)


def _came(lakehouse: Lakehouse, name: str, state: State, last: int) -> DataFrame:
    """The files of a source's batches up to this one."""
    return _files(lakehouse, name).where(_is_between(state.since + 1, last)).select(*_FILE)


def _frame(lakehouse: Lakehouse, files: Sequence[SourceFile]) -> DataFrame:
    rows = [(file.path, file.size, file.modified) for file in files]
    return lakehouse.spark.createDataFrame(rows, "path string, size bigint, modified bigint")


def _files(lakehouse: Lakehouse, name: str) -> DataFrame:
    return lakehouse.read(s.FILES.name).where(F.col("source") == name)


# Taking files in


def note_files(lakehouse: Lakehouse, batch: Batch) -> None:
    """Note the files of a batch before any of them is read."""
    unread = {"rows": "bigint", "digest": "string", "copy_of": "string"}
    noted = _frame(lakehouse, batch.files).withColumns(
        {name: F.lit(None).cast(type_) for name, type_ in unread.items()}
    )
    _write_files(lakehouse, batch, noted)


def note_contents(lakehouse: Lakehouse, batch: Batch) -> Contents:
    """Note what each file of a batch holds, as bronze has it (one aggregation), and which of them came before."""
    bronze = lakehouse.read(f"bronze.{batch.source}").where(batch.predicate)
    read = bronze.groupBy(sources.path_of(F.col(s.SOURCE_FILE)).alias("path")).agg(
        F.count(F.lit(1)).alias("rows"), _digest(bronze).alias("digest")
    )
    earlier = (
        _files(lakehouse, batch.source)
        .where(_is_between(batch.state.since + 1, batch.number - 1) & (F.col("rows") > 0))
        .groupBy("size", "rows", "digest")
        .agg(F.min("path").alias("copy_of"))
    )
    found = (
        _frame(lakehouse, batch.files)
        .join(read, on="path", how="full")
        .withColumn("rows", F.coalesce("rows", F.lit(0)))
        .join(earlier, on=["size", "rows", "digest"], how="left")
        .select(*_FILE, "rows", "digest", "copy_of")
        .collect()
    )
    # Rows of a file that is none of the batch's have its path only.
    noted = [row for row in found if row["size"] is not None]
    rows = sum(row["rows"] for row in noted)
    there = sum(row["rows"] for row in found)
    if rows != there:
        raise TableContractError(
            f"bronze.{batch.source}: batch {batch.number} has {there:,} rows, but {rows:,} in files named like "
            f"{batch.files[0].path}: give sources.{batch.source}.path in another spelling"
        )
    types = ", ".join(f"{name} {s.FILES.columns[name]}" for name in (*_FILE, "rows", "digest", "copy_of"))
    _write_files(lakehouse, batch, lakehouse.spark.createDataFrame([tuple(row) for row in noted], types))
    copies = [row for row in noted if row["copy_of"] is not None]
    for row in copies[:_SHOWN]:
        log.info("%s: holds what %s brought: its rows are duplicates", row["path"], row["copy_of"])
    return Contents(rows, sum(row["rows"] for row in copies))


def _digest(bronze: DataFrame) -> Column:
    """Of the rows of a file, in whatever order, and whatever columns other files have."""
    parts: list[Column] = []
    for name in [*(name for name in bronze.columns if name not in s.BRONZE_METADATA), s.RAW_LINE]:
        cell = F.col(f"`{name}`")
        # A hash passes over nulls: without the name, a cell could move into the column beside it.
        parts += [F.when(cell.isNotNull(), F.lit(name)), cell]
    # As a bigint the sum would overflow.
    return F.sum(F.xxhash64(*parts).cast("decimal(20,0)")).cast("string")


def _write_files(lakehouse: Lakehouse, batch: Batch, noted: DataFrame) -> None:
    rows = noted.withColumns(
        {
            "source": F.lit(batch.source),
            "batch": F.lit(batch.number).cast("bigint"),
            s.RUN_ID: F.lit(lakehouse.run_id),
        }
    )
    with _ONE_AT_A_TIME:
        lakehouse.overwrite(s.FILES.name, rows, replace_where=f"source = '{batch.source}' AND batch = {batch.number}")


def refuse_changed_files(batch: Batch, source: SourceConfig) -> None:
    """Refuse files that somebody wrote while they were read, of which bronze may hold half.

    Raises:
        SourceError: naming the first.
    """
    changed = sources.first_changed(batch.files) if sources.is_local(source.path) else None
    if changed is not None:
        raise SourceError(
            f"{changed} (source {batch.source}): changed while it was read; run again when nobody writes there"
        )


@contextmanager
def withdrawn_if_refused(lakehouse: Lakehouse, config: Config, batches: Mapping[str, Batch | None]) -> Iterator[None]:
    """Take batches out of bronze again that cannot be accepted, so that they can be taken in when that was mended.

    One that an earlier run left stays if it has come to silver, or bronze is all that is left of its files.
    """
    try:
        yield
    except Exception:
        for name, batch in batches.items():
            if batch is not None and (not batch.is_ingested or _can_come_again(lakehouse, batch, config.sources[name])):
                try:
                    _take_out(lakehouse, batch)
                except Exception as second:
                    # A full disk must not hide what was wrong first; the batch is looked at again in the next run.
                    log.warning("source %s: batch %d could not be withdrawn: %s", name, batch.number, second)
        raise


def _can_come_again(lakehouse: Lakehouse, batch: Batch, source: SourceConfig) -> bool:
    if any(plan != _ANOTHER_PLAN for plan, _ in batch.state.begun):
        return False
    try:
        return sources.are_there(lakehouse.spark, batch.source, source, batch.files)
    except SourceError:
        return False


def _take_out(lakehouse: Lakehouse, batch: Batch) -> None:
    if _has_rows(lakehouse, batch.source, batch.number):
        lakehouse.delete_where(f"bronze.{batch.source}", batch.predicate)
    _forget_files(lakehouse, batch)


def _forget_files(lakehouse: Lakehouse, batch: Batch) -> None:
    if lakehouse.version(s.FILES.name) is None:
        return
    with _ONE_AT_A_TIME:
        if not _files(lakehouse, batch.source).where(F.col("batch") == batch.number).isEmpty():
            lakehouse.delete_where(s.FILES.name, f"source = '{batch.source}' AND batch = {batch.number}")


# What a batch does


def plan_of(config: Config, name: str, columns: Mapping[str, ColumnConfig], corrections: DataFrame | None) -> str:
    """Digest of all that decides what becomes of a row of bronze."""
    source = config.sources[name]
    settings: dict[str, object] = {
        "source": source.model_dump(mode="json", exclude=_NOT_CLEANING),
        "cutoff": str(config.cleaning.cutoff),
        "columns": {column: spec.model_dump(mode="json") for column, spec in columns.items()},
        "corrections": None,
    }
    if corrections is not None:
        settings["corrections"] = str(corrections.agg(F.bit_xor(F.xxhash64("row", "corrected"))).collect()[0][0])
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def step_of(
    lakehouse: Lakehouse, batch: Batch, contents: Contents, plan: str, table: str, *, asks_others: bool
) -> Step:
    """What a batch does to ``table``, the silver table of its source, once bronze has its rows.

    ``asks_others``: whether its verdict depends on other sources, which may have changed between two attempts.
    """
    attempts = batch.state.begun
    is_alike = batch.state.plan == plan and all(begun == plan and base is not None for begun, base in attempts)
    is_old = batch.state.begun_days_ago > _KEPT_DAYS
    if not is_alike or is_old or (attempts and asks_others) or not lakehouse.adopt(table):
        return Step(batch, "all", plan, None, contents.copied)
    if contents.rows == contents.copied:
        return Step(batch, "none", plan, None, contents.copied)
    base = attempts[0][1] if attempts else lakehouse.version(table)
    return Step(batch, "some", plan, base, contents.copied)


def rows_to_judge(lakehouse: Lakehouse, step: Step) -> DataFrame:
    """The rows of bronze that a step judges, without those of files that had come before."""
    batch = step.batch
    bronze = lakehouse.read(f"bronze.{batch.source}")
    if step.scope != "all":
        bronze = bronze.where(batch.predicate)
        if not step.copied:
            return bronze
    else:
        _refuse_lost_rows(lakehouse, batch, bronze)
    copies = _files(lakehouse, batch.source).where(F.col("copy_of").isNotNull() & _is_judged(step))
    if copies.isEmpty():
        return bronze
    named = bronze.withColumn("path", sources.path_of(F.col(s.SOURCE_FILE)))
    of_copies = F.broadcast(copies.select("path", F.col("batch").alias(s.BATCH)))
    return named.join(of_copies, on=["path", s.BATCH], how="left_anti").drop("path")


def _refuse_lost_rows(lakehouse: Lakehouse, batch: Batch, bronze: DataFrame) -> None:
    """Before all rows are judged anew, and silver is replaced: what bronze has lost would be lost there too."""
    came = _files(lakehouse, batch.source).where(_is_between(batch.state.since + 1, batch.number))
    expected = int(came.agg(F.sum("rows")).collect()[0][0] or 0)
    there = bronze.count()
    if there != expected:
        raise TableContractError(
            f"bronze.{batch.source}: has {there:,} rows, but {expected:,} were taken in, and all of them are to be "
            f"judged anew: restore it (RESTORE TABLE); no silver table was changed"
        )


def copied_rows(lakehouse: Lakehouse, step: Step) -> int:
    """Rows that ``rows_to_judge`` leaves out."""
    if step.scope != "all":
        return step.copied
    copies = _files(lakehouse, step.batch.source).where(F.col("copy_of").isNotNull() & _is_judged(step))
    return int(copies.agg(F.sum("rows")).collect()[0][0] or 0)


def _is_judged(step: Step) -> Column:
    first = step.batch.state.since + 1 if step.scope == "all" else step.batch.number
    return _is_between(first, step.batch.number)


def _is_between(first: int, last: int) -> Column:
    """Of ``ops.files``, whether a file came with one of these batches."""
    return F.col("batch").between(first, last)


# The ledger


def begin(lakehouse: Lakehouse, steps: Sequence[Step]) -> None:
    """Note that silver is about to change."""
    rows = [
        _entry(step.batch.source, step.batch.number, BEGUN, step.plan, step.base_version)
        for step in steps
        if step.scope != "none"
    ]
    _note(lakehouse, rows)


def end(lakehouse: Lakehouse, steps: Sequence[EndedStep]) -> None:
    """Note that batches are done."""
    rows = [
        _entry(
            (step := ended.step).batch.source,
            step.batch.number,
            DONE,
            step.plan,
            step.base_version,
            (ended.rows_in, ended.accepted, ended.inserted),
        )
        for ended in steps
        if ended.step.scope != "none" or ended.step.batch.files
    ]
    _note(lakehouse, rows)


def note_changed_sources(lakehouse: Lakehouse, config: Config) -> None:
    """Prepare for a run in which sources are loaded otherwise than before, or not at all.

    Of a source that is loaded as a whole, no earlier batch counts any more. One that is not configured has its rows
    judged anew when it comes back: other sources may have written its tables meanwhile.

    Raises:
        SourceError: a source was merged and is to be replaced, which would end what bronze keeps of it.
    """
    rows: list[tuple[object, ...]] = []
    for name, state in _states_of(lakehouse).items():
        source = config.sources.get(name)
        if source is not None and source.load == "replace" and (state.plan is not None or state.begun):
            if lakehouse.version(f"bronze.{name}") is not None:
                raise SourceError(
                    f"sources.{name}.load: replace would overwrite bronze.{name} "
                    f"({lakehouse.address(f'bronze.{name}')}), which keeps the rows of {state.number - state.since:,} "
                    "merged batches, also of files that are gone: remove that table first if they are needed no more"
                )
            rows.append(_entry(name, state.number + 1, VOID))
        elif source is None and state.plan is not None and (_ANOTHER_PLAN, None) not in state.begun:
            rows.append(_entry(name, state.number + 1, BEGUN, _ANOTHER_PLAN))
    _note(lakehouse, rows)


def judge_anew(lakehouse: Lakehouse, names: Sequence[str]) -> None:
    """Let the next run judge all rows of these sources, whatever plan they were judged by."""
    states = _states_of(lakehouse, names)
    rows = [
        _entry(name, state.number + 1, BEGUN, _ANOTHER_PLAN) for name, state in states.items() if state.plan is not None
    ]
    _note(lakehouse, rows)


def _entry(
    source: str,
    number: int,
    status: str,
    plan: str | None = None,
    base_version: int | None = None,
    counts: tuple[int | None, int | None, int | None] = (None, None, None),
) -> tuple[object, ...]:
    """A row of ``ops.batches`` without its run and time; ``counts``: rows in, accepted and inserted."""
    return source, number, status, base_version, plan, *counts


def _note(lakehouse: Lakehouse, rows: Sequence[tuple[object, ...]]) -> None:
    if not rows:
        return
    names = [name for name in s.BATCHES.columns if name not in (s.RUN_ID, "noted_at")]
    types = ", ".join(f"{name} {s.BATCHES.columns[name]}" for name in names)
    noted = lakehouse.spark.createDataFrame(list(rows), types)
    lakehouse.append(
        s.BATCHES.name, noted.withColumns({s.RUN_ID: F.lit(lakehouse.run_id), "noted_at": F.current_timestamp()})
    )
