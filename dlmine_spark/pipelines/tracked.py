"""What each run of a stage is to MLflow: parameters, versions of tables, metrics, curves, files, and the model."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import yaml
from pyspark.sql import functions as F

from dlmine_spark import __version__
from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.evaluation.compare import OVERALL
from dlmine_spark.frequency import name_of, sql_literal
from dlmine_spark.lakehouse import FILE_PREFIX, Lakehouse
from dlmine_spark.places import root_of
from dlmine_spark.redaction import flattened, public, without_credentials
from dlmine_spark.runs import NOT_APPLICABLE, NotApplicable, Run, StageReport
from dlmine_spark.tracking import Measure, Tracking

if TYPE_CHECKING:
    from dlmine_spark.training.job import CutoffResult

log = logging.getLogger(__name__)

CURVES = ("loss", "validation_loss", "validation_wape", "learning_rate", "samples_per_second")
"""What is told of each epoch."""
NOTE = "mlflow.note.content"
"""MLflow's own tag for the description of a run."""


class StageTracker:
    """Logs what becomes of the stages' runs; whatever goes wrong with that, the work goes on."""

    def __init__(self, config: Config, tracking: Tracking) -> None:
        self._config = config
        self._tracking = tracking
        self._ids: dict[str, str] = {}

    def begun(self, run: Run, sections: Sequence[str]) -> None:
        """A run begins, or goes on with a killed one under the same id."""
        settings = public(self._config.model_dump(mode="json", by_alias=True))
        # Also of a single setting, as training.mined.
        parts = tuple(f"{name}." for name in sections)
        parameters = {key: value for key, value in flattened(settings) if f"{key}.".startswith(parts)}
        tags = {
            "dlmine.stage": run.stage,
            "dlmine.version": __version__,
            "dlmine.lakehouse": self._config.lakehouse.catalog or without_credentials(root_of(self._config.lakehouse)),
            **{f"input.{_dotted(name)}": without_credentials(known) for name, known in run.input_versions.items()},
        }
        with self._going_on(run.stage):
            run_id = self._tracking.begin(
                run.run_id, run.run_id, parameters={**parameters, "config_hash": run.config_hash}, tags=tags
            )
            self._ids[run.run_id] = run_id
            self._tracking.add_text(run_id, yaml.safe_dump(settings, sort_keys=False), "config.yaml")

    def finished(self, run: Run, report: StageReport | NotApplicable, lakehouse: Lakehouse, seconds: float) -> None:
        """A run ended well; ``lakehouse`` is bound to it."""
        run_id = self._ids.pop(run.run_id, None)
        if run_id is None:
            return
        outputs = {
            f"output.table.{name}": str(version)
            for name, version in run.output_versions.items()
            if not name.startswith(FILE_PREFIX)
        }
        with self._going_on(run.stage):
            self._tracking.add(
                run_id,
                measures=[Measure("stage_seconds", seconds), *_measures_of(report)],
                tags={**outputs, NOTE: without_credentials(run.message), "dlmine.status": run.status},
            )
            if run.status != NOT_APPLICABLE:
                self._add_further(run_id, report, lakehouse, run.stage)
            self._tracking.end(run_id, "FINISHED")

    def failed(self, run: Run, error: BaseException) -> None:
        """A run ended with an error, which is shown elsewhere."""
        run_id = self._ids.pop(run.run_id, None)
        if run_id is None:
            return
        with self._going_on(run.stage):
            told = without_credentials(str(error)) or type(error).__name__
            self._tracking.add(run_id, tags={NOTE: told, "dlmine.status": "failed"})
            self._tracking.end(run_id, "FAILED" if isinstance(error, Exception) else "KILLED")

    @contextmanager
    def _going_on(self, stage: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # A server that is gone, a full disk, a defect here: none is worth a training that is done.
            log.warning("%s: not all of it is logged to MLflow: %s", stage, self._tracking.told(error))
            log.debug("tracking of %s failed", stage, exc_info=True)

    def _add_further(self, run_id: str, report: StageReport | NotApplicable, lakehouse: Lakehouse, stage: str) -> None:
        """What a stage alone has."""
        if stage == "train":
            self._add_training(run_id, report, lakehouse)
        elif stage == "tune":
            self._add_search(run_id, report)
        elif stage == "backtest":
            self._tracking.add(run_id, measures=_overall(lakehouse))
        elif stage == "report":
            from dlmine_spark.pipelines.report import PageReport

            if isinstance(report, PageReport):
                self._tracking.add_file(run_id, report.path, "report.html")

    def _add_training(self, run_id: str, report: StageReport | NotApplicable, lakehouse: Lakehouse) -> None:
        """Loss curves, and the production model."""
        from dlmine_spark.pipelines.train import TrainReport, frequency_of
        from dlmine_spark.scoring import LOADER, write_scorer
        from dlmine_spark.training.job import RESULT_FILE, CutoffResult
        from dlmine_spark.training.predict import cutoff_folder

        if not isinstance(report, TrainReport):
            return
        for cutoff in report.cutoffs:
            text = (cutoff_folder(report.folder, cutoff) / RESULT_FILE).read_text(encoding="utf-8")
            self._tracking.add(run_id, measures=list(_curves(CutoffResult.from_json(text))))
        for name in ("metrics.json", "manifest.json"):
            self._tracking.add_file(run_id, report.folder / name)
        factors, segments = _widths(lakehouse)
        with tempfile.TemporaryDirectory(prefix="dlmine-scorer-") as scratch:
            folder = Path(scratch) / "scorer"
            final = cutoff_folder(report.folder, report.cutoffs[-1])
            frequency = frequency_of(self._config, lakehouse).alias
            scorer = write_scorer(folder, final, frequency, factors, segments)
            model = self._tracking.add_model(
                run_id, folder, LOADER, (scorer.inputs, scorer.outputs), self._config.tracking.registered_model
            )
        log.info("the model is in MLflow as %s", model)

    def _add_search(self, run_id: str, report: StageReport | NotApplicable) -> None:
        """The trials of a search, by number, and what won."""
        from dlmine_spark.pipelines.tune import TuneReport

        if not isinstance(report, TuneReport):
            return
        tried = [(trial.number, trial.value) for trial in report.trials]
        measures = [Measure("trial/wape", value, number) for number, value in tried if value is not None]
        best = {f"best.{key}": str(value) for key, value in report.best.params.items()}
        self._tracking.add(run_id, measures=measures, tags={"best.trial": str(report.best.number), **best})


def _dotted(name: str) -> str:
    """``table silver.panel`` as ``table.silver.panel``."""
    return name.replace(" ", ".", 1)


def _measures_of(report: StageReport | NotApplicable) -> Iterator[Measure]:
    """Every number of a report, by the name of its field."""
    if isinstance(report, NotApplicable):
        return
    for one in fields(report):
        value = getattr(report, one.name)
        numbers = {f"{one.name}/{key}": of for key, of in value.items()} if isinstance(value, Mapping) else None
        for name, number in (numbers or {one.name: value}).items():
            if isinstance(number, int | float) and not isinstance(number, bool):
                yield Measure(name, float(number))


def _curves(result: CutoffResult) -> Iterator[Measure]:
    """What each epoch of each network brought, and the cutoff's own figures."""
    cutoff = name_of(result.cutoff)
    for number, member in enumerate(result.members, start=1):
        for epoch in member.history:
            for name in CURVES:
                value = getattr(epoch, name)
                if value is not None:
                    yield Measure(f"{name}/{cutoff}/member {number}", value, epoch.epoch)
    if result.validation_wape is not None:
        yield Measure(f"validation_wape/{cutoff}", result.validation_wape)


def _overall(lakehouse: Lakehouse) -> list[Measure]:
    """Every measure of every model over all series; ``gold.metrics`` has those of parts, too."""
    rows: Iterable[tuple[str, str, float]] = (
        lakehouse.read(s.METRICS.name).where(F.col("scope") == OVERALL).select("metric", s.MODEL, "value").collect()
    )
    return [Measure(f"{metric}/{model}", value) for metric, model, value in rows if value is not None]


def _widths(lakehouse: Lakehouse) -> tuple[pd.DataFrame, dict[str, int]]:
    """How wide intervals are made after the end of the data: factors, and the segments that they go by."""
    from dlmine_spark.pipelines.calibration import segments_as_of

    factors = lakehouse.read(s.CALIBRATION.name)
    newest = factors.agg(F.max(s.CUTOFF)).collect()[0][0]
    of_newest = factors.where(F.col(s.CUTOFF) == F.expr(sql_literal(newest)))
    segments = segments_as_of(lakehouse.read(s.TRAINING_PANEL.name), newest).collect()
    return of_newest.toPandas(), {row[s.UNIQUE_ID]: int(row["segment"]) for row in segments}
