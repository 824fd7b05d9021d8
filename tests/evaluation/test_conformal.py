"""Intervals that were too narrow or too wide before the cutoff hold what they promise after it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dlmine_spark.evaluation.conformal import MIN_SCORES, parts_of, width_factors

HORIZON = 8
Z_80, Z_95 = 1.2816, 1.9600


def forecasts(rng: np.random.Generator, spreads: dict[tuple[int, int], float], size: int = 4000) -> pd.DataFrame:
    """Forecasts of 100 times a series' size, with intervals for a spread of 1 where the true one is another.

    ``spreads``: by segment and half of the horizon.
    """
    parts = []
    for (segment, half), spread in spreads.items():
        scale = rng.uniform(1, 100, size)
        h = rng.integers(1, HORIZON // 2 + 1, size) + half * HORIZON // 2
        y_hat = 100 * scale
        bounds = {f"{side}_{level}": y_hat + sign * z * scale for level, z in ((80, Z_80), (95, Z_95))
                  for side, sign in (("lo", -1), ("hi", 1))}  # fmt: skip
        y = y_hat + spread * scale * rng.standard_normal(size)
        parts.append(pd.DataFrame({"segment": segment, "h": h, "y": y, "y_hat": y_hat, **bounds}))
    return pd.concat(parts, ignore_index=True)


def coverage(rows: pd.DataFrame, factors: pd.DataFrame, level: int) -> float:
    """Of the rows, by the factor of their segment and part."""
    joined = rows.merge(factors, on="segment")
    joined = joined[joined["h"].between(joined["first_h"], joined["last_h"])]
    assert len(joined) == len(rows)
    factor = joined[f"factor_{level}"]
    low = joined["y_hat"] - factor * (joined["y_hat"] - joined[f"lo_{level}"])
    high = joined["y_hat"] + factor * (joined[f"hi_{level}"] - joined["y_hat"])
    return float(joined["y"].between(low, high).mean())


def test_every_segment_and_part_of_the_horizon_gets_its_own_width() -> None:
    spreads = {(0, 0): 1.0, (0, 1): 2.0, (1, 0): 0.5, (1, 1): 1.5}
    rng = np.random.default_rng(3)
    factors = width_factors(forecasts(rng, spreads), [0, 1], HORIZON)

    bounds = factors[["first_h", "last_h"]].drop_duplicates().to_numpy().tolist()
    assert bounds == [[1, 2], [3, 4], [5, 6], [7, 8]]
    for (segment, half), spread in spreads.items():
        own = factors[(factors["segment"] == segment) & (factors["first_h"] == 1 + half * HORIZON // 2)].iloc[0]
        assert (own["factor_80"], own["factor_95"]) == (
            pytest.approx(spread, rel=0.08),
            pytest.approx(spread, rel=0.08),
        )
    later = forecasts(rng, spreads)
    for segment in (0, 1):
        rows = later[later["segment"] == segment]
        for level in (80, 95):
            assert coverage(rows, factors, level) == pytest.approx(level / 100, abs=0.015)


def test_what_is_rare_takes_the_width_of_all() -> None:
    rng = np.random.default_rng(3)
    many, few = forecasts(rng, {(0, 0): 2.0}), forecasts(rng, {(1, 0): 9.0}, size=50)
    factors = width_factors(pd.concat([many, few]), [0, 1, 2], HORIZON).set_index(["segment", "first_h"])

    assert factors.loc[(1, 1), "factor_80"] == factors.loc[(2, 1), "factor_80"]
    of_none = factors[factors.index.get_level_values(0).isna()]
    assert of_none["factor_80"].iloc[0] == factors.loc[(1, 1), "factor_80"]
    assert factors.loc[(0, 1), "factor_80"] != factors.loc[(1, 1), "factor_80"]
    # Nothing is known of the second half of the horizon.
    assert np.isnan(factors.loc[(0, 5), "factor_80"])
    assert factors.loc[(0, 5), "scores"] == 0


def test_the_quantile_is_the_conformal_one() -> None:
    """Of n scores the ceil((n + 1) level)-th; here of 120 scores of 1/120, 2/120, ... 1."""
    size = MIN_SCORES + 20
    y = np.arange(1, size + 1) / size
    rows = pd.DataFrame({"segment": pd.NA, "h": 1, "y": y, "y_hat": 0.0, "lo_80": -4.0, "hi_80": 1.0,
                         "lo_95": -9.0, "hi_95": 2.0})  # fmt: skip

    factors = width_factors(rows, [], horizon=1)

    assert factors["segment"].isna().all()
    assert factors["factor_80"].tolist() == [pytest.approx(97 / size)]
    assert factors["factor_95"].tolist() == [pytest.approx(115 / size / 2)]


def test_bounds_that_lie_on_the_median_tell_nothing() -> None:
    rows = pd.DataFrame({"segment": 0, "h": 1, "y": [1.0] * 200, "y_hat": 0.0, "lo_80": 0.0, "hi_80": 0.0,
                         "lo_95": 0.0, "hi_95": 0.0})  # fmt: skip
    assert width_factors(rows, [0], horizon=1)["factor_80"].isna().all()
    assert width_factors(rows.assign(y=0.0), [0], horizon=1)["factor_80"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("horizon", "parts"),
    [
        (1, [(1, 1)]),
        (2, [(1, 1), (2, 2)]),
        (7, [(1, 1), (2, 3), (4, 5), (6, 7)]),
        (28, [(1, 7), (8, 14), (15, 21), (22, 28)]),
    ],
)
def test_parts_cover_the_horizon(horizon: int, parts: list[tuple[int, int]]) -> None:
    assert parts_of(horizon) == parts
