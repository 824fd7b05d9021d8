"""ARIMA beside statsforecast's AutoARIMA and the seasonal naive: series per second, accuracy, coverage, in one run.

    .venv/bin/python scripts/bench_arima.py --data $DLMINE_DATA [--cases daily hospital ...] [--sample N] [--no-default]

AutoARIMA is no dependency of the project: ``pip install --target /tmp/sf statsforecast`` and run with
``PYTHONPATH=.:/tmp/sf``; without it only our own models run. Everything sees the same series, one after another in one
process with one thread, and nothing but the values up to the cutoff and the regressors named in the case. Costs are
processor seconds, which suffer less than the clock from others on the machine; AutoARIMA has compiled its code before.
``--no-default`` leaves out AutoARIMA without approximation, which takes minutes to hours on whole sets.

Cases: ``daily`` (simulated stores, 900 days, m = 7, 28 days ahead; a promotion nobody planned), ``daily-promo`` (the
same, promotion known ahead), ``aus_retail`` (last 24 months), ``hospital`` (last 12 months), ``cheese`` (last 8 weeks)
and ``cheese-price`` (with display and price), ``hourly`` (simulated, day and week, two days ahead), ``weekly``
(simulated, a year, a quarter ahead), ``processes`` (simulated ARIMA processes, errors beside those of the true model).
MASE is scaled by the seasonal naive in sample, sMAPE is a share of 2.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import lfilter
from threadpoolctl import threadpool_limits

from dlmine_spark.arima.fit import fit_series
from dlmine_spark.arima.timeline import ForecastPlan
from dlmine_spark.config import ArimaConfig
from dlmine_spark.evaluation.metrics import SCALE, SQUARED_SCALE, SUMS, error_terms, measures
from dlmine_spark.frequency import DAILY, MONTHLY, WEEKLY, Frequency
from dlmine_spark.naive import error_scale, naive_interval, seasonal_naive

log = logging.getLogger("bench_arima")

Floats = NDArray[np.float64]
Forecast = Mapping[str, Floats]
"""``y_hat``, ``lo_80``, ``hi_80``, ``lo_95``, ``hi_95``: one value per step ahead."""

START = date(2020, 1, 6)
OURS, NAIVE, TRUE = "dlmine", "seasonal naive", "true model"
APPROXIMATE, DEFAULT = "AutoARIMA(approximation=True)", "AutoARIMA"
BOUNDS = ("lo_80", "hi_80", "lo_95", "hi_95")
SIDES = (("lo", -1), ("hi", 1))
SEED = 7


@dataclass(frozen=True, slots=True)
class Series:
    """One series: what is known, what came, regressors over both, and the best forecast there is (simulations)."""

    y: Floats
    future: Floats
    covariates: Mapping[str, Floats] = field(default_factory=dict)
    truth: Forecast | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """Series of one kind that are forecast alike."""

    name: str
    frequency: Frequency
    season_length: int
    series: list[Series]


def main() -> None:
    """Print a table per case."""
    arguments = _parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    peers = importlib.util.find_spec("statsforecast") is not None
    if not peers:
        log.info("statsforecast is not installed: see the docstring")
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in arguments.cases:
            for case in CASES[name](arguments.data):
                _bench(_sampled(case, arguments.sample), peers=peers, default=arguments.default)


def _bench(case: Case, *, peers: bool, default: bool) -> None:
    engines: dict[str, Callable[[Series, Case], Forecast]] = {OURS: _ours}
    if peers:
        engines[APPROXIMATE] = _auto_arima(approximation=True)
        if default:
            engines[DEFAULT] = _auto_arima(approximation=False)
    engines[NAIVE] = _naive
    if case.series[0].truth is not None:
        engines[TRUE] = _truth
    log.info(
        "\n%s: %d series of about %d values, m = %d, %d ahead, regressors: %s\n",
        case.name,
        len(case.series),
        int(np.median([series.y.size for series in case.series])),
        case.season_length,
        case.series[0].future.size,
        ", ".join(case.series[0].covariates) or "none",
    )
    log.info("| model | series per CPU s | MASE | sMAPE | RMSSE | inside 80 %% | inside 95 %% |\n%s", "|---" * 7 + "|")
    errors: dict[str, float] = {}
    for name, engine in engines.items():
        engine(case.series[0], case)
        used = time.process_time()
        forecasts = [engine(series, case) for series in case.series]
        used = time.process_time() - used
        log.info("| %s | %.2f | %s |", name, len(forecasts) / max(used, 1e-9), _accuracy(case, forecasts))
        pairs = zip(case.series, forecasts, strict=True)
        errors[name] = float(np.mean([np.abs(forecast["y_hat"] - series.future).mean() for series, forecast in pairs]))
    if TRUE in errors:
        beside = ", ".join(f"{name} {error / errors[TRUE]:.4f}" for name, error in errors.items() if name != TRUE)
        log.info("\nmean absolute error beside the true model's: %s", beside)


def _accuracy(case: Case, forecasts: list[Forecast]) -> str:
    """Cells of a row: MASE, sMAPE, RMSSE and coverage over all series and steps."""
    rows = []
    for series, forecast in zip(case.series, forecasts, strict=True):
        scale, squared = error_scale(series.y, case.season_length)
        columns = {**{name: forecast.get(name, np.full(series.future.size, np.nan)) for name in ("y_hat", *BOUNDS)}}
        rows.append(pd.DataFrame({"y": series.future, **columns, SCALE: scale, SQUARED_SCALE: squared}))
    terms = error_terms(pd.concat(rows, ignore_index=True))
    row = measures(terms[list(SUMS)].sum().to_frame().T).iloc[0]
    coverage = " | ".join(f"{100 * row[name]:.1f}" for name in ("coverage_80", "coverage_95"))
    return f"{row['mase']:.4f} | {row['smape']:.4f} | {row['rmsse']:.4f} | {coverage}"


def _ours(series: Series, case: Case) -> Forecast:
    n, horizon = series.y.size, series.future.size
    frame = pd.DataFrame(
        {
            "unique_id": "a",
            "ds": [case.frequency.shift(START, step) for step in range(n + horizon)],
            "y": np.concatenate([series.y, np.full(horizon, np.nan)]),
            "open": 1,
            **series.covariates,
        }
    )
    plan = ForecastPlan(case.frequency, horizon, (), case.frequency.shift(START, n - 1))
    config = ArimaConfig(feature_origins=0, season_length=case.season_length)
    row = fit_series(frame, config, plan).iloc[-1]
    return {"y_hat": np.array(row["path"]), **{name: np.array(row[name]) for name in BOUNDS}}


def _auto_arima(*, approximation: bool) -> Callable[[Series, Case], Forecast]:
    from statsforecast.models import AutoARIMA

    def forecast(series: Series, case: Case) -> Forecast:
        n = series.y.size
        x = np.column_stack(list(series.covariates.values())) if series.covariates else None
        model = AutoARIMA(season_length=case.season_length, approximation=approximation)
        try:
            made = model.forecast(
                y=series.y.astype(np.float64),
                h=series.future.size,
                X=None if x is None else x[:n],
                X_future=None if x is None else x[n:],
                level=[80, 95],
            )
        except (ValueError, ZeroDivisionError, np.linalg.LinAlgError, IndexError):
            # A series it cannot fit counts as its naive forecast; without one there would be no mean to compare.
            log.info("  %s could not fit a series", DEFAULT)
            return _naive(series, case)
        return {"y_hat": made["mean"], **{name: made[name.replace("_", "-")] for name in BOUNDS}}

    return forecast


def _naive(series: Series, case: Case) -> Forecast:
    future = np.ones(series.future.size, dtype=np.bool_)
    y_hat = seasonal_naive(series.y, future, case.season_length)
    bounds = (naive_interval(series.y, y_hat, future, case.season_length, level) for level in (80, 95))
    return {"y_hat": y_hat, **dict(zip(BOUNDS, (bound for pair in bounds for bound in pair), strict=True))}


def _truth(series: Series, case: Case) -> Forecast:
    assert series.truth is not None
    return series.truth


def _daily(_: Path) -> Iterator[Case]:
    yield Case("daily", DAILY, 7, [_store(seed, planned=False) for seed in range(200)])


def _daily_promo(_: Path) -> Iterator[Case]:
    yield Case("daily-promo", DAILY, 7, [_store(seed, planned=True) for seed in range(200)])


def _store(seed: int, *, planned: bool, n: int = 900, horizon: int = 28) -> Series:
    """Sales of a store: weekdays, a year, a slow level, promotions of a third of the days, noise with memory."""
    rng = np.random.default_rng(SEED + seed)
    days = np.arange(n + horizon)
    week = rng.normal(0, 0.2, 7)[days % 7]
    year = rng.uniform(0.03, 0.15) * np.sin(2 * np.pi * (days / 365.25 + rng.uniform()))
    level = np.cumsum(rng.normal(0, 0.004, days.size))
    noise = lfilter([1.0], [1.0, -rng.uniform(0.2, 0.7)], rng.normal(0, 0.08, days.size))
    starts = rng.random(days.size // 7 + 1) < 0.3
    promo = np.where(days % 7 < 6, starts[days // 7], 0).astype(np.float64)
    logs = np.log(rng.uniform(200, 8000)) + week + year + level + noise + rng.uniform(0.2, 0.4) * promo
    y = np.round(np.exp(logs))
    return Series(y[:n], y[n:], {"promo": promo} if planned else {})


def _aus_retail(data: Path) -> Iterator[Case]:
    rows = pd.read_csv(data / "aus_retail/aus_retail.csv.gz", parse_dates=["Month"])
    groups = [group.sort_values("Month")["Turnover"].to_numpy() for _, group in rows.groupby("Series ID")]
    yield Case("aus_retail", MONTHLY, 12, [Series(y[:-24], y[-24:]) for y in groups if y.size >= 24 + 24])


def _hospital(data: Path) -> Iterator[Case]:
    columns = pd.read_csv(data / "hospital/hospital_wide.csv").drop(columns="month")
    values = [columns[name].to_numpy(dtype=np.float64) for name in columns]
    yield Case("hospital", MONTHLY, 12, [Series(y[:-12], y[-12:]) for y in values])


def _cheese(data: Path) -> Iterator[Case]:
    yield _cheese_case(data, "cheese", ())


def _cheese_price(data: Path) -> Iterator[Case]:
    yield _cheese_case(data, "cheese-price", ("DISP", "PRICE"))


def _cheese_case(data: Path, name: str, regressors: tuple[str, ...]) -> Case:
    """A year of weeks shows no yearly season, so m = 1."""
    rows = pd.read_csv(data / "cheese/cheese.csv").sort_values(["RETAILER", "WEEK_IDX"])
    series = []
    for _, group in rows.groupby("RETAILER"):
        y = group["VOLUME"].to_numpy(dtype=np.float64)
        covariates = {column.lower(): group[column].to_numpy(dtype=np.float64) for column in regressors}
        series.append(Series(y[:-8], y[-8:], covariates))
    return Case(name, WEEKLY, 1, series)


def _hourly(_: Path) -> Iterator[Case]:
    yield Case("hourly", DAILY, 24, [_load(seed) for seed in range(100)])


def _load(seed: int, horizon: int = 48) -> Series:
    """Hours of a day, other on a weekend, scaled by days that differ, and noise with memory."""
    rng = np.random.default_rng(SEED + seed)
    n = int(rng.integers(700, 961))
    hours = np.arange(n + horizon)
    smooth = np.ones(5) / 5
    workday, weekend = (np.convolve(np.tile(rng.normal(0, 0.5, 24), 3), smooth, "same")[24:48] for _ in range(2))
    share = rng.uniform(0, 1)
    is_weekend = (hours // 24 % 7) >= 5
    shape = np.where(is_weekend, ((1 - share) * workday + share * weekend)[hours % 24], workday[hours % 24])
    days = np.repeat(lfilter([1.0], [1.0, -0.6], rng.normal(0, 0.05, hours.size // 24 + 1)), 24)[: hours.size]
    level = np.cumsum(rng.normal(0, 0.003, hours.size))
    noise = lfilter([1.0], [1.0, -rng.uniform(0.5, 0.9)], rng.normal(0, 0.05, hours.size))
    y = rng.uniform(50, 5000) * np.exp(shape + days + level + noise)
    return Series(y[:n], y[n:])


def _weekly(_: Path) -> Iterator[Case]:
    yield Case("weekly", WEEKLY, 52, [_year_of_weeks(seed) for seed in range(100)])


def _year_of_weeks(seed: int, horizon: int = 13) -> Series:
    """A wandering level; every other series has a year with a few waves and a peak at its end."""
    rng = np.random.default_rng(SEED + seed)
    n = int(rng.choice([90, 160, 400, 1000]))
    weeks = np.arange(n + horizon)
    phase = weeks / 52.18 % 1
    year = sum(rng.normal(0, 0.12 / k) * np.sin(2 * np.pi * k * phase + rng.uniform(0, 6)) for k in (1, 2, 3))
    year = year + rng.uniform(0, 0.5) * np.exp(-(((phase - 0.95) / 0.02) ** 2))
    level = np.cumsum(rng.normal(rng.normal(0, 0.0005), rng.uniform(0.005, 0.03), weeks.size))
    noise = rng.normal(0, rng.uniform(0.01, 0.06), weeks.size)
    y = rng.uniform(100, 10000) * np.exp((year if seed % 2 else 0) + level + noise)
    return Series(y[:n], y[n:])


PROCESSES: dict[str, tuple[int, list[float], list[float], int, int]] = {
    "AR(1)": (1, [1, -0.7], [1], 0, 0),
    "MA(1)": (1, [1], [1, 0.6], 0, 0),
    "ARMA(2, 1)": (1, [1, -1.2, 0.5], [1, 0.4], 0, 0),
    "ARIMA(0, 1, 1)": (1, [1], [1, -0.6], 1, 0),
    "ARIMA(1, 1, 1)": (1, [1, -0.5], [1, 0.3], 1, 0),
    "ARIMA(1, 0, 0)(1, 0, 0)7": (7, np.convolve([1, -0.5], [1, *[0.0] * 6, -0.6]).tolist(), [1], 0, 0),
    "ARIMA(0, 1, 1)(0, 1, 1)12": (12, [1], np.convolve([1, -0.4], [1, *[0.0] * 11, -0.6]).tolist(), 1, 1),
}
"""Season, AR and MA polynomials, differences, seasonal differences."""


def _processes(_: Path, n: int = 400, horizon: int = 12) -> Iterator[Case]:
    """The best forecast continues the same process with no further innovation; it errs by those that come."""
    for number, (name, (m, ar, ma, d, seasonal_d)) in enumerate(PROCESSES.items()):
        whole = np.array(ar)
        for lag in [1] * d + [m] * seasonal_d:
            whole = np.convolve(whole, [1.0, *[0.0] * (lag - 1), -1.0])
        deviation = np.sqrt(np.cumsum(lfilter(ma, whole, np.eye(1, horizon)[0]) ** 2))
        widths = {level: NormalDist().inv_cdf(0.5 + level / 200) * deviation for level in (80, 95)}
        rng = np.random.default_rng([SEED, number])
        series = []
        for _seed in range(100):
            noise = rng.normal(size=300 + n + horizon)
            expected = noise.copy()
            expected[-horizon:] = 0
            y, best = (1000 + lfilter(ma, whole, values)[300:] for values in (noise, expected))
            bounds = {
                f"{side}_{level}": best[n:] + sign * width for level, width in widths.items() for side, sign in SIDES
            }
            series.append(Series(y[:n], y[n:], truth={"y_hat": best[n:], **bounds}))
        yield Case(name, MONTHLY if m == 12 else DAILY, m, series)


CASES: dict[str, Callable[[Path], Iterator[Case]]] = {
    "daily": _daily,
    "daily-promo": _daily_promo,
    "aus_retail": _aus_retail,
    "hospital": _hospital,
    "cheese": _cheese,
    "cheese-price": _cheese_price,
    "hourly": _hourly,
    "weekly": _weekly,
    "processes": _processes,
}


def _sampled(case: Case, sample: int | None) -> Case:
    """Some series of a case, spread over all of them."""
    if sample is None or sample >= len(case.series):
        return case
    chosen = np.linspace(0, len(case.series) - 1, sample).astype(int)
    return Case(case.name, case.frequency, case.season_length, [case.series[at] for at in chosen])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = os.environ.get("DLMINE_DATA")
    parser.add_argument("--data", type=Path, default=folder, required=folder is None, help="folder of public data")
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES), help="which to run")
    parser.add_argument("--sample", type=int, help="so many series of each case only")
    parser.add_argument("--no-default", dest="default", action="store_false", help="AutoARIMA with approximation only")
    return parser.parse_args()


if __name__ == "__main__":
    main()
