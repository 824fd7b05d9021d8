"""How large a report of many series is, and how long it takes to render: everything on it, all of it made up.

    .venv/bin/python scripts/bench_report.py [--series 1000] [--horizon 28] [--rules 1000] [--write PAGE.html]

Prints bytes and seconds. No Spark: what a lakehouse would hand over is made with numpy, as ``pipelines/report.py``
bounds it.
"""

from __future__ import annotations

import argparse
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from dlmine_spark.report.data import ChosenSeries, Extent, ReportData
from dlmine_spark.report.page import render
from dlmine_spark.report.projection import project

MODELS = {"lstm": 0.03, "arima": 0.06, "seasonal_naive": 0.12}
HISTORY, SEGMENTS, PARTS = 56, 6, 4
LAST = date(2024, 6, 30)


def main() -> None:
    """Print a line of a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=1_000)
    parser.add_argument("--horizon", type=int, default=28)
    parser.add_argument("--rules", type=int, default=1_000)
    parser.add_argument("--write", type=Path, help="keep the page here")
    arguments = parser.parse_args()
    report = made_up(arguments.series, arguments.horizon, arguments.rules)
    start = time.perf_counter()
    page = render(report).encode()
    seconds = time.perf_counter() - start
    if arguments.write:
        arguments.write.write_bytes(page)
    listed = page.count(b'class="pick"')
    print("| series | horizon | listed | bytes | s |\n|---|---|---|---|---|")
    print(f"| {arguments.series:,} | {arguments.horizon} | {listed:,} | {len(page):,} | {seconds:.1f} |")


def made_up(count: int, horizon: int, rules: int) -> ReportData:
    """A report as the pipeline would collect it, of ``count`` daily series."""
    rng = np.random.default_rng(3)
    names = [f"shop {number:05d}, article {number % 97}" for number in range(count)]
    listed = tuple(
        ChosenSeries(
            unique_id=name,
            why="Forecast better than 50% of the series" if number < 8 else "",
            segment=number % SEGMENTS,
            wape={model: float(noise * rng.uniform(0.8, 3)) for model, noise in MODELS.items()},
        )
        for number, name in enumerate(names)
    )
    return ReportData(
        title=f"{count:,} series",
        created=datetime(2024, 7, 1, tzinfo=UTC),
        extent=Extent(series=count, first=date(2022, 1, 1), last=LAST, steps=912, baskets=1_000_000),
        horizon=horizon,
        chosen=listed[:8],
        listed=listed,
        **_values(rng, names, horizon),
        **_rules(rng, rules),
        **_segments(rng, names),
        **_errors(horizon),
    )


def _values(rng: np.random.Generator, names: list[str], horizon: int) -> dict[str, pd.DataFrame]:
    """History and forecasts of every series."""
    week = np.array([0.9, 0.85, 0.9, 1.0, 1.25, 1.45, 0.65])
    levels = rng.lognormal(5, 1.5, len(names))

    def dates(first: date, steps: int) -> list[date]:
        return [first + timedelta(days=step) for step in range(steps)]

    def values(days: list[date], noise: float) -> np.ndarray:
        shape = np.array([week[day.weekday()] for day in days])
        return np.round(levels[:, None] * shape * rng.normal(1, noise, (len(names), len(days))), 2)

    past = dates(LAST - timedelta(days=HISTORY + horizon - 1), HISTORY + horizon)
    history = pd.DataFrame(
        {
            "unique_id": np.repeat(names, len(past)),
            "ds": past * len(names),
            "y": values(past, 0.1).ravel(),
            "y_imputed": False,
        }
    )
    forecasts = []
    for cutoff in (LAST - timedelta(days=horizon), LAST):
        ahead = dates(cutoff + timedelta(days=1), horizon)
        for model, noise in MODELS.items():
            mean = values(ahead, noise).ravel()
            width = np.nan if model == "seasonal_naive" else 0.12 * mean
            forecasts.append(
                pd.DataFrame(
                    {
                        "model": model,
                        "unique_id": np.repeat(names, horizon),
                        "cutoff": cutoff,
                        "ds": ahead * len(names),
                        "h": list(range(1, horizon + 1)) * len(names),
                        "y_hat": mean,
                        "lo_80": mean - 1.28 * width,
                        "hi_80": mean + 1.28 * width,
                        "lo_95": mean - 1.96 * width,
                        "hi_95": mean + 1.96 * width,
                    }
                )
            )
    return {"history": history, "forecasts": pd.concat(forecasts)}


def _rules(rng: np.random.Generator, count: int) -> dict[str, object]:
    goods = [f"article {number}" for number in range(60)]
    rows = [
        ([goods[left] for left in rng.choice(60, 1 + number % 2, replace=False)], [goods[int(rng.integers(60))]])
        for number in range(count)
    ]
    rules = pd.DataFrame(rows, columns=["antecedent", "consequent"]).assign(
        support=10 ** rng.uniform(-3, -1, count),
        confidence=rng.uniform(0.2, 0.95, count),
        lift=np.sort(rng.uniform(1.1, 9, count))[::-1],
    )
    return {"rules": rules.head(25), "rule_cloud": rules, "rules_total": count}


def _segments(rng: np.random.Generator, names: list[str]) -> dict[str, pd.DataFrame]:
    """A map of a sample, and profiles with as many features as the project has."""
    centres = rng.normal(0, 2, (SEGMENTS, 12))
    sample = names[:600]
    own = np.arange(len(sample)) % SEGMENTS
    points = centres[own] + rng.normal(0, 0.6, (len(sample), 12))
    squares = ((points[:, None] - centres[None]) ** 2).sum(axis=2)
    shares = (1 / squares) / (1 / squares).sum(axis=1, keepdims=True)
    nearest = squares.argmin(axis=1)
    mapped = project(centres, nearest.tolist(), np.sqrt(squares.min(axis=1)), shares)
    assert mapped is not None
    places, middles = mapped
    entities = pd.DataFrame({"entity": "store", "entity_id": sample, "segment": nearest, "is_outlier": False})
    numbers = np.arange(SEGMENTS)
    profiles = pd.DataFrame(
        [
            (
                "store",
                segment,
                len(names) // SEGMENTS,
                f"feature {feature}",
                10.0,
                float(rng.normal()),
                "average stores",
            )
            for segment in range(SEGMENTS)
            for feature in range(30)
        ],
        columns=["entity", "segment", "size", "feature", "mean", "z", "description"],
    )
    return {
        "profiles": profiles,
        "map_entities": entities.assign(x=places[:, 0], y=places[:, 1]),
        "map_centres": pd.DataFrame({"entity": "store", "segment": numbers, "x": middles[:, 0], "y": middles[:, 1]}),
    }


def _errors(horizon: int) -> dict[str, pd.DataFrame]:
    part = max(1, horizon // PARTS)
    return {
        "metrics": pd.DataFrame([(model, "wape", noise) for model, noise in MODELS.items()], columns=_OVERALL),
        "wape_by_step": pd.DataFrame(
            [(model, h, noise * (1 + h / 100)) for model, noise in MODELS.items() for h in range(1, horizon + 1)],
            columns=["model", "h", "value"],
        ),
        "wape_by_segment": pd.DataFrame(
            [(model, str(segment), noise) for model, noise in MODELS.items() for segment in range(SEGMENTS)],
            columns=["model", "segment", "value"],
        ),
        "wape_by_part": pd.DataFrame(
            [
                (model, str(segment), f"{1 + place * part}-{(place + 1) * part}", noise * (1 + place / 10))
                for model, noise in MODELS.items()
                for segment in range(SEGMENTS)
                for place in range(PARTS)
            ],
            columns=["model", "segment", "steps", "value"],
        ),
    }


_OVERALL = ["model", "metric", "value"]


if __name__ == "__main__":
    main()
