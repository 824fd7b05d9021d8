"""Drift: what differs from the run before, and what only chance makes different."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from dlmine_spark.cleaning.drift import ColumnProfile, Profile, changes, ks_distance, total_variation
from dlmine_spark.cleaning.statistics import Statistic, measure, profile_of, statistics_of
from dlmine_spark.config import Config, Drift, load_config
from dlmine_spark.errors import ConfigError, SourceError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import clean, dry_run
from tests.cleaning.examples import values

EVERYTHING = Drift()


def test_the_distance_of_numbers_is_the_largest_between_their_cumulative_shares() -> None:
    assert ks_distance([1, 2, 3, 4], [1, 2, 3, 4]) == 0
    assert ks_distance([1, 2, 3, 4], [11, 12, 13, 14]) == 1
    # Half of the values are at most 2 in one, none in the other.
    assert ks_distance([1, 2, 3, 4], [3, 3, 4, 4]) == 0.5
    # Values that return count as often as they do.
    assert ks_distance([0, 0, 0, 1], [0, 0, 1, 1]) == 0.25


def test_the_distance_of_texts_is_the_share_that_would_have_to_change() -> None:
    assert total_variation({"a": 0.5, "b": 0.5}, {"b": 0.5, "a": 0.5}) == 0
    assert total_variation({"a": 1.0}, {"b": 1.0}) == 1
    assert total_variation({"a": 0.7, "b": 0.3}, {"a": 0.5, "b": 0.3, "c": 0.2}) == pytest.approx(0.2)
    # Of many rare texts, different ones may happen to be listed.
    assert total_variation({"a": 0.01, "b": 0.01}, {"c": 0.01, "d": 0.01}) == 0
    assert total_variation({}, {}) == 0


def profile(rows: int = 10_000, **columns: ColumnProfile) -> Profile:
    return Profile(rows, columns)


NUMBERS = ColumnProfile(0.0, tuple(range(51)))
TEXTS = ColumnProfile(0.1, (), {"UK": 0.6, "FR": 0.4})


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (profile(), profile(), []),
        (profile(100), profile(151), [("drift_rows", "", "151 good rows, 100 in the run before (+51%, drift.rows is")]),
        (profile(100), profile(49), [("drift_rows", "", "49 good rows, 100 in the run before (-51%")]),
        (profile(100), profile(150), []),
        (
            profile(a=ColumnProfile(0.0)),
            profile(a=ColumnProfile(0.15)),
            [("drift_blanks", "a", "column a: 15% blanks, 0% in the run before")],
        ),
        (profile(a=ColumnProfile(0.05)), profile(a=ColumnProfile(0.15)), []),
        (
            profile(a=NUMBERS),
            profile(a=ColumnProfile(0.0, tuple(range(20, 71)))),
            [("drift_shares", "a", "(Kolmogorov-Smirnov distance 0.39, drift.shares is 0.2; median 45, 25 in the run")],
        ),
        (
            profile(a=TEXTS),
            profile(a=ColumnProfile(0.1, (), {"FR": 0.4, "United Kingdom": 0.5, "UK": 0.1})),
            [
                (
                    "drift_shares",
                    "a",
                    "(total variation distance 0.50, drift.shares is 0.2; 'UK' 10%, was 60%, 'United Kingdom' 50%, was "
                    "0%, 'FR' 40%, was 40%)",
                )
            ],
        ),
        # Another type, or no column any more.
        (profile(a=NUMBERS, b=TEXTS), profile(a=TEXTS, c=TEXTS), []),
        # All blanks have no values to compare.
        (profile(a=NUMBERS), profile(a=ColumnProfile(1.0)), [("drift_blanks", "a", "100% blanks")]),
    ],
)
def test_what_differs_by_more_than_is_allowed_is_told(
    before: Profile, now: Profile, expected: list[tuple[str, str, str]]
) -> None:
    found = changes(before, now, EVERYTHING)

    assert [(one.rule, one.column) for one in found] == [(rule, column) for rule, column, _ in expected]
    for change, (_, _, message) in zip(found, expected, strict=True):
        assert message in change.message


@pytest.mark.parametrize(("rows", "found"), [(4, 0), (40, 1), (4000, 1)])
def test_few_rows_differ_by_chance(rows: int, found: int) -> None:
    before, now = ColumnProfile(0.0, tuple(range(51))), ColumnProfile(0.0, tuple(range(35, 86)))

    assert len(changes(profile(rows, a=before), profile(rows, a=now), EVERYTHING)) == found


@pytest.mark.parametrize(("rows", "found"), [(10, 0), (1000, 1)])
def test_few_blanks_come_by_chance(rows: int, found: int) -> None:
    before, now = ColumnProfile(0.0), ColumnProfile(0.2)

    assert len(changes(profile(rows, a=before), profile(rows, a=now), EVERYTHING)) == found


def test_what_is_not_asked_is_not_compared() -> None:
    nothing = Drift(rows=None, blanks=None, shares=None)
    other = profile(1, a=ColumnProfile(0.5, (9.0,) * 51), b=ColumnProfile(1.0))

    assert changes(profile(a=NUMBERS, b=TEXTS), other, nothing) == []


@pytest.mark.spark
def test_statistics_come_back_from_the_table_as_they_were(spark: SparkSession) -> None:
    rows = spark.createDataFrame(
        [(float(n), "odd" if n % 2 else None, "x" * 200, None) for n in range(101)],
        "n double, t string, l string, d date",
    )
    compared = ["n", "t", "l", "d"]

    found = statistics_of(measure(rows, compared, "d").collect()[0], compared, "d")

    assert len(found) == len(set(found))
    assert profile_of(reversed(found)) == Profile(
        101,
        {
            "d": ColumnProfile(1.0),
            "l": ColumnProfile(0.0, (), {"x" * 100: 1.0}),
            "t": ColumnProfile(pytest.approx(51 / 101), (), {"odd": 1.0}),
            "n": ColumnProfile(0.0, tuple(float(2 * n) for n in range(51))),
        },
    )
    nothing = statistics_of(measure(rows.where("false"), compared, None).collect()[0], compared, None)
    assert nothing == [Statistic("", "rows", "", 0.0)]
    assert profile_of([]) is None


# The whole stage


def write(path: Path, rows: int, price: float, country: str = "UK") -> str:
    lines = [f"{n},{price + n % 7},{country if n % 2 else 'FR'}" for n in range(rows)]
    path.write_text("id,price,country\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def config(path: str, root: Path | None = None, **drift: Any) -> Config:
    columns = {"id": None, "price": {"type": "double"}, "country": None}
    sales = {"kind": "table", "path": path, "columns": columns, "drift": drift}
    lakehouse = {"root": str(root)} if root is not None else {}
    return Config.model_validate({"sources": {"sales": sales}, "lakehouse": lakehouse})


@pytest.mark.spark
def test_a_changed_source_is_warned_of_and_the_next_run_compares_with_it(
    lakehouse: Lakehouse, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "s.csv", rows=60, price=1)
    with caplog.at_level(logging.DEBUG, logger="dlmine_spark"):
        clean.run(config(path), lakehouse.for_run("one", {}))
    assert "source sales: there is no earlier run to compare with" in caplog.text

    write(tmp_path / "s.csv", rows=200, price=100, country="Britain")
    caplog.clear()
    clean.run(config(path), lakehouse.for_run("two", {}))

    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [message.partition(" (source sales): ")[2][:31] for message in told] == [
        "200 good rows, 60 in the run be",
        "column price: its values are ot",
        "column country: its values are ",
    ]
    found = lakehouse.read("ops.quality").where("rule like 'drift%'").orderBy("rule", "column")
    assert values(found, "run_id", "source", "outcome", "rule", "column", "count") == [
        ("two", "sales", "warning", "drift_rows", "", 1),
        ("two", "sales", "warning", "drift_shares", "country", 1),
        ("two", "sales", "warning", "drift_shares", "price", 1),
    ]

    caplog.clear()
    clean.run(config(path, columns=["price"]), lakehouse.for_run("three", {}))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    sizes = lakehouse.read("ops.profiles").groupBy("run_id").count().orderBy("run_id")
    # Rows; blanks of three columns; quantiles of one; two countries, and the most frequent of the ids.
    assert dict(values(sizes, "run_id", "count")) == {"one": 1 + 3 + 51 + 2 + 50, "three": 1 + 1 + 51, "two": 107}


@pytest.mark.spark
def test_a_change_can_stop_the_run_until_somebody_accepts_it(lakehouse: Lakehouse, tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", rows=60, price=1)
    clean.run(config(path, action="error"), lakehouse)
    before = lakehouse.version("silver.sales")
    write(tmp_path / "s.csv", rows=60, price=100)
    accept = r"if that is right, run once with --set sources\.sales\.drift\.action=warn; no silver table was changed"

    # Neither the run that stopped nor the dry one is what the next is compared with.
    for _ in range(2):
        with pytest.raises(SourceError, match=rf"s\.csv \(source sales\): column price: .*{accept}"):
            clean.run(config(path, action="error"), lakehouse)
    with pytest.raises(SourceError, match=accept):
        dry_run.run(config(path, Path(lakehouse.config.root), action="error"), lakehouse)
    assert lakehouse.version("silver.sales") == before

    clean.run(config(path, action="warn"), lakehouse)
    clean.run(config(path, action="error"), lakehouse)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("drift: {columns: [prise]}", r"drift\.columns: no column prise is mapped, did you mean price\?"),
        ("drift: {shares: 2}", r"sources\.s\.drift\.shares: .*less than or equal to 1"),
        ("drift: {action: quarantine}", r"sources\.s\.drift\.action: "),
        ("drift: {row: 1}", r"sources\.s\.drift\.row: unknown key"),
    ],
)
def test_wrong_settings_of_drift_are_refused(settings: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config((), [f"sources.s={{kind: table, path: f, columns: {{price: {{type: double}}}}, {settings}}}"])
    with pytest.raises(ConfigError, match="kind baskets has no columns to compare"):
        load_config((), ["sources.b={kind: baskets, path: f, drift: {columns: items}}"])
