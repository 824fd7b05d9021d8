"""The simulator's store types are found from what stores sold, and their number too. No Spark."""

from __future__ import annotations

import numpy as np
import pytest

from dlmine_spark.datasets.world import STORE_TYPES, World, make_world
from dlmine_spark.segmentation.choice import adjusted_rand, assess, choose
from dlmine_spark.segmentation.features import STORES
from dlmine_spark.segmentation.lloyd import Labels, best_clusters
from dlmine_spark.segmentation.scaling import fit_scaling
from dlmine_spark.segmentation.shape import describe_series, in_order


def segments(world: World, of_days: slice) -> tuple[int, Labels]:
    """The number of segments that is chosen for the stores by some of their days, and the segment of each."""
    days = world.days[of_days].astype("datetime64[D]").astype(np.int64)
    values = np.array(
        [
            in_order(
                describe_series(
                    days,
                    np.where(world.is_open[store, of_days], world.sales[store, of_days], np.nan),
                    world.is_open[store, of_days],
                    world.promoted[store, of_days] >= 0,
                ),
                STORES.names,
            )
            for store in range(len(world.stores))
        ]
    )
    points = fit_scaling(values, STORES).coordinates(values)
    k = choose(assess(points, range(2, 9), max_iter=30, seed=7)).k
    return k, best_clusters(points, k, 10, 30, np.random.default_rng(7)).labels


@pytest.mark.parametrize("seed", [1, 2, 7])
def test_types_and_their_number_are_found(seed: int) -> None:
    world = make_world("small", seed, True)
    k, found = segments(world, slice(0, world.size.days))
    assert k == len(STORE_TYPES)
    assert adjusted_rand(found, world.stores["type"].to_numpy()) >= 0.95


def test_two_halves_of_history_part_the_stores_alike() -> None:
    world = make_world("small", 7, True)
    middle = world.size.days // 2
    first, second = (segments(world, half)[1] for half in (slice(0, middle), slice(middle, world.size.days)))
    assert adjusted_rand(first, second) >= 0.95
