"""LightGBM on what the network sees: one row per window and step ahead, the same trees for all series.

Direct forecasts of several steps: how far ahead a step lies is a column. Values are told relative to the level of
their window, so that large and small series share trees. Rows are as many as the settings allow, however large the
panel is, and are cut out of its arrays some windows at a time.

At a backtest cutoff the validation windows say how many trees there are to be. Then trees are fitted anew on all
windows up to the cutoff, and a copy on those up to a horizon earlier, which forecasts that horizon: so widths of
intervals and weights of the blend are told by errors like those to come. One process does all that, and no ranks.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dlmine_spark.config import LightGBMConfig
from dlmine_spark.errors import TrainingError
from dlmine_spark.frequency import Moment
from dlmine_spark.training import trees
from dlmine_spark.training.checkpoints import write_bytes
from dlmine_spark.training.job import LaunchRequest
from dlmine_spark.training.model import LEAST_SPREAD, MEDIAN, QUANTILES
from dlmine_spark.training.networks import cardinalities, model_shape
from dlmine_spark.training.predict import (
    FORECAST_FILE,
    ORIGINS_AT_ONCE,
    VALIDATION_FILE,
    cutoff_folder,
    forecast_rows,
    warn_of_skipped,
    with_values,
    write_forecasts,
    write_validation,
)
from dlmine_spark.training.shards import Features, Floats, Ints, PanelArrays, PanelSource, read_panel
from dlmine_spark.training.windows import (
    Batch,
    Rows,
    SeasonalLag,
    WindowShape,
    gather,
    origins_before,
    plan_origins,
    plan_rehearsal,
)

log = logging.getLogger(__name__)

TREES_FILE = "lightgbm.json"
STEPS_A_WINDOW = 4
"""Steps ahead of a window that become rows, where not all windows and steps may."""
UNTOLD_TREES = 200
"""Where no window is kept for validation, nothing says how many trees are right."""
SHARE_FOR_BOUNDS = 0.25
"""Of the rows and of the trees: ends of intervals are four more sets of trees, and their widths are corrected later."""
FEWEST_FOR_BOUNDS = 20_000
"""Where a share of the rows is less than that, all of them are taken."""
RECENT = 14
"""Last values of a window that are columns of their own."""
MOST_CODES = 64
"""Attributes with more codes are left out (that of the series, as a rule): level and last values tell series apart."""
AROUND = 3
"""Steps on both sides of a year ago: a single day of last year says little."""
WINDOWS_AT_ONCE = 512


@dataclass(frozen=True)
class Layout:
    """How a window and a step become a row.

    Attributes:
        window: what windows span.
        year_length: steps of a year.
        log_scale: whether values are seen by log1p, as the network sees them.
        least_spread: of a window: a constant one needs a scale, too, and rounding makes it seem to vary.
        categories: attributes that are columns, by their place among all.
    """

    window: WindowShape
    year_length: int
    log_scale: bool
    least_spread: float
    categories: tuple[int, ...]

    @property
    def season(self) -> int:
        """Steps of the main season."""
        return self.window.lags[0].period

    def raw(self, values: npt.NDArray[Any]) -> Floats:
        """Values on the scale on which levels and differences are taken."""
        return (np.log1p(np.maximum(values, 0.0)) if self.log_scale else values).astype(np.float32)

    def restored(self, raw: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The values again."""
        return np.maximum(np.expm1(raw), 0.0) if self.log_scale else raw


@dataclass(frozen=True)
class StepRows:
    """The rows of some windows, a window's steps following one another.

    Attributes:
        inputs: NaN where unknown; rows x columns, the codes of attributes last.
        target: relative to level and spread.
        is_known: whether the target is.
        level: of the window, on the scale of ``Layout.raw``. Likewise:
        spread: by which differences from it are divided.
    """

    inputs: Floats
    target: Floats
    is_known: npt.NDArray[np.bool_]
    level: Floats
    spread: Floats


@dataclass(frozen=True)
class Boosted:
    """The trees of one cutoff, and how they are asked.

    Attributes:
        boosters: one a quantile of ``QUANTILES``.
        layout: of the rows.
        features: the covariates that they read, in their order.
        count: trees of the median.
    """

    boosters: tuple[Any, ...]
    layout: Layout
    features: Features
    count: int

    def to_json(self) -> str:
        """As kept in a folder."""
        what = {"layout": asdict(self.layout), "features": asdict(self.features), "count": self.count}
        return json.dumps(what | {"boosters": [trees.to_text(booster) for booster in self.boosters]})

    @classmethod
    def read(cls, file: Path) -> Boosted:
        """Those of a folder's file.

        Raises:
            TrainingError: it is not there, damaged or of another program.
        """
        try:
            read = json.loads(file.read_text(encoding="utf-8"))
            window = read["layout"].pop("window")
            lags = tuple(SeasonalLag(**lag) for lag in window.pop("lags"))
            layout = read["layout"] | {"categories": tuple(read["layout"]["categories"])}
            return cls(
                tuple(trees.from_text(text) for text in read["boosters"]),
                Layout(window=WindowShape(**window, lags=lags), **layout),
                Features(**{role: tuple(names) for role, names in read["features"].items()}),
                int(read["count"]),
            )
        except OSError as error:
            raise TrainingError(f"{file}: LightGBM has no trees yet; run the stage blend") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrainingError(f"{file}: is not understood ({error}); delete it and run 'dlmine backtest'") from error

    def predict(self, arrays: PanelArrays, origins: Ints, threads: int) -> Iterator[pd.DataFrame]:
        """Forecasts from some origins, some at a time, as those of ``predict.predict_blocks``; one frame at least."""
        window = self.layout.window
        steps = np.arange(1, window.horizon + 1)
        for first in range(0, max(1, len(origins)), ORIGINS_AT_ONCE):
            part = origins[first : first + ORIGINS_AT_ONCE]
            quantiles = [
                self._quantiles(arrays, part[at : at + WINDOWS_AT_ONCE], steps, threads)
                for at in range(0, len(part), WINDOWS_AT_ONCE)
            ]
            empty = np.empty((0, window.horizon, len(QUANTILES)))
            yield forecast_rows(arrays, part, window, np.concatenate([empty, *quantiles]))
            arrays.release()

    def _quantiles(self, arrays: PanelArrays, origins: Ints, steps: Ints, threads: int) -> npt.NDArray[np.float64]:
        """Origins x steps x quantiles; a closed step is 0, as the network has it."""
        batch = gather(arrays, origins, self.layout.window)
        rows = step_rows(arrays, batch, np.tile(steps, (len(origins), 1)), self.layout)
        told = np.stack([trees.predict(one, rows.inputs, threads) for one in self.boosters], axis=1)
        # Sets of trees know nothing of each other: ends must not cross, and the median stays.
        told[:, :MEDIAN] = np.minimum.accumulate(told[:, MEDIAN::-1], axis=1)[:, :0:-1]
        told[:, MEDIAN:] = np.maximum.accumulate(told[:, MEDIAN:], axis=1)
        values = self.layout.restored(told * rows.spread[:, None] + rows.level[:, None])
        return values.reshape(len(origins), len(steps), -1) * (batch.open.numpy() > 0)[:, :, None]


def boost_cutoffs(request: LaunchRequest, config: LightGBMConfig) -> None:
    """Fit trees at each cutoff that is not done yet, oldest first; they and their forecasts are left in its folder.

    Raises:
        TrainingError: a panel cannot be read or has not enough history.
    """
    for cutoff in request.cutoffs:
        folder = cutoff_folder(request.folder, cutoff)
        if (folder / FORECAST_FILE).exists():
            log.info("cutoff %s: LightGBM is fitted already", cutoff)
        else:
            _boost_cutoff(request, config, cutoff)


def _boost_cutoff(request: LaunchRequest, config: LightGBMConfig, cutoff: Moment) -> None:
    folder, threads = cutoff_folder(request.folder, cutoff), config.threads
    arrays = read_panel(request.source, cutoff, request.horizon, request.training.mined)
    few = [at for at, codes in enumerate(cardinalities(arrays.category)) if codes <= MOST_CODES]
    shape = model_shape(arrays, request.window, request.training)
    least_spread = LEAST_SPREAD * shape.spread
    layout = Layout(request.window, request.year_length, shape.log_scale, least_spread, tuple(few))
    if cutoff in request.backtest:
        kept = plan_origins(arrays, request.window, request.training.validation_origins)
        count = _count_of_trees(arrays, kept.train, kept.validation, layout, config, threads)
        # Without windows to validate on, there are none to rehearse on.
        is_rehearsed = len(kept.validation) > 0
        # Origins are as many as the panel has rows: one plan of them at a time is enough.
        del kept
        rehearsed: Iterator[pd.DataFrame] = iter(())
        if is_rehearsed:
            earlier, origins = plan_rehearsal(arrays, request.window), origins_before(arrays, request.window, 1)
            copy = _fitted(arrays, earlier.train, layout, config, count, threads, earlier.hidden)
            del earlier
            rehearsed = with_values(copy.predict(arrays, origins, threads), arrays, origins, request.window)
        write_validation(rehearsed, folder / VALIDATION_FILE, cutoff)
    else:
        # The end of the data has no window to spare: what the newest backtest cutoff said holds.
        newest = cutoff_folder(request.folder, request.backtest[-1])
        count = Boosted.read(newest / TREES_FILE).count
    everything = plan_origins(arrays, request.window, validation_origins=0)
    warn_of_skipped(everything.skipped, cutoff)
    boosted = _fitted(arrays, everything.train, layout, config, count, threads)
    write_bytes(folder / TREES_FILE, boosted.to_json().encode())
    # Written last: a folder with forecasts is finished.
    write_forecasts(boosted.predict(arrays, everything.predict, threads), folder / FORECAST_FILE, cutoff)
    log.info("cutoff %s: LightGBM has %d trees for the median", cutoff, count)


def predict_boosted(
    folder: Path, source: PanelSource, cutoff: Moment, mined: Sequence[str], threads: int
) -> Iterator[pd.DataFrame]:
    """Forecast every series from a cutoff with the trees in a folder, some series at a time.

    Raises:
        TrainingError: the panel has other covariates, or cannot be read.
    """
    boosted = Boosted.read(folder / TREES_FILE)
    arrays = read_panel(source, cutoff, boosted.layout.window.horizon, mined)
    if arrays.features != boosted.features:
        differing = ", ".join(sorted(set(arrays.features.all) ^ set(boosted.features.all)))
        raise TrainingError(f"{folder}: its trees know other covariates ({differing}); run 'dlmine backtest'")
    yield from boosted.predict(arrays, plan_origins(arrays, boosted.layout.window, 0).predict, threads)


def _count_of_trees(
    arrays: PanelArrays, train: Rows, validation: Ints, layout: Layout, config: LightGBMConfig, threads: int
) -> int:
    """How many trees forecast the validation windows best."""
    if not len(validation):
        return min(UNTOLD_TREES, config.trees)
    learnt = _sampled(arrays, train, layout, config.max_rows, config.seed)
    checked = _sampled(arrays, validation, layout, config.max_rows, config.seed)
    booster = trees.fit(learnt, _categorical(learnt, layout), 0.5, config.trees, config, threads, validation=checked)
    return trees.count(booster)


def _fitted(
    arrays: PanelArrays,
    train: Rows,
    layout: Layout,
    config: LightGBMConfig,
    count: int,
    threads: int,
    hidden: int = 0,
) -> Boosted:
    """Trees for every quantile, fitted on (a sample of) the windows of some origins."""
    rows = _sampled(arrays, train, layout, config.max_rows, config.seed, hidden)
    _tell_sample(arrays, train, rows, layout)
    some = np.random.default_rng([config.seed, 1]).random(len(rows.target)) < SHARE_FOR_BOUNDS
    # A small panel needs all its rows for the rarest values.
    some |= SHARE_FOR_BOUNDS * len(rows.target) < FEWEST_FOR_BOUNDS
    fewer = trees.Examples(rows.inputs[some], rows.target[some])
    boosters = tuple(
        trees.fit(rows, _categorical(rows, layout), quantile, count, config, threads)
        if quantile == QUANTILES[MEDIAN]
        else trees.fit(
            fewer, _categorical(rows, layout), quantile, max(1, round(SHARE_FOR_BOUNDS * count)), config, threads
        )
        for quantile in QUANTILES
    )
    return Boosted(boosters, layout, arrays.features, count)


def _categorical(rows: trees.Examples, layout: Layout) -> range:
    columns = rows.inputs.shape[1]
    return range(columns - len(layout.categories), columns)


def _tell_sample(arrays: PanelArrays, train: Rows, rows: trees.Examples, layout: Layout) -> None:
    there = len(train) * layout.window.horizon
    log.info(
        "cutoff %s: LightGBM learns from %s rows of %d columns%s",
        arrays.cutoff,
        f"{len(rows.target):,}",
        rows.inputs.shape[1],
        f", a sample of {there:,} (lightgbm.max_rows)" if there > 1.5 * len(rows.target) else "",
    )


def _sampled(
    arrays: PanelArrays, origins: Rows, layout: Layout, most: int, seed: int, hidden: int = 0
) -> trees.Examples:
    """Rows whose target is known, of all windows and steps or of a sample: some steps of each of some windows.

    Needs memory for ``most`` rows and some windows.
    """
    horizon = layout.window.horizon
    steps = int(np.clip(most // max(1, len(origins)), min(STEPS_A_WINDOW, horizon), horizon))
    windows = min(len(origins), max(1, most // steps))
    generator = np.random.default_rng([seed, 0])
    chosen = np.sort(generator.choice(len(origins), windows, replace=False)) if windows < len(origins) else slice(None)
    used = origins[chosen].astype(np.int64)
    inputs, targets = [], []
    for first in range(0, len(used), WINDOWS_AT_ONCE):
        part = used[first : first + WINDOWS_AT_ONCE]
        batch = gather(arrays, part, layout.window, hidden)
        ahead = np.tile(np.arange(1, horizon + 1), (len(part), 1))
        if steps < horizon:
            ahead = np.sort(generator.permuted(ahead, axis=1)[:, :steps], axis=1)
        rows = step_rows(arrays, batch, ahead, layout)
        inputs.append(rows.inputs[rows.is_known])
        targets.append(rows.target[rows.is_known])
        if first % (4 * WINDOWS_AT_ONCE) == 0:
            arrays.release()
    arrays.release()
    return trees.Examples(np.concatenate(inputs), np.concatenate(targets))


def step_rows(arrays: PanelArrays, batch: Batch, steps: Ints, layout: Layout) -> StepRows:
    """Windows and some of their steps as rows.

    Args:
        arrays: the panel that the windows were cut out of.
        batch: the windows.
        steps: ahead, from 1 on; windows x steps.
        layout: of the rows.
    """
    windows, many = steps.shape
    of = np.arange(windows)[:, None], steps - 1
    raw, mask = layout.raw(batch.y.numpy()), batch.mask.numpy() > 0
    level = _mean(raw, mask)
    spread = np.ones_like(level)
    if not layout.log_scale:
        deviation = np.sqrt(_mean((raw - level[:, None]) ** 2, mask))
        spread = np.maximum(deviation, layout.least_spread).astype(np.float32)

    def scaled(values: Floats, known: npt.NDArray[np.bool_]) -> Floats:
        """Relative to the window's level, NaN where unknown; windows x anything."""
        shape = (windows, *[1] * (values.ndim - 1))
        return np.where(known, (values - level.reshape(shape)) / spread.reshape(shape), np.nan).astype(np.float32)

    past = scaled(raw, mask)
    seasons = [_mean(past[:, -length:], mask[:, -length:]) for length in (layout.season, 4 * layout.season)]
    year_ago = _year_ago(arrays, batch, layout)
    growth = scaled(year_ago, np.isfinite(year_ago))
    covariates = batch.past.numpy()[:, :, 2 + batch.future.shape[2] :]
    of_window = [
        level,
        *seasons,
        np.sqrt(_mean(past**2, mask)),
        growth,
        mask.sum(axis=1),
        *past[:, -RECENT:].T,
        *covariates[:, -1].T,
        *covariates[:, -layout.season :].mean(axis=1).T,
        *batch.static.numpy().T,
    ]
    lags = scaled(layout.raw(batch.lags.numpy()), batch.lags_known.numpy() > 0)[of]
    path = scaled(layout.raw(batch.path.numpy()), batch.path_known.numpy() > 0)[of]
    of_step = [
        steps,
        batch.open.numpy()[of],
        path,
        _mean(lags, np.isfinite(lags)),
        *_last_year(arrays, batch, steps, layout, year_ago, spread),
    ]
    attributes = batch.category.numpy()[:, list(layout.categories)]
    of_all_steps = np.concatenate([_side_by_side(of_window), attributes], axis=1)[:, None]
    parts = [_side_by_side(of_step), batch.future.numpy()[of], lags, np.repeat(of_all_steps, many, axis=1)]
    inputs = np.concatenate(parts, axis=2).astype(np.float32).reshape(windows * many, -1)
    target = (layout.raw(batch.target.numpy()) - level[:, None]) / spread[:, None]
    return StepRows(
        inputs=inputs,
        target=target[of].ravel(),
        is_known=(batch.target_mask.numpy()[of] > 0).ravel(),
        level=np.repeat(level, many),
        spread=np.repeat(spread, many),
    )


def _side_by_side(columns: Sequence[npt.NDArray[Any]]) -> Floats:
    return np.stack([np.asarray(column, dtype=np.float32) for column in columns], axis=-1)


def _year_ago(arrays: PanelArrays, batch: Batch, layout: Layout) -> Floats:
    """The level of the window that ended a year before each; NaN where nothing of it is known."""
    rows = batch.origins.numpy()[:, None] - layout.year_length + np.arange(1 - layout.window.history, 1)
    values, known = _looked_up(arrays, batch, rows, layout)
    return _mean(values, known)


def _last_year(
    arrays: PanelArrays, batch: Batch, steps: Ints, layout: Layout, level: Floats, spread: Floats
) -> list[Floats]:
    """The value a year before each step, and the mean around it, relative to the level of then; windows x steps.

    What is not known at the origin, since the horizon is longer than a year, is left out.
    """
    origins = batch.origins.numpy()[:, None]
    years = -(-steps // layout.year_length)
    at = origins + steps - years * layout.year_length
    around = np.arange(-AROUND, AROUND + 1) if layout.year_length > layout.season else np.arange(1)
    rows = at[:, :, None] + around
    values, known = _looked_up(arrays, batch, rows.reshape(len(rows), -1), layout)
    values, known = values.reshape(rows.shape), known.reshape(rows.shape) & (rows <= origins[:, :, None])
    relative = (values - level[:, None, None]) / spread[:, None, None]
    middle = len(around) // 2
    return [
        np.where(known[:, :, middle], relative[:, :, middle], np.nan).astype(np.float32),
        _mean(relative, known),
    ]


def _looked_up(arrays: PanelArrays, batch: Batch, rows: Ints, layout: Layout) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Values of some rows of each window's series, and whether they are known; windows x rows."""
    start = arrays.starts[batch.series.numpy()][:, None]
    inside = np.maximum(rows, start)
    known: npt.NDArray[np.bool_] = np.logical_and(arrays.mask[inside] > 0, rows >= start)
    return layout.raw(arrays.y[inside]), known


def _mean(values: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    """Of what is known, along the last axis; NaN where nothing is."""
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    mean: Floats = np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0).astype(np.float32)
    return mean
