"""The run ledger ``ops.runs``: what ran, on which versions, with what result; and what need not run again.

A row says what became of a run: that it is ``running``, and later that it is ``done``, ``not_applicable`` or
``failed``. Rows are added and never changed, so that every attempt stays on record. Whoever finds a row ``running``
takes that run for killed: one job at a time may work in a lakehouse, which ``places.lock`` sees to on file systems,
and nobody elsewhere.

A stage is up to date when its last finished run had the same configuration (the sections it depends on) and the same
inputs (versions of tables, fingerprints of source files) and the tables and files it wrote are still there. A run that
was killed stays ``running``; the next run of that stage with the same inputs takes over its ``run_id``, so that
training finds its own checkpoints.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.lakehouse import Lakehouse

RUNNING, DONE, FAILED, NOT_APPLICABLE = "running", "done", "failed", "not_applicable"


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """What a stage did: rows read, written and refused, and one line for the terminal.

    ``is_behind``: it took in less than is there, and has to run again.
    """

    rows_in: int
    rows_out: int
    rows_rejected: int = 0
    message: str = ""
    is_behind: bool = False


@dataclass(frozen=True)
class NotApplicable:
    """A stage that has nothing to do on this data, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Run:
    """A run, as its newest row in the ledger says.

    ``output_versions`` holds the version of every table written, and the size in bytes of every file kept beside them.
    """

    run_id: str
    stage: str
    status: str
    input_versions: Mapping[str, str]
    config_hash: str
    started_at: datetime
    output_versions: Mapping[str, int] = field(default_factory=dict)
    message: str = ""


class Ledger:
    """Reads ``ops.runs`` once, when it is first asked, and adds to it: nobody else may meanwhile (``places.lock``)."""

    def __init__(self, lakehouse: Lakehouse) -> None:
        self._lakehouse = lakehouse
        self._newest: dict[str, Run] | None = None

    def last(self, stage: str) -> Run | None:
        """The newest run of a stage, whatever became of it."""
        if self._newest is None:
            self._newest = self._read()
        return self._newest.get(stage)

    def _read(self) -> dict[str, Run]:
        if not self._lakehouse.exists(s.RUNS.name):
            return {}
        newest = newest_of_each_stage(self._lakehouse.read(s.RUNS.name)).collect()
        return {row["stage"]: _to_run(row) for row in newest}

    def begin(self, stage: str, config_hash: str, input_versions: Mapping[str, str]) -> Run:
        """Note that a stage starts; an interrupted or failed run on the same inputs is continued under its id."""
        last = self.last(stage)
        continues = (
            last is not None
            and last.status in (RUNNING, FAILED)
            and last.config_hash == config_hash
            and last.input_versions == input_versions
        )
        run_id = last.run_id if last is not None and continues else _new_run_id(stage)
        run = Run(run_id, stage, RUNNING, dict(input_versions), config_hash, _after(last))
        self._write(run)
        return run

    def finish(self, run: Run, report: StageReport | NotApplicable, output_versions: Mapping[str, int]) -> Run:
        """Note how a stage ended well; from here on it counts as up to date, unless it is behind its inputs."""
        if isinstance(report, StageReport):
            inputs = {} if report.is_behind else run.input_versions
            outputs = dict(output_versions)
            finished = replace(run, status=DONE, input_versions=inputs, output_versions=outputs, message=report.message)
            self._write(finished, report=report)
        else:
            finished = replace(run, status=NOT_APPLICABLE, output_versions=dict(output_versions), message=report.reason)
            self._write(finished)
        return finished

    def fail(self, run: Run, error: str) -> None:
        """Note the error a stage ended with."""
        self._write(replace(run, status=FAILED), error=error)

    def _write(self, run: Run, *, report: StageReport | None = None, error: str | None = None) -> None:
        """Add a row that says what became of the run."""
        row = {
            s.RUN_ID: run.run_id,
            "stage": run.stage,
            "status": run.status,
            "started_at": run.started_at,
            "ended_at": None if run.status == RUNNING else datetime.now(UTC),
            "rows_in": report.rows_in if report else None,
            "rows_out": report.rows_out if report else None,
            "rows_rejected": report.rows_rejected if report else None,
            "input_versions": dict(run.input_versions),
            "output_versions": dict(run.output_versions),
            "config_hash": run.config_hash,
            "message": run.message,
            "error": error,
        }
        self._lakehouse.append(s.RUNS.name, _one_row(self._lakehouse.spark, row))
        if self._newest is not None:
            self._newest[run.stage] = run


def _after(last: Run | None) -> datetime:
    """Now, or just after the last run where the clock was set back: the newest row has to be the last one."""
    now = datetime.now(UTC)
    return now if last is None else max(now, last.started_at + timedelta(microseconds=1))


def newest_of_each_stage(ledger: DataFrame) -> DataFrame:
    """The last word about the newest run of each stage: rows of ``ops.runs``, one per stage."""
    # What has no end yet comes before what has one.
    place = F.struct("started_at", "ended_at", s.RUN_ID)
    return ledger.groupBy("stage").agg(F.max_by(F.struct(*s.RUNS.names), place).alias("row")).select("row.*")


def _to_run(row: Row) -> Run:
    return Run(
        row[s.RUN_ID],
        row["stage"],
        row["status"],
        row["input_versions"] or {},
        row["config_hash"],
        row["started_at"].astimezone(UTC),
        row["output_versions"] or {},
        row["message"] or "",
    )


def _one_row(spark: SparkSession, row: Mapping[str, object]) -> DataFrame:
    return spark.createDataFrame([tuple(row[name] for name in s.RUNS.names)], s.RUNS.ddl)


def _new_run_id(stage: str) -> str:
    """Sortable by time, unique without coordination."""
    return f"{stage}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
