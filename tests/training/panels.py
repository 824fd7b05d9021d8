"""Small training panels with planted structure."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake

from dlmine_spark.config import TrainingConfig
from dlmine_spark.training.job import LaunchRequest
from dlmine_spark.training.shards import PanelSource

SMALL = TrainingConfig(
    backend="local",
    workers=1,
    members=1,
    history=21,
    hidden=12,
    embedding=2,
    dropout=0.1,
    epochs=3,
    samples_per_epoch=320,
    batch_size=32,
    learning_rate=1e-2,
    validation_origins=2,
    final_epochs=1,
    seed=3,
)


def panel_rows(
    cutoff: date, *, series: int = 4, days: int = 200, horizon: int = 7, seed: int = 1, noise: float = 0.05
) -> pa.Table:
    """Daily sales with a weekly shape, promotions that raise them by half, and closed Sundays for every second series.

    ``days`` is the history up to the cutoff of the longest series; each further series is three days shorter.
    """
    generator = np.random.default_rng(seed)
    parts = []
    for number in range(series):
        length = days - 3 * number + horizon
        ds = [cutoff + timedelta(days=horizon - length + 1 + step) for step in range(length)]
        weekday = np.array([day.weekday() for day in ds])
        promo = (np.random.default_rng([seed, number]).random(length) < 0.3).astype(float)
        opened = np.where((weekday == 6) & (number % 2 == 0), 0, 1)
        level = 50.0 * (number + 1)
        shape = 1 + 0.3 * np.sin(2 * np.pi * weekday / 7)
        sales = level * shape * (1 + 0.5 * promo) * np.exp(noise * generator.standard_normal(length)) * opened
        known = np.array([day <= cutoff for day in ds])
        path = [
            list(level * shape[at + 1 : at + 1 + horizon]) if at % 7 == 3 and at + horizon < length else None
            for at in range(length)
        ]
        parts.append(
            pa.table(
                {
                    "cutoff": pa.array([cutoff] * length, pa.date32()),
                    "shard": pa.array([number % 2] * length, pa.int32()),
                    "unique_id": pa.array([f"s{number}"] * length),
                    "ds": pa.array(ds, pa.date32()),
                    "y": pa.array(np.where(known, sales, np.nan), pa.float64(), from_pandas=True),
                    "mask": pa.array((known & (opened == 1)).astype(np.int32)),
                    "open": pa.array(opened.astype(np.int32)),
                    "arima_path": pa.array(path, pa.list_(pa.float64())),
                    "kf_promo": pa.array(promo),
                    "kf_calendar_weekday": pa.array(weekday / 6.0),
                    "po_traffic": pa.array(np.where(known, sales / level, 0.0)),
                    "sn_size": pa.array([float(number) - series / 2] * length),
                    "sc_series": pa.array([float(number + 1)] * length),
                }
            )
        )
    rows = pa.concat_tables(parts)
    return rows.take(pa.array(generator.permutation(rows.num_rows)))


def write_panel(folder: Path, *tables: pa.Table) -> PanelSource:
    """The tables as a Delta table with the contract's partitions."""
    write_deltalake(str(folder), pa.concat_tables(tables), partition_by=["cutoff", "shard"])
    return PanelSource(str(folder), 0)


def request_for(final: date, folder: Path = Path("unused"), training: TrainingConfig = SMALL) -> LaunchRequest:
    """A request on daily data with a horizon of a week and one backtest cutoff."""
    source = PanelSource(str(folder / "panel"), 0)
    return LaunchRequest(source, (final - timedelta(days=7),), final, 7, 7, 364, training, folder / "models")


FINAL = date(2023, 8, 9)


def small_request(folder: Path, training: TrainingConfig = SMALL, **panel: Any) -> LaunchRequest:
    """Write a panel of one backtest cutoff and the final one into a folder; the request to train on it."""
    write_panel(folder / "panel", panel_rows(FINAL - timedelta(days=7), **panel), panel_rows(FINAL, **panel))
    return request_for_folder(folder, training)


def request_for_folder(folder: Path, training: TrainingConfig = SMALL) -> LaunchRequest:
    """The request for a panel that ``small_request`` has written."""
    return request_for(FINAL, folder, training)
