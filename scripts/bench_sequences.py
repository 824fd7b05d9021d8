"""What the signal ``sequences`` is worth to the forecast: on the demo, and where it is known whether it should be.

    .venv/bin/python scripts/bench_sequences.py [--worlds linked unlinked demo] [--keep FOLDER] [--set KEY=VALUE ...]

``linked`` and ``unlinked`` are a small chain of stores whose customers buy some items a visit after others; promotions
name one item a week. In the first, what a promotion brings to a visit later moves a store's sales a week later; in the
second it does not. ``demo`` is ``dlmine simulate --size small --seed 7``, where sequences move no sales. Each runs the
stages up to the ablation of ``sequences`` and prints the error with and without it. A lakehouse that is kept is gone on
with.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from dlmine_spark import schemas as s
from dlmine_spark.config import Config, load_config
from dlmine_spark.datasets.simulate import simulate
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.graph import bring_up_to_date
from dlmine_spark.session import open_session

ROOT = Path(__file__).resolve().parents[1]
STORES, DAYS, AHEAD, CUSTOMERS = 24, 500, 28, 600
START = date(2023, 1, 2)
FIRSTS, OTHERS = ("razors", "paint", "seeds"), ("tea", "rice", "cola", "soap", "eggs")
SECONDS = dict(zip(FIRSTS, ("foam", "rollers", "pots"), strict=True))
BACKGROUND = tuple(f"item {number:02}" for number in range(12))
FOLLOWS, PROMOTED, LATER = 0.5, 0.12, 0.35
"""Chance of a second item at the next visit; logarithmic uplift of a promotion, and a week later in the linked world of
one that brings something.
"""
BUDGET = (
    "training.mined=[segments, rules, arima, sequences]",
    "ablation={signals: [sequences], seeds: 2}",
    "evaluation.cutoffs=2",
    "segmentation.customers=false",
    "training.epochs=5",
    "training.samples_per_epoch=4000",
)
OWN = (
    "sources.receipts={kind: lines, path: $FOLDER/receipts.csv, "
    "columns: {basket_id: b, ts: t, item: i, customer_id: c, store_id: s}}",
    "sources.sales={kind: panel, path: $FOLDER/sales.csv, columns: {unique_id: s, ds: d, y: y}}",
    "sources.calendar={kind: calendar, path: $FOLDER/calendar.csv, "
    "columns: {unique_id: s, ds: d, promo: {type: boolean}, item: {type: string}}}",
    "mining={min_support: .01, promoted_item: item, sequences: {min_support: .1}}",
    "segmentation={k: 3, restarts: 1}",
    "arima={order: [1, 0, 0], feature_origins: 2}",
    "spark.jvm=quick",
)


class Quiet:
    """Prints a line per stage."""

    def started(self, stage: str, index: int, total: int) -> None:
        """Nothing: what it did is told when it ends."""

    def up_to_date(self, stage: str, index: int, total: int) -> None:
        """Nothing either."""

    def finished(self, stage: str, message: str, seconds: float) -> None:
        print(f"  {stage} ({seconds:.0f} s): {message}", flush=True)

    def failed(self, stage: str, seconds: float) -> None:
        print(f"  {stage} failed after {seconds:.0f} s", flush=True)


def main() -> None:
    """Print what each world says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", default=["linked", "unlinked", "demo"])
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dlmine-bench-") as scratch:
        for name in arguments.worlds:
            folder = (arguments.keep or Path(scratch)) / name
            _measure(name, config_of(name, folder, tuple(arguments.settings)))


def config_of(name: str, folder: Path, settings: tuple[str, ...]) -> Config:
    """Write the files of a world, where they are not there, and say how they are to be read."""
    files = folder / "raw"
    lakehouse = f"lakehouse.root={folder / 'lakehouse'}"
    if name == "demo":
        if not files.exists():
            simulate("small", 7, files)
        names = {"receipts": "receipts_*", "sales": "sales", "calendar": "calendar", "stores": "stores"}
        paths = [f"sources.{source}.path={files / file}.csv" for source, file in names.items()]
        return load_config([ROOT / "conf/examples/demo.yaml"], [*paths, lakehouse, *BUDGET, *settings])
    if not files.exists():
        files.mkdir(parents=True)
        for file, rows in world(is_linked=name == "linked").items():
            rows.to_csv(files / f"{file}.csv", index=False)
    own = [part.replace("$FOLDER", str(files)) for part in OWN]
    return load_config([], [*own, lakehouse, *BUDGET, *settings])


def world(*, is_linked: bool) -> dict[str, pd.DataFrame]:
    """Receipts, sales and calendar of a small chain; the two worlds differ in sales only."""
    rng = np.random.default_rng(7)
    days = np.array([START + timedelta(days=day) for day in range(DAYS + AHEAD)])
    stores = [f"s{number:02}" for number in range(STORES)]
    weeks = -(-len(days) // 7)
    plan = rng.choice([*FIRSTS, *OTHERS, ""], size=(STORES, weeks), p=[*[0.6 / 8] * 8, 0.4])
    promoted = np.repeat(plan, 7, axis=1)[:, : len(days)]
    earlier = np.concatenate([np.full((STORES, 7), ""), promoted[:, :-7]], axis=1)
    week = np.log([0.8, 0.8, 0.9, 1.0, 1.2, 1.5, 0.9])
    log_sales = (
        rng.normal(8, 0.4, (STORES, 1))
        + week[np.arange(len(days)) % 7]
        + PROMOTED * (promoted != "")
        + (LATER * np.isin(earlier, FIRSTS) if is_linked else 0.0)
        + rng.normal(0, 0.07, (STORES, len(days)))
    )
    every = {"s": np.repeat(stores, len(days)), "d": np.tile(days, STORES)}
    sales = pd.DataFrame({**every, "y": np.exp(log_sales).round(2).ravel()})
    calendar = pd.DataFrame({**every, "promo": (promoted != "").astype(int).ravel(), "item": promoted.ravel()})
    return {
        "receipts": _receipts(promoted[:, :DAYS], stores, rng),
        "sales": sales[sales["d"] < days[DAYS]],
        "calendar": calendar,
    }


def _receipts(promoted: np.ndarray, stores: list[str], rng: np.random.Generator) -> pd.DataFrame:
    """Each customer comes about once a week, to the same store."""
    items = np.array([*FIRSTS, *SECONDS.values(), *OTHERS, *BACKGROUND])
    place = {item: number for number, item in enumerate(items)}
    rows = []
    for customer in range(CUSTOMERS):
        store = customer % STORES
        visits = np.arange(rng.integers(0, 7), DAYS - 1, 7)
        visits = np.clip(visits + rng.integers(-1, 2, len(visits)), 0, DAYS - 1)
        chance = np.full((len(visits), len(items)), 0.08)
        chance[:, [place[item] for item in SECONDS.values()]] = 0.02
        on_offer = promoted[store, visits]
        for number in np.flatnonzero(on_offer != ""):
            chance[number, place[on_offer[number]]] *= 2.5
        holds = rng.random(chance.shape) < chance
        for first, second in SECONDS.items():
            comes = holds[:-1, place[first]] & (rng.random(len(visits) - 1) < FOLLOWS)
            holds[1:, place[second]] |= comes
        numbers, held = np.nonzero(holds)
        rows.append(
            pd.DataFrame(
                {
                    "b": [f"{customer}-{number}" for number in numbers],
                    "t": [f"{START + timedelta(days=int(visits[number]))} 12:00:00" for number in numbers],
                    "i": items[held],
                    "c": f"c{customer:03}",
                    "s": stores[store],
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def _measure(name: str, config: Config) -> None:
    print(f"{name}:", flush=True)
    start = time.perf_counter()
    with open_session(config.spark) as spark:
        lakehouse = Lakehouse(spark, config.lakehouse)
        bring_up_to_date(config, lakehouse, ["ablation"], Quiet())
        rows = lakehouse.read(s.ABLATION.name).toPandas() if lakehouse.exists(s.ABLATION.name) else pd.DataFrame()
    for row in rows.to_dict("records"):
        print(
            f"  WAPE {100 * row['wape_with']:.2f} % with, {100 * row['wape_without']:.2f} % without {row['signal']}: "
            f"{100 * row['difference']:+.2f} pp ({100 * row['lo_95']:+.2f} to {100 * row['hi_95']:+.2f}), "
            f"p = {row['p_value']:.3g}, {row['forecasts']:,} forecasts",
            flush=True,
        )
    print(f"  {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
