"""A whole report from made-up numbers: small, fixed by its seed, and with everything on it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd

from dlmine_spark.report.data import ChosenSeries, Extent, ReportData, Truth

HORIZON = 28
LAST = date(2024, 6, 30)
CUTOFF = LAST - timedelta(days=HORIZON)
NASTY = "</script><img src=x onerror=\"window.hacked=1\"><b>bold</b> & 'quotes'"
"""A name that would break out of text, attributes and scripts if any of them forgot to escape."""
VICIOUS = '<!--<script>\u2028window.hacked=2//\u2029"></style><style>*{display:none}</style>{{7*7}}'
"""Another one: comments in scripts, line ends of JavaScript's own, styles, templates."""


def fake_report(*, nasty: bool = True, further: int = 6) -> ReportData:
    """``further`` series can be looked up besides the four that are drawn."""
    rng = np.random.default_rng(11)
    names = ["store_07", "store_23", "store_31", NASTY if nasty else "store_02"]
    return ReportData(
        title="Forty stores in two years",
        created=datetime(2024, 7, 1, 6, 30, tzinfo=UTC),
        extent=Extent(
            series=max(40, 4 + further), first=date(2022, 1, 1), last=LAST, step="day", steps=912, baskets=60_212
        ),
        horizon=HORIZON,
        quality_runs=pd.DataFrame(
            [
                (datetime(2024, 6, 30 - back, 5, 0), source, rows, rows - refused, refused, 0, 0, 3 * refused)
                for back in range(12)
                for source, rows, refused in (
                    ("lines", 214_332 - 400 * back, 2_881 - 190 * (back % 5)),
                    (VICIOUS if nasty else "sales", 36_540 - 40 * back, 219 + 30 * (back % 3)),
                )
            ],
            columns=[
                "cleaned_at",
                "source",
                "rows_in",
                "accepted",
                "quarantined",
                "duplicates",
                "superseded",
                "repaired",
            ],
        ),
        sources=pd.DataFrame(
            {
                "source": ["lines", "sales", "stores"],
                "rows_in": [214_332, 36_540, 40],
                "accepted": [210_119, 36_002, 40],
                "quarantined": [2_881, 219, 0],
                "duplicates": [1_332, 219, 0],
                "superseded": [0, 100, 0],
            }
        ),
        repairs=pd.DataFrame(
            [
                ("sales", "decimal_comma", "y", 1210),
                ("sales", "fill", "y", 412),
                ("sales", "outlier", "y", 57),
                ("lines", "date_format", "ts", 3921),
                ("lines", "category_typo", "item", 744),
                ("lines", "currency_sign", "price", 2210),
            ],
            columns=["source", "rule", "column", "count"],
        ),
        repair_examples=pd.DataFrame(
            [
                ("sales", "store_07, 2023-04-02", "y", "1.204,50", "1204.5", "decimal_comma"),
                ("lines", "100233", "item", "buter", "butter", "category_typo"),
                ("lines", "100871", "price", "€ 3,99", "3.99", "currency_sign"),
                ("sales", "store_31, 2022-11-11", "y", None, "812.25", "fill"),
            ],
            columns=["source", "key", "column", "old_value", "new_value", "rule"],
        ),
        rejections=pd.DataFrame(
            [
                ("lines", "out_of_range", "quantity", 2101, "quantity is -3, below the minimum 0"),
                ("lines", "truncated", "_raw", 780, "4 cells instead of 7"),
                ("sales", "unparsed", "ds", 219, NASTY if nasty else "no date: 31.02.2023"),
            ],
            columns=["source", "rule", "column", "count", "message"],
        ),
        set_aside=pd.DataFrame(
            [(NASTY if nasty else "head office", 24, date(2022, 1, 1), date(2023, 12, 1), "a row each month")],
            columns=["unique_id", "rows", "start", "end", "reason"],
        ),
        profiles=_profiles(rng),
        **_map(rng, names[-1]),
        members=_members(names),
        rules=_rules(rng, nasty).head(25),
        rule_cloud=_rules(rng, nasty),
        rules_total=len(_rules(rng, nasty)),
        itemsets=pd.DataFrame({"size": [1, 2, 3], "count": [61, 94, 22]}),
        sequences=pd.DataFrame(
            [
                ([["razors"], ["shaving foam", NASTY if nasty else "soap"]], 0.02, 0.4, 1.9),
                ([["flour"], ["sugar"], ["flour"]], 0.03, 0.5, 1.1),
            ],
            columns=["sequence", "support", "confidence", "lift"],
        ),
        mining_note="177 itemsets by fpgrowth, the same by apriori; 60 rules",
        chosen=_chosen(names),
        listed=(*_chosen(names), *_further(further)),
        **_series(rng, [*names, *(f"store_{number:04d}" for number in range(40, 40 + further))]),
        metrics=pd.DataFrame(
            [
                (model, metric, value)
                for model, values in {
                    "lstm": (0.0812, 71.2, 103.0, 0.088, 0.71, 0.79, 0.94),
                    "arima": (0.0931, 82.8, 121.4, 0.098, 0.82, 0.76, 0.91),
                    "seasonal_naive": (0.1284, 112.0, 170.2, 0.133, 1.11, None, None),
                }.items()
                for metric, value in zip(
                    ("wape", "mae", "rmse", "smape", "mase", "coverage_80", "coverage_95"), values, strict=True
                )
            ],
            columns=["model", "metric", "value"],
        ),
        comparisons=pd.DataFrame(
            [
                ("arima", "lstm", 11.6, 1.9, 2e-7, 1_400),
                ("arima", "seasonal_naive", -29.2, 3.1, 1e-9, 1_400),
                ("lstm", "seasonal_naive", -40.8, 3.3, 1e-12, 1_400),
            ],
            columns=["model", "other", "difference", "standard_error", "p_value", "forecasts"],
        ),
        wape_by_step=pd.DataFrame(
            [
                (model, h, base * (1 + 0.006 * h) * (1 + 0.12 * np.sin(2 * np.pi * h / 7)))
                for model, base in {"lstm": 0.075, "arima": 0.085, "seasonal_naive": 0.118}.items()
                for h in range(1, HORIZON + 1)
            ],
            columns=["model", "h", "value"],
        ),
        wape_by_segment=pd.DataFrame(
            [
                (model, str(segment), base * (0.8 + 0.2 * segment))
                for model, base in {"lstm": 0.08, "arima": 0.092, "seasonal_naive": 0.128}.items()
                for segment in range(4)
            ],
            columns=["model", "segment", "value"],
        ),
        wape_by_part=pd.DataFrame(
            [
                (model, segment, f"{first}-{first + 6}", base * (0.8 + 0.2 * place) * (1 + 0.01 * first))
                for model, base in {"arima": 0.092, "lstm": 0.08}.items()
                for place, segment in enumerate(["0", "1", "2", VICIOUS if nasty else "3"])
                for first in (1, 8, 15, 22)
            ],
            columns=["model", "segment", "steps", "value"],
        ),
        coverage=pd.DataFrame(
            [("lstm", str(segment), "1-7", 0.79 + 0.01 * segment, 0.94) for segment in range(4)],
            columns=["model", "segment", "steps", "coverage_80", "coverage_95"],
        ),
        effects=pd.DataFrame(
            [
                ("segments", 0.081, 0.0847, 0.0037, 0.0012, 0.0062, 0.008, 3, 2, 2_800),
                ("arima", 0.081, 0.0815, 0.0005, -0.0011, 0.0021, 0.44, 3, 2, 2_800),
                ("rules", 0.081, 0.0797, -0.0013, -0.0022, -0.0004, 0.01, 3, 2, 2_800),
                ("all", 0.081, 0.0862, 0.0052, None, None, None, 3, 2, 2_800),
            ],
            columns=[
                "signal",
                "wape_with",
                "wape_without",
                "difference",
                "lo_95",
                "hi_95",
                "p_value",
                "seeds",
                "origins",
                "forecasts",
            ],
        ),
        trials=pd.DataFrame(
            [
                (0, "complete", 0.084, 12, 61.0, None, "hidden 64, learning_rate 0.003"),
                (1, "complete", 0.081, 12, 83.0, None, "hidden 96, learning_rate 0.004"),
                (2, "pruned", 0.121, 2, 9.0, None, "hidden 16, learning_rate 0.0005"),
                (3, "failed", None, 1, 3.0, NASTY if nasty else "no number", NASTY if nasty else "hidden 8"),
            ],
            columns=["number", "state", "value", "epochs", "seconds", "error", "settings"],
        ),
        tuned=pd.DataFrame(
            [("learning_rate", 0.003, 0.004, 0.7), ("hidden", 64.0, 96.0, 0.3)],
            columns=["parameter", "default_value", "best_value", "importance"],
        ),
        tuning_effect=pd.DataFrame(
            [(0.0812, 0.0807, 0.0005, -0.0011, 0.0021, 2, 1, 1_400)],
            columns=["wape_default", "wape_best", "difference", "lo_95", "hi_95", "seeds", "origins", "forecasts"],
        ),
        importance=pd.DataFrame(
            [
                ("permutation", feature, role, value)
                for feature, role, value in [
                    ("y", "target", 0.121),
                    ("promo", "known_future", 0.044),
                    ("weekday", "known_future", 0.038),
                    ("arima forecast", "arima", 0.021),
                    ("holiday", "known_future", 0.013),
                    ("mined_segments", "mined", 0.006),
                    ("mined_rules_pull", "mined", 0.004),
                    ("temperature", "past_only", 0.001),
                    ("floor_space", "static", -0.0004),
                ]
            ],
            columns=["method", "feature", "role", "importance"],
        ),
        error_patterns=pd.DataFrame(
            [
                (["promo = 1", "segment = 3"], "forecast much too high", 112, 0.41, 4.1),
                ([f"region = {NASTY if nasty else 'north'}"], "forecast much too low", 40, 0.2, 2.0),
            ],
            columns=["conditions", "failure", "forecasts", "share", "lift"],
        ),
        surrogates=pd.DataFrame(
            [
                (["promo = 1", f"region = {NASTY if nasty else 'north'}"], 1.31, 0.34, 1.29),
                (["promo = 0"], 0.94, 0.66, 0.95),
            ],
            columns=["conditions", "ratio", "coverage", "held_out_ratio"],
        ),
        surrogate_scores={"r2": 0.67, "within_a_tenth": 0.81, "held_out": 282.0, "fitted": 700.0, "rules": 2.0},
        runs=pd.DataFrame(
            [
                ("clean", "done", 21.4, 250_912, 246_161, 3_100, "3 sources, 4,751 rows refused or duplicate"),
                ("segment", "done", 12.8, 36_002, 40, 0, "4 segments of stores, 5 of customers"),
                ("mine", "done", 15.1, 60_212, 60, 0, "177 itemsets, 60 rules"),
                ("arima", "done", 44.0, 36_002, 40, 0, "40 series: 39 ok, 1 fallback"),
                ("train", "done", 95.2, 73_080, 2, 0, "12 epochs on 2 ranks"),
                ("backtest", "done", 9.9, 3_360, 420, 0, "LSTM 8.1 %"),
            ],
            columns=["stage", "status", "seconds", "rows_in", "rows_out", "rows_rejected", "message"],
        ),
        tables=pd.DataFrame({"table": ["silver.panel", "gold.rules"], "version": [0, 3], "stage": ["clean", "mine"]}),
        config_yaml=f"report:\n  title: {NASTY if nasty else 'dlmine report'}\nevaluation:\n  horizon: 28\n",
        truth=Truth(irreducible_wape=0.0655, rules_planted=8, rules_found=8, store_types_ari=0.97),
    )


def _profiles(rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for entity, segments, features in (
        ("store", 4, ["mean level", "trend", "saturday share", "summer share", "promotion lift", "variation"]),
        ("customer", 5, ["recency", "frequency", "money"]),
    ):
        for segment in range(segments):
            size = int(rng.integers(5, 15)) * (1 if entity == "store" else 200)
            words = f"large {entity}s, strong in December"
            rows += [(entity, segment, size, name, rng.normal(10, 3), rng.normal(0, 1.2), words) for name in features]
    return pd.DataFrame(rows, columns=["entity", "segment", "size", "feature", "mean", "z", "description"])


def _chosen(names: list[str]) -> tuple[ChosenSeries, ...]:
    whys = ["Best forecast series", "Median series", "Worst forecast series", "Largest series"]
    errors = [(0.061, 0.072, 0.101), (0.083, 0.094, 0.131), (0.149, 0.142, 0.201), (0.077, 0.091, 0.122)]
    models = ("lstm", "arima", "seasonal_naive")
    return tuple(
        ChosenSeries(unique_id=name, why=why, segment=index % 3, wape=dict(zip(models, wape, strict=True)))
        for index, (name, why, wape) in enumerate(zip(names, whys, errors, strict=True))
    )


def _further(count: int) -> tuple[ChosenSeries, ...]:
    return tuple(
        ChosenSeries(
            unique_id=f"store_{40 + number:04d}",
            why="",
            segment=number % 4,
            wape={"lstm": 0.06 + 0.0001 * number, "arima": 0.07 + 0.0001 * number, "seasonal_naive": 0.12},
        )
        for number in range(count)
    )


def _map(rng: np.random.Generator, name: str) -> dict[str, pd.DataFrame]:
    entities, centres = [], []
    for entity, count, segments in (("store", 120, 4), ("customer", 300, 5)):
        middles = rng.normal(0, 3, size=(segments, 2))
        centres += [(entity, segment, float(x), float(y)) for segment, (x, y) in enumerate(middles)]
        for number in range(count):
            x, y = middles[number % segments] + rng.normal(0, 0.7, size=2)
            label = name if (entity, number) == ("store", 0) else f"{entity}_{number:02d}"
            entities.append((entity, label, number % segments, number % 50 == 7, float(x), float(y)))
    return {
        "map_entities": pd.DataFrame(entities, columns=["entity", "entity_id", "segment", "is_outlier", "x", "y"]),
        "map_centres": pd.DataFrame(centres, columns=["entity", "segment", "x", "y"]),
    }


def _members(names: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        [("store", f"store_{index:02d}", index % 4, 0.1 * index) for index in range(40)]
        + [("store", names[-1], 0, 9.9)],
        columns=["entity", "entity_id", "segment", "distance"],
    )


def _rules(rng: np.random.Generator, nasty: bool) -> pd.DataFrame:
    goods = ["bread", "butter", "pasta", "tomato sauce", "beer", "crisps", "nappies", "coffee", "milk", "jam"]
    rows = []
    for index in range(60):
        left = sorted(rng.choice(goods, size=1 + index % 2, replace=False))
        right = [goods[(goods.index(left[0]) + 3) % len(goods)]]
        if index < 2 and nasty:
            left = [(NASTY, VICIOUS)[index]]
        support = float(10 ** rng.uniform(-2, -0.8))
        confidence = float(rng.uniform(0.3, 0.9))
        rows.append((left, right, support, confidence, float(rng.uniform(1.1, 6.0))))
    frame = pd.DataFrame(rows, columns=["antecedent", "consequent", "support", "confidence", "lift"])
    # The hostile ones are among the best, so that they are on the page wherever rules are.
    frame.loc[frame.index < 2, "lift"] = 9.0
    return frame.sort_values("lift", ascending=False, ignore_index=True)


def _series(rng: np.random.Generator, names: list[str]) -> dict[str, pd.DataFrame]:
    week = np.array([0.9, 0.85, 0.9, 1.0, 1.25, 1.45, 0.65])
    history, forecasts = [], []
    for scale, name in enumerate(names, start=1):
        dates = [LAST - timedelta(days=back) for back in reversed(range(56 + HORIZON))]
        expected = {day: 400 * scale * week[day.weekday()] for day in dates}
        for day in dates:
            y = expected[day] * rng.normal(1, 0.07)
            history.append((name, day, y, False))
        for cutoff in (CUTOFF, LAST):
            for h in range(1, HORIZON + 1):
                day = cutoff + timedelta(days=h)
                base = 400 * scale * week[day.weekday()]
                for model, noise in (("lstm", 0.02), ("arima", 0.05), ("seasonal_naive", 0.1)):
                    y_hat = base * rng.normal(1, noise)
                    wide = 0.06 * base * (1 + h / 40) if model != "seasonal_naive" else np.nan
                    bounds = (y_hat - 1.28 * wide, y_hat + 1.28 * wide, y_hat - 1.96 * wide, y_hat + 1.96 * wide)
                    forecasts.append((model, name, cutoff, day, h, y_hat, *bounds))
    return {
        "history": pd.DataFrame(history, columns=["unique_id", "ds", "y", "y_imputed"]),
        "forecasts": pd.DataFrame(
            forecasts,
            columns=["model", "unique_id", "cutoff", "ds", "h", "y_hat", "lo_80", "hi_80", "lo_95", "hi_95"],
        ),
    }
