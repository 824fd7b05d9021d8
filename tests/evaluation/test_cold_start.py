"""Series without history: levels by attributes, shapes by segments, and an honest word on how well that works."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from dlmine_spark.evaluation.cold_start import (
    COLD_START,
    OVERALL_MEAN,
    attribute_matrix,
    fold_of,
    forecasts_of,
    left_out,
    placed,
    shapes_without,
    width_ratios,
    with_bounds,
)

RNG = np.random.default_rng(7)
STORES = 60


def world() -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Sixty stores whose level follows their size and whose week follows their type; donors, attributes, shapes."""
    statics = pd.DataFrame({"size": RNG.uniform(1, 3, STORES), "type": np.where(np.arange(STORES) % 2, "city", "mall")})
    ids = [f"S{number:02}" for number in range(STORES)]
    segment = np.arange(STORES) % 2
    level = np.exp(statics["size"] + RNG.normal(0, 0.01, STORES))
    donors = pd.DataFrame({"unique_id": ids, "level": level, "segment": segment, "fold": fold_of(ids)})
    rows = [
        {"segment": one.segment, "fold": one.fold, "h": h, "shape": (0.5, 1.5)[(h + one.segment) % 2], "n": 1}
        for one in donors.itertuples()
        for h in (1, 2)
    ]
    shapes = pd.DataFrame(rows).groupby(["segment", "fold", "h"], as_index=False).sum()
    return donors, attribute_matrix(statics), shapes


def test_attributes_become_numbers() -> None:
    statics = pd.DataFrame({"size": [1.0, 3.0, None], "type": ["a", None, "a"], "open": [True, False, True], "one": 5})
    matrix = attribute_matrix(statics)

    spread = math.sqrt(2 / 9)
    expected = [
        # size, its blank, type a, open
        [-1, 0, 1, (1 / 3) / spread],
        [1, 0, 0, (-2 / 3) / spread],
        [0, 1, 1, (1 / 3) / spread],
    ]
    np.testing.assert_allclose(matrix, expected)
    assert attribute_matrix(pd.DataFrame(index=range(3))).shape == (3, 0)


def test_folds_are_even_and_follow_the_ids() -> None:
    ids = [f"S{number}" for number in range(25)]
    folds = fold_of(ids)
    assert sorted(np.bincount(folds)) == [2] * 5 + [3] * 5
    again = dict(zip(reversed(ids), fold_of(list(reversed(ids))), strict=True))
    assert [again[one] for one in ids] == folds.tolist()


def test_level_and_segment_follow_the_attributes() -> None:
    donors, x, _ = world()
    new = placed(x[5:], donors["level"].to_numpy()[5:], donors["segment"].to_numpy()[5:], x[:5])

    np.testing.assert_allclose(new.levels, donors["level"][:5], rtol=0.05)
    assert new.segments.tolist() == donors["segment"].tolist()[:5]


def test_attributes_that_say_nothing_give_the_mean() -> None:
    levels = np.exp(RNG.normal(3, 1, 40))
    noise = RNG.normal(size=(40, 10))
    new = placed(noise, levels, np.zeros(40, dtype=np.int64), RNG.normal(size=(3, 10)))
    np.testing.assert_allclose(np.log(new.levels), np.log(levels).mean(), atol=0.5)
    alone = placed(np.zeros((40, 0)), levels, np.zeros(40, dtype=np.int64), np.zeros((1, 0)))
    np.testing.assert_allclose(alone.levels, math.exp(np.log(levels).mean()))


def test_a_segment_without_donors_has_the_shape_of_all() -> None:
    shapes = pd.DataFrame(
        {
            "segment": [0, 0, 1, 1],
            "fold": [0, 0, 1, 1],
            "h": [1, 2, 1, 2],
            "shape": [1.0, 3.0, 2.0, 2.0],
            "n": [2, 2, 1, 1],
        }
    )
    by_segment, overall = shapes_without(shapes, None)
    assert by_segment.loc[0].tolist() == [0.5, 1.5]
    np.testing.assert_allclose(overall, [1.0, 5 / 3])

    without = shapes_without(shapes, 1)
    assert list(without[0].index) == [0]
    donors = placed(np.zeros((1, 0)), np.array([10.0]), np.array([1]), np.zeros((1, 0)))
    np.testing.assert_allclose(forecasts_of(donors, without), [[5.0, 15.0]])


def test_who_is_left_out_tells_nothing_of_its_own_forecast() -> None:
    donors, x, shapes = world()
    first = left_out(donors, x, shapes)
    odd = donors.assign(level=np.where(donors["fold"] == 0, donors["level"] * 1000, donors["level"]))
    second = left_out(odd, x, shapes)

    is_out = first["fold"] == 0
    np.testing.assert_allclose(first.loc[is_out, "y_hat"], second.loc[is_out, "y_hat"])
    assert not np.allclose(first.loc[~is_out, "y_hat"], second.loc[~is_out, "y_hat"])
    assert set(first.groupby(["model", "unique_id"])["h"].count()) == {2}


def test_attributes_beat_the_mean_and_intervals_hold_what_they_say() -> None:
    donors, x, shapes = world()
    made = left_out(donors, x, shapes)
    truth = donors.set_index("unique_id")
    shape = np.where((made["h"] + truth.loc[made["unique_id"], "segment"].to_numpy()) % 2, 1.5, 0.5)
    noise = np.exp(np.random.default_rng(1).normal(0, 0.1, len(made)))
    errors = with_bounds(made.assign(y=truth.loc[made["unique_id"], "level"].to_numpy() * shape * noise))

    wape = (errors["y"] - errors["y_hat"]).abs().groupby(errors["model"]).sum() / errors.groupby("model")["y"].sum()
    assert wape[COLD_START] < 0.12 < 0.5 < wape[OVERALL_MEAN]
    ours = errors[errors["model"] == COLD_START]
    assert ours["y"].between(ours["lo_80"], ours["hi_80"]).mean() == pytest.approx(0.8, abs=0.08)
    assert ours["y"].between(ours["lo_95"], ours["hi_95"]).mean() == pytest.approx(0.95, abs=0.05)


@pytest.mark.parametrize("stores", [6, 9, 25, 100])
def test_intervals_hold_for_one_more_store_however_many_there_are(stores: int) -> None:
    """Stores are off by 40 % as a whole, their days by 15 % more: only whole stores tell of a new one."""
    rng = np.random.default_rng(3)
    inside = {"80": 0.0, "95": 0.0}
    rounds = 400
    for _ in range(rounds):
        logs = rng.normal(0, 0.4, (stores + 1, 1)) + rng.normal(0, 0.15, (stores + 1, 20))
        known = pd.DataFrame(
            {"unique_id": np.repeat(np.arange(stores), 20), "y": np.exp(logs[1:]).ravel(), "y_hat": 1.0}
        )
        ratios, new = width_ratios(known), np.exp(logs[0])
        assert ratios["lo_95"] <= ratios["lo_80"] <= 1 <= ratios["hi_80"] <= ratios["hi_95"]
        for level in inside:
            inside[level] += float(((ratios[f"lo_{level}"] <= new) & (new <= ratios[f"hi_{level}"])).mean()) / rounds
    assert inside["80"] == pytest.approx(0.8, abs=0.05)
    assert inside["95"] == pytest.approx(0.95, abs=0.03)


def test_bounds_are_quantiles_with_one_more_store_beyond_all() -> None:
    # 39 stores of one value each: the weight of a fortieth begins with the first, since the new one may be beyond.
    numbers = np.arange(1.0, 40.0)
    rows = pd.DataFrame({"unique_id": numbers, "y": numbers / 20, "y_hat": 1.0})
    expected = {"lo_95": 0.05, "lo_80": 0.2, "hi_80": 1.8, "hi_95": 1.95}
    assert width_ratios(rows) == pytest.approx(expected)
    # A store of many values has no more weight than one of few.
    crowd = pd.DataFrame({"unique_id": 99, "y": np.full(1000, 1.0), "y_hat": 1.0})
    assert width_ratios(pd.concat([rows, crowd], ignore_index=True)) == pytest.approx(expected)


def test_days_without_sales_are_part_of_the_interval() -> None:
    rng = np.random.default_rng(5)
    sold = np.exp(rng.normal(1, 0.2, (8, 20))) * (np.arange(20) >= 12)
    ratios = width_ratios(pd.DataFrame({"unique_id": np.repeat(np.arange(8), 20), "y": sold.ravel(), "y_hat": 1.0}))
    assert ratios["lo_95"] == ratios["lo_80"] == 0
    assert 2 < ratios["hi_80"] < ratios["hi_95"]


def test_ratios_of_forecasts_of_nothing_are_none() -> None:
    assert all(map(math.isnan, width_ratios(pd.DataFrame({"unique_id": "a", "y": [1.0], "y_hat": [0.0]})).values()))
    # One store tells nothing of others.
    one = pd.DataFrame({"unique_id": "a", "y": [1.0, 2.0], "y_hat": [1.0, 1.0]})
    assert all(map(math.isnan, width_ratios(one).values()))
