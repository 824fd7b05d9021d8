"""A training panel made from a simulated world without Spark, for scripts that need one in seconds.

It holds what fusion would make of the clean files: known-future covariates (promotion and the pull of the promoted
item, holidays, school holidays, calendar), closures and attributes. There is no ARIMA path and no segment in it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake
from numpy.typing import NDArray

from dlmine_spark.config import TrainingConfig
from dlmine_spark.datasets.catalogue import pull_of_items
from dlmine_spark.datasets.world import HOLIDAYS, World, weekday
from dlmine_spark.training.job import LaunchRequest
from dlmine_spark.training.shards import PanelSource

SEASON, YEAR = 7, 365

Floats = NDArray[np.float64]


def request_on(world: World, folder: Path, horizon: int, training: TrainingConfig) -> LaunchRequest:
    """Write the panel of one cutoff, a horizon before the world's last sales; the request to train on it."""
    place = folder / "panel"
    cutoff = world.size.days - horizon
    if not place.exists():
        write_deltalake(str(place), panel_rows(world, cutoff, horizon), partition_by=["cutoff", "shard"])
    return LaunchRequest(
        source=PanelSource(str(place), 0),
        backtest=(),
        final=world.days[cutoff - 1].astype(object),
        horizon=horizon,
        season_length=SEASON,
        year_length=YEAR,
        training=training,
        folder=folder / "models",
    )


def panel_rows(world: World, known_days: int, horizon: int) -> pa.Table:
    """One row per store and day up to a horizon after the cutoff, the day ``known_days``; y is null after it."""
    stores, days = len(world.stores), known_days + horizon
    opened = world.is_open[:, :days]
    known = np.broadcast_to(np.arange(days) < known_days, opened.shape)
    sales = np.where(known, world.sales[:, :days], np.nan)
    region = np.unique(world.stores["region"].to_numpy(str), return_inverse=True)[1] + 1
    size = np.log(world.stores["size_m2"].to_numpy(float))
    columns = {
        "cutoff": pa.array(np.repeat(world.days[known_days - 1], stores * days)),
        "shard": pa.array(np.repeat(np.arange(stores) % 2, days).astype(np.int32)),
        "unique_id": pa.array(np.repeat(world.stores["store"].to_numpy(str), days)),
        "ds": pa.array(np.tile(world.days[:days], stores)),
        "y": pa.array(sales.ravel(), from_pandas=True),
        "mask": pa.array((known & opened).ravel().astype(np.int32)),
        "open": pa.array(opened.ravel().astype(np.int32)),
        "arima_path": pa.nulls(stores * days, pa.list_(pa.float64())),
        "sc_series": pa.array(np.repeat(np.arange(1.0, stores + 1), days)),
        "sc_region": pa.array(np.repeat(region.astype(float), days)),
        "sn_size": pa.array(np.repeat((size - size.mean()) / size.std(), days)),
    }
    for name, values in known_in_advance(world, days).items():
        columns[f"kf_{name}"] = pa.array(np.broadcast_to(values, opened.shape).ravel().astype(float))
    return pa.table(columns)


def known_in_advance(world: World, days: int) -> dict[str, Floats]:
    """Covariates by name; stores x days, or days where all stores share them."""
    dates = world.days[:days]
    promoted = world.promoted[:, :days]
    pull = pull_of_items(world.popularity)
    month = dates.astype("datetime64[M]")
    in_month = (dates - month.astype("datetime64[D]")).astype(float)
    to_end = ((month + 1).astype("datetime64[D]") - dates).astype(float)
    in_year = 2 * np.pi * (dates - dates.astype("datetime64[Y]").astype("datetime64[D]")).astype(float) / YEAR
    day = weekday(dates)
    found = {
        "promo": (promoted >= 0).astype(float),
        "mined_rules_pull": np.where(promoted >= 0, pull[promoted], 0.0),
        "school_holiday": world.is_school_holiday[:days].astype(float),
        "month_position": in_month / 31,
        "month_start": (in_month < 2).astype(float),
        "month_end": (to_end <= 2).astype(float),
        "age": np.linspace(-1, 1, days),
    }
    found |= {f"holiday_{name.replace(' ', '_')}": (world.holiday[:days] == name).astype(float) for name in HOLIDAYS}
    found |= {f"weekday_{number}": (day == number).astype(float) for number in range(SEASON)}
    for order in (1, 2):
        found |= {f"year_sin{order}": np.sin(order * in_year), f"year_cos{order}": np.cos(order * in_year)}
    return found
