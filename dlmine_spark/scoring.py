"""A trained model away from its lakehouse: forecasts of a frame of history and known future. No Spark, no MLflow.

MLflow loads it by the name of this module (``_load_pyfunc``): what it keeps are files of weights, which are read with
``weights_only``, and a JSON file. Nothing is unpickled and no code of the model's is run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from dlmine_spark import schemas as s
from dlmine_spark.errors import TableContractError, TrainingError
from dlmine_spark.evaluation.conformal import FACTOR_COLUMNS, widened
from dlmine_spark.frequency import Moment, from_alias, from_text
from dlmine_spark.training.checkpoints import write_bytes
from dlmine_spark.training.predict import (
    FORECAST_COLUMNS,
    MODEL_FILE,
    TrainedModel,
    load_trained,
    member_folders,
    predict_panel,
    warn_of_skipped,
)
from dlmine_spark.training.shards import ARIMA_PATH, ARIMA_SIGNAL, MASK, moment_type, panel_arrays
from dlmine_spark.training.windows import plan_origins

SCORING_FILE = "scoring.json"
LOADER = __name__
NUMBER, TEXT, MOMENT, COUNT, NUMBERS = "number", "text", "moment", "count", "numbers"
"""Kinds of columns: a float, a text, a date or time, a whole number, a list of floats."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column that a model reads or returns."""

    name: str
    kind: str
    required: bool = True


@dataclass(frozen=True)
class Scorer:
    """Networks with what is needed to forecast as ``gold.forecasts`` has it.

    Attributes:
        model: the networks of the end of the data.
        frequency: alias of the panel's step.
        factors: of ``evaluation.conformal.width_factors``.
        segments: of the series, as of the cutoff that the factors are of.
    """

    model: TrainedModel
    frequency: str
    factors: pd.DataFrame
    segments: Mapping[str, int]

    @property
    def inputs(self) -> tuple[Column, ...]:
        """Columns of the frame that ``predict`` takes; those of ``gold.training_panel``."""
        optional = [Column(MASK, NUMBER, required=False)]
        if ARIMA_SIGNAL in self.model.manifest["training"]["mined"]:
            optional.append(Column(ARIMA_PATH, NUMBERS, required=False))
        return (
            Column(s.UNIQUE_ID, TEXT),
            Column(s.DS, self._moment_kind),
            Column(s.Y, NUMBER),
            *(Column(name, NUMBER) for name in self.model.features.all),
            Column(s.OPEN, NUMBER, required=False),
            *optional,
        )

    @property
    def outputs(self) -> tuple[Column, ...]:
        """Columns of the frame that ``predict`` returns."""
        kinds = {s.UNIQUE_ID: TEXT, s.CUTOFF: self._moment_kind, s.DS: self._moment_kind, s.H: COUNT}
        return tuple(Column(name, kinds.get(name, NUMBER)) for name in FORECAST_COLUMNS)

    @property
    def _moment_kind(self) -> str:
        return COUNT if isinstance(self._cutoff, int) else MOMENT

    @property
    def _cutoff(self) -> Moment:
        """That of the training; its type is that of all moments."""
        return from_text(self.model.manifest["cutoff"])

    def predict(self, rows: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Forecast the last ``horizon`` rows of each series.

        Args:
            rows: one row per series and step without gaps, in any order, columns as in ``inputs``: the history with its
                values (null where unknown), then a horizon of rows with what is known of it, whose ``y`` is not read.
                All series end at the same step; counted steps end where each series does.
            params: none are known.

        Returns:
            One row per series and step of the horizon: ``unique_id``, ``cutoff`` (the last step of the history),
            ``ds``, ``h``, ``y_hat`` (the median), ``lo_80``, ``hi_80``, ``lo_95``, ``hi_95``. A series with too few
            known values has none, and a warning.

        Raises:
            TableContractError: a column is missing, a series is too short, has gaps, or ends at another step.
        """
        horizon = self.model.window.horizon
        ordered, lags = self._in_order(rows)
        steps_left = ordered.groupby(s.UNIQUE_ID, sort=False).cumcount(ascending=False)
        cutoff = self._common_cutoff(ordered, steps_left, horizon)
        table = self._table(ordered, (steps_left >= horizon).to_numpy(bool), cutoff)
        arrays = panel_arrays(table, self.model.features, cutoff, horizon)
        origins = plan_origins(arrays, self.model.window, validation_origins=0)
        warn_of_skipped(origins.skipped, cutoff)
        forecasts = predict_panel(self.model.networks, arrays, origins.predict, self.model.window)
        forecasts = widened(forecasts, self.factors, self.segments)
        for name in (s.CUTOFF, s.DS):
            if lags is None:
                forecasts[name] = pd.to_datetime(forecasts[name])
            elif name == s.DS:
                forecasts[name] = forecasts[name].astype("int64") - forecasts[s.UNIQUE_ID].map(lags)
            else:
                forecasts[name] = forecasts[name].astype("int64")
        return forecasts

    def _in_order(self, rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series | None]:
        """The rows by series and moment; where moments are counted, all series end together, by the lags returned."""
        missing = [column.name for column in self.inputs if column.required and column.name not in rows.columns]
        if missing:
            raise TableContractError(
                f"the frame to forecast lacks {', '.join(missing)}; it needs {s.UNIQUE_ID}, {s.DS}, {s.Y} and the "
                "covariates of gold.training_panel that the model was trained on"
            )
        if rows.empty or rows[[s.UNIQUE_ID, s.DS]].isna().any(axis=None):
            raise TableContractError(f"the frame to forecast has no rows, or rows without {s.UNIQUE_ID} or {s.DS}")
        kept = [column.name for column in self.inputs if column.name in rows.columns]
        ordered = rows[kept].assign(**{s.UNIQUE_ID: rows[s.UNIQUE_ID].astype(str), s.DS: self._moments(rows[s.DS])})
        lags = None
        if isinstance(self._cutoff, int):
            ends = ordered.groupby(s.UNIQUE_ID)[s.DS].max()
            lags = ends.max() - ends
            ordered[s.DS] += ordered[s.UNIQUE_ID].map(lags)
        return ordered.sort_values([s.UNIQUE_ID, s.DS], ignore_index=True), lags

    def _moments(self, column: pd.Series) -> pd.Series:
        if isinstance(self._cutoff, int):
            return column.astype("int64")
        moments = pd.to_datetime(column)
        if moments.dt.tz is not None:
            raise TableContractError(f"{s.DS} of the frame to forecast has a time zone; times have none here")
        return moments

    def _common_cutoff(self, ordered: pd.DataFrame, steps_left: pd.Series, horizon: int) -> Moment:
        """The last step of the history, if there is one of all series, and no gaps."""
        sizes = ordered.groupby(s.UNIQUE_ID, sort=False)[s.DS].agg(["size", "min", "max"])
        short = sizes["size"] <= horizon
        if short.any():
            name = str(short.idxmax())
            raise TableContractError(
                f"series {name!r} has {sizes['size'][name]} rows to forecast from, expected its "
                f"history and the {horizon} steps to forecast"
            )
        step = from_alias(self.frequency)
        if step is not None:
            first, last = (map(self._as_moment, sizes[name]) for name in ("min", "max"))
            spans = pd.Series([step.steps(*ends) + 1 for ends in zip(first, last, strict=True)], index=sizes.index)
            uneven = spans != sizes["size"]
            if uneven.any():
                name = str(uneven.idxmax())
                raise TableContractError(
                    f"series {name!r} has {sizes['size'][name]} rows from {sizes['min'][name]} to "
                    f"{sizes['max'][name]}, expected {spans[name]}: one a {step.name}, "
                    f"with null in {s.Y} where a value is unknown"
                )
        cutoff = ordered.loc[steps_left == horizon, s.DS].max()
        first_forecast = ordered.loc[steps_left == horizon - 1]
        early = first_forecast[s.DS] <= cutoff
        if early.any():
            raise TableContractError(
                f"series {first_forecast[s.UNIQUE_ID][early.idxmax()]!r} ends earlier than others: all series of a "
                f"frame have to reach {horizon} steps after {cutoff}; give others in a frame of their own"
            )
        return self._as_moment(cutoff)

    def _as_moment(self, value: Any) -> Moment:
        if isinstance(self._cutoff, int):
            return int(value)
        moment: datetime = pd.Timestamp(value).to_pydatetime()
        return moment if isinstance(self._cutoff, datetime) else moment.date()

    def _table(self, ordered: pd.DataFrame, is_history: Any, cutoff: Moment) -> pa.Table:
        """The rows as ``gold.training_panel`` has them; what is not known of covariates is 0, as it is there."""
        y = ordered[s.Y].astype("float64").where(is_history)
        is_open = ordered[s.OPEN].fillna(1) if s.OPEN in ordered else pd.Series(1, index=ordered.index)
        counts = (ordered[MASK].fillna(0) > 0) if MASK in ordered else is_open > 0
        columns: dict[str, Any] = {
            s.UNIQUE_ID: pa.array(ordered[s.UNIQUE_ID], pa.string()),
            s.DS: pa.array(ordered[s.DS]).cast(moment_type(cutoff)),
            s.Y: pa.array(y, pa.float64(), from_pandas=True),
            MASK: pa.array((counts & y.notna()).astype("int32")),
            s.OPEN: pa.array(is_open.astype("int32")),
            ARIMA_PATH: self._paths(ordered, is_history),
        }
        features = self.model.features
        past = set(features.past_only)
        for name in features.all:
            values = ordered[name].astype("float64").fillna(0.0)
            columns[name] = pa.array(values.where(is_history, 0.0) if name in past else values)
        return pa.table(columns)

    def _paths(self, ordered: pd.DataFrame, is_history: Any) -> pa.Array:
        if ARIMA_PATH not in ordered:
            return pa.nulls(len(ordered), pa.list_(pa.float64()))
        known = ordered[ARIMA_PATH].where(is_history)
        paths = [list(path) if isinstance(path, Sequence) or hasattr(path, "__len__") else None for path in known]
        return pa.array(paths, pa.list_(pa.float64()))


def write_scorer(
    target: Path, cutoff_folder: Path, frequency: str, factors: pd.DataFrame, segments: Mapping[str, int]
) -> Scorer:
    """Put into a folder what ``load_scorer`` needs: the networks of a cutoff's folder, and how wide intervals are.

    Raises:
        TrainingError: there are no networks.
    """
    members = int(load_trained(cutoff_folder).manifest["training"]["members"])
    for source, place in zip(member_folders(cutoff_folder, members), member_folders(target, members), strict=True):
        place.mkdir(parents=True)
        shutil.copyfile(source / MODEL_FILE, place / MODEL_FILE)
    known = factors[list(FACTOR_COLUMNS)].astype(object)
    content = {
        "frequency": frequency,
        "factors": known.where(known.notna(), None).values.tolist(),
        "segments": dict(segments),
    }
    write_bytes(target / SCORING_FILE, json.dumps(content).encode())
    return load_scorer(target)


def load_scorer(folder: Path) -> Scorer:
    """The model in a folder.

    Raises:
        TrainingError: a file is missing, damaged or of another program.
    """
    path = folder / SCORING_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        factors = pd.DataFrame(content["factors"], columns=list(FACTOR_COLUMNS))
        factors = factors.astype({"segment": "Int64", "factor_80": "float64", "factor_95": "float64"})
        return Scorer(load_trained(folder), str(content["frequency"]), factors, content["segments"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path}: is no model of dlmine-spark: {error}") from error


def _load_pyfunc(path: str) -> Scorer:
    """Where MLflow begins."""
    return load_scorer(Path(path))
