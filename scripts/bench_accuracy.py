"""``dlmine backtest`` by ``conf/examples/panel.yaml``, untuned, on panels of many shapes: accuracy, coverage, time.

    .venv/bin/python scripts/bench_accuracy.py --data $DLMINE_DATA [--cases stores weekly ...] [--keep FOLDER]

Every case is written as a file and given to the command as a user would; its measures are those of ``gold.metrics``.
Beside them AutoARIMA (statsforecast), with the covariates known ahead, on the same series and dates: it is no
dependency of the project, so ``pip install --target /tmp/sf statsforecast`` and ``PYTHONPATH=.:/tmp/sf``; without it,
and for panels of more than 200 series, it is left out with a word. Of simulated panels the forecast that knows how
they were made is shown, too.

Cases: ``stores`` (simulated: 1,115 stores, 942 days, promotions, holidays, closures; 42 days ahead), ``weekly``
(simulated: 45 stores, 143 weeks, holidays; 13 weeks ahead), ``cheese`` (8 weeks ahead, with display and price),
``aus_retail`` (24 months ahead), ``hospital`` (12 months ahead), ``online_retail`` (revenue by country and day, 28 days
ahead).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from deltalake import DeltaTable
from numpy.typing import NDArray
from scipy.signal import lfilter

from dlmine_spark.evaluation.metrics import SCALE, SQUARED_SCALE, SUMS, error_terms, measures
from dlmine_spark.naive import error_scale

Floats = NDArray[np.float64]
Data = Path

ROOT = Path(__file__).resolve().parents[1]
SEED = 7
MOST_FOR_AUTO_ARIMA = 200
BOUNDS = ("lo_80", "hi_80", "lo_95", "hi_95")
SHOWN = ("wape", "rmspe", "mase", "coverage_80", "coverage_95")


@dataclass(frozen=True, slots=True)
class Case:
    """A panel, as a user would have it.

    Attributes:
        rows: ``unique_id``, ``ds``, ``y`` and covariates.
        horizon: steps held out.
        season_length: of the scale of errors, and of AutoARIMA.
        known_ahead: covariates that panel.yaml takes as known ahead, and AutoARIMA as regressors.
        settings: further ``--set`` of the command.
        best: of simulated rows, the value without what nobody could know.
    """

    rows: pd.DataFrame
    horizon: int
    season_length: int
    known_ahead: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    best: Floats | None = None


def main() -> None:
    """Print a table per case."""
    arguments = _parse()
    with tempfile.TemporaryDirectory(prefix="dlmine-bench-") as scratch:
        for name in arguments.cases:
            case = CASES[name](arguments.data)
            case = replace(case, settings=(*case.settings, *arguments.set))
            _bench(name, case, (arguments.keep or Path(scratch)) / name)


def _bench(name: str, case: Case, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "panel.csv"
    case.rows.to_csv(file, index=False)
    count = case.rows["unique_id"].nunique()
    print(f"\n{name}: {count} series, {len(case.rows):,} rows, {case.horizon} steps ahead", flush=True)
    start = time.perf_counter()
    settings = (
        f"sources.panel.path={file}",
        f"evaluation.horizon={case.horizon}",
        f"lakehouse.root={folder / 'lakehouse'}",
        *case.settings,
    )
    command = [sys.executable, "-m", "dlmine_spark", "backtest", "--config", str(ROOT / "conf/examples/panel.yaml")]
    done = subprocess.run(
        [*command, *(part for setting in settings for part in ("--set", setting))],
        check=False, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    (folder / "log.txt").write_text(done.stdout + done.stderr)
    if done.returncode:
        sys.exit(f"{name}: the backtest ended with {done.returncode}:\n{done.stderr[-2000:]}")
    print(f"{time.perf_counter() - start:.0f} s\n\n| model | " + " | ".join(SHOWN) + " |\n" + "|---" * 6 + "|")
    _show(_measures_of_backtest(folder / "lakehouse"))
    for peer, predicted in _peers(case, count).items():
        _show(pd.DataFrame([_measured(case, predicted, folder / "lakehouse") | {"model": peer}]))


def _show(rows: pd.DataFrame) -> None:
    for row in rows.sort_values("wape").to_dict("records"):
        print(f"| {row['model']} | " + " | ".join(f"{row[name]:.4f}" for name in SHOWN) + " |", flush=True)


def _read(lakehouse: Path, table: str) -> pd.DataFrame:
    return DeltaTable(str(lakehouse / table.replace(".", "/"))).to_pandas()


def _measures_of_backtest(lakehouse: Path) -> pd.DataFrame:
    rows = _read(lakehouse, "gold.metrics")
    overall = rows[rows["scope"] == "overall"].pivot_table(index="model", columns="metric", values="value")
    return overall.reset_index()


def _peers(case: Case, count: int) -> dict[str, pd.DataFrame]:
    """Forecasts by name: ``unique_id``, ``ds``, ``y_hat`` and bounds."""
    found = {}
    if case.best is not None:
        found["(what could be known)"] = _held_out(case, case.rows.assign(y_hat=case.best))
    if count > MOST_FOR_AUTO_ARIMA:
        print(f"AutoARIMA is left out: {count} series are too many for it")
    elif importlib.util.find_spec("statsforecast") is None:
        print("AutoARIMA is left out: statsforecast is not installed, see the docstring")
    else:
        found["AutoARIMA"] = pd.concat(_auto_arima(case, series) for _, series in case.rows.groupby("unique_id"))
    return found


def _held_out(case: Case, rows: pd.DataFrame) -> pd.DataFrame:
    """The last steps of all, which the backtest kept from its models; without bounds, where there are none."""
    last = rows["ds"].sort_values().unique()[-case.horizon :]
    return rows[rows["ds"].isin(last)].reindex(columns=["unique_id", "ds", "y_hat", *BOUNDS])


def _auto_arima(case: Case, series: pd.DataFrame) -> pd.DataFrame:
    from statsforecast.models import AutoARIMA

    is_future = series["ds"].isin(_held_out(case, case.rows)["ds"].unique()).to_numpy()
    regressors = series[list(case.known_ahead)].to_numpy(float)
    future = series[is_future]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for used in (regressors, None) if case.known_ahead else (None,):
            try:
                made = AutoARIMA(season_length=case.season_length).forecast(
                    y=series["y"].to_numpy(float)[~is_future],
                    h=len(future),
                    X=None if used is None else used[~is_future],
                    X_future=None if used is None else used[is_future],
                    level=[80, 95],
                )
            except (ValueError, ZeroDivisionError, np.linalg.LinAlgError, IndexError):
                continue
            # With rank-deficient regressors bounds of another length than the forecast have been seen.
            if all(np.shape(values) == (len(future),) for values in made.values()):
                break
        else:
            made = {name: np.full(len(future), np.nan) for name in ("mean", *(one.replace("_", "-") for one in BOUNDS))}
    columns = {name: made[name.replace("_", "-")] for name in BOUNDS}
    return future[["unique_id", "ds"]].assign(y_hat=made["mean"], **columns)


def _measured(case: Case, predicted: pd.DataFrame, lakehouse: Path) -> dict[str, float]:
    """The measures of the backtest, of somebody else's forecasts of the same series and dates."""
    compared = _read(lakehouse, "gold.forecasts").query("model == 'lstm'")[["unique_id", "ds"]]
    known = _read(lakehouse, "silver.panel").query("open != 0 and y == y")[["unique_id", "ds", "y"]]
    rows = []
    for unique_id, series in case.rows.groupby("unique_id"):
        values = series["y"].to_numpy(float)[: -case.horizon]
        values = (
            np.where(series["open"].to_numpy()[: -case.horizon] != 0, values, np.nan) if "open" in series else values
        )
        scale, squared = error_scale(values, case.season_length)
        rows.append({"unique_id": str(unique_id), SCALE: scale, SQUARED_SCALE: squared})
    paired = compared.merge(known, on=["unique_id", "ds"])
    predicted = predicted.assign(unique_id=predicted["unique_id"].astype(str), ds=_as_in(paired["ds"], predicted["ds"]))
    paired = paired.merge(predicted, on=["unique_id", "ds"]).merge(pd.DataFrame(rows), on="unique_id")
    terms = error_terms(paired.dropna(subset=["y_hat"]))
    return dict(measures(terms[list(SUMS)].sum().to_frame().T).iloc[0])


def _as_in(known: pd.Series, moments: pd.Series) -> pd.Series:
    return moments if known.dtype.kind == "i" else pd.to_datetime(moments).dt.date


def _stores(_: Data, stores: int = 1115, n: int = 942) -> Case:
    """Sales of a chain of drugstores: promotions every other week, holidays, closures, slow and fast noise."""
    rng = np.random.default_rng(SEED)
    days = pd.date_range("2013-01-01", periods=n)
    weekday, day_of_year, day = (np.asarray(part) for part in (days.dayofweek, days.dayofyear, days.day))
    promo = (((np.arange(n) + 1) // 7 % 2 == 0) & (weekday < 5)).astype(float)
    school = np.zeros(n)
    for first, last in ((1, 5), (80, 92), (180, 222), (285, 297), (355, 366)):
        school[(day_of_year >= first) & (day_of_year <= last)] = 1
    holiday = np.isin(days.strftime("%m-%d"), ["01-01", "05-01", "10-03", "12-25", "12-26"])
    easter = ["2013-03-29", "2013-04-01", "2014-04-18", "2014-04-21", "2015-04-03", "2015-04-06"]
    kind = np.where(days.isin(pd.to_datetime(easter)), "b", np.where(holiday, "a", "0"))
    december = np.where((days.month == 12) & (day < 25), 0.012 * day, 0.0)
    month = np.where(day <= 3, 0.10, 0.0) + np.where(day >= 28, 0.06, 0.0) - np.where((day > 20) & (day < 27), 0.04, 0)
    year = 0.04 * np.sin(2 * np.pi * (day_of_year - 80) / 365)
    blocks, best = [], []
    for number in range(stores):
        weekdays = np.array([0.18, 0.03, -0.02, 0, 0.05, -0.1, -0.05]) * rng.normal(1, 0.3) + rng.normal(0, 0.02, 7)
        store_type = rng.choice(list("abcd"), p=[0.54, 0.02, 0.13, 0.31])
        is_open = ((weekday < 6) | (store_type == "b")) & (kind == "0")
        before_closure = np.append(~is_open[1:], False) & (weekday < 5)
        if rng.random() < 0.16:
            first = rng.integers(300, 700)
            is_open[first : first + rng.integers(20, 184)] = False
        signal = (
            rng.normal(8.7, 0.4)
            + weekdays[weekday]
            + promo * rng.normal(0.32, 0.07) * (1 + 0.25 * (weekday == 0))
            + (december + month) * rng.normal(1, 0.3)
            + year * rng.normal(1, 0.5)
            + rng.normal(0.02, 0.05) * np.arange(n) / 365
            + school * rng.normal(0.02, 0.03)
            + 0.12 * before_closure
        )
        slow = lfilter([1.0], [1.0, -0.75], rng.normal(0, 0.045, n))
        y = np.where(is_open, np.round(np.exp(signal + slow + rng.normal(0, 0.06, n))), 0)
        best.append(np.where(is_open, np.exp(signal), 0))
        columns = {
            "unique_id": f"store_{number + 1}", "ds": days, "y": y, "open": is_open.astype(int),
            "promo": promo.astype(int), "stateholiday": kind, "schoolholiday": school.astype(int),
            "storetype": store_type, "distance": round(float(np.exp(rng.normal(7.5, 1.2))), -1),
        }  # fmt: skip
        blocks.append(pd.DataFrame(columns))
    rows = pd.concat(blocks, ignore_index=True)
    return Case(rows, 42, 7, ("promo", "schoolholiday"), ("arima.season_length=7",), np.concatenate(best))


def _weekly(_: Data, stores: int = 45, n: int = 143) -> Case:
    """Sales of a supermarket chain, in which the weeks of a year are all: holidays, and a peak before Christmas."""
    rng = np.random.default_rng(SEED)
    weeks = pd.date_range("2010-02-05", periods=n, freq="7D")
    phase = np.asarray(weeks.dayofyear) / 365.25
    holiday = np.zeros(n, dtype=bool)
    for place in (0.118, 0.695, 0.905, 0.997):
        holiday |= np.abs(phase - place) < 0.0096
    peak = np.exp(-(((phase - 0.965) / 0.022) ** 2))
    common = rng.normal(0, 0.015, n)
    blocks, best = [], []
    for number in range(stores):
        waves = sum(rng.normal(0, 0.03 / k) * np.sin(2 * np.pi * k * phase + rng.normal(0, 0.6)) for k in (1, 2, 3))
        signal = (
            rng.normal(13.7, 0.6)
            + waves
            + rng.normal(0.45, 0.2) * peak
            + np.where(holiday, rng.normal(0.06, 0.04), 0)
            + rng.normal(0.01, 0.03) * np.arange(n) / 52
        )
        slow = lfilter([1.0], [1.0, -0.8], rng.normal(0, 0.015, n))
        y = np.round(np.exp(signal + slow + common + rng.normal(0, 0.025, n)), 2)
        best.append(np.exp(signal))
        columns = {"unique_id": str(number + 1), "ds": weeks, "y": y, "isholiday": holiday.astype(int)}
        blocks.append(
            pd.DataFrame(columns).assign(temperature=60 - 25 * np.cos(2 * np.pi * phase) + rng.normal(0, 6, n))
        )
    return Case(pd.concat(blocks, ignore_index=True), 13, 52, ("isholiday",), (), np.concatenate(best))


def _cheese(data: Data) -> Case:
    rows = pd.read_csv(data / "cheese/cheese.csv").sort_values(["RETAILER", "WEEK_IDX"])
    rows.columns = ["unique_id", "ds", "y", "disp", "price"]
    return Case(rows, 8, 1, ("disp", "price"), ("arima.season_length=1",))


def _aus_retail(data: Data) -> Case:
    rows = pd.read_csv(data / "aus_retail/aus_retail.csv.gz")
    rows = rows.rename(columns={"Series ID": "unique_id", "Month": "ds", "Turnover": "y"})[["unique_id", "ds", "y"]]
    long = rows.groupby("unique_id")["y"].transform("size") >= 48
    ends = rows.groupby("unique_id")["ds"].transform("max") == rows["ds"].max()
    return Case(rows[long & ends].sort_values(["unique_id", "ds"]), 24, 12)


def _hospital(data: Data) -> Case:
    wide = pd.read_csv(data / "hospital/hospital_wide.csv")
    rows = wide.melt("month", var_name="unique_id", value_name="y").rename(columns={"month": "ds"})
    rows["ds"] += "-01"
    return Case(rows[["unique_id", "ds", "y"]], 12, 12)


def _online_retail(data: Data) -> Case:
    """Revenue by country and day, of countries with sales on a third of the days; days without any are 0."""
    lines = pd.read_csv(data / "online_retail/online_retail_2010-12_to_2011-12.csv.gz", dtype={"InvoiceNo": str})
    lines = lines[~lines["InvoiceNo"].str.startswith("C") & (lines["Quantity"] > 0) & (lines["UnitPrice"] > 0)]
    lines = lines.assign(
        y=lines["Quantity"] * lines["UnitPrice"], ds=pd.to_datetime(lines["InvoiceDate"]).dt.normalize()
    )
    sums = lines.pivot_table(index="ds", columns="Country", values="y", aggfunc="sum").asfreq("D").fillna(0.0)
    frequent = sums.loc[:, (sums > 0).sum() > len(sums) / 3]
    rows = frequent.rename_axis("ds").reset_index().melt("ds", var_name="unique_id", value_name="y")
    return Case(rows[["unique_id", "ds", "y"]].sort_values(["unique_id", "ds"]), 28, 7)


CASES: dict[str, Callable[[Data], Case]] = {
    "stores": _stores,
    "weekly": _weekly,
    "cheese": _cheese,
    "aus_retail": _aus_retail,
    "hospital": _hospital,
    "online_retail": _online_retail,
}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = os.environ.get("DLMINE_DATA")
    parser.add_argument("--data", type=Path, default=folder, required=folder is None, help="folder of public data")
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES), help="which to run")
    parser.add_argument("--set", nargs="*", default=(), help="further settings, e.g. lightgbm.enabled=true")
    parser.add_argument("--keep", type=Path, help="folder that keeps the files and tables")
    return parser.parse_args()


if __name__ == "__main__":
    main()
