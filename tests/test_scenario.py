from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from dlmine_spark.errors import ConfigError
from dlmine_spark.pipelines.scenario import Planned
from dlmine_spark.scenario import Change, Scenario, load_scenario

HORIZON = (date(2024, 6, 17), date(2024, 6, 30))


def written(folder: Path, text: str) -> Path:
    file = folder / "what_if.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_scenario_is_read_with_the_moments_it_is_about(tmp_path: Path) -> None:
    scenario = load_scenario(
        written(
            tmp_path,
            """
name: cheaper_beer
changes:
  - {series: S001, from: 2024-06-20, set: {promo: 1}, multiply: {price: 0.9}}
  - {set: {open: 0}}
""",
        )
    )

    first, second = scenario.changes
    assert (scenario.name, first.series, first.covariates) == ("cheaper_beer", ("S001",), ("promo", "price"))
    assert first.bounds(HORIZON) == (date(2024, 6, 20), date(2024, 6, 30))
    assert (second.series, second.bounds(HORIZON)) == ((), HORIZON)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("changes: [{set: {promo: 1}}]", r"what_if\.yaml: name: is required"),
        ("name: a b\nchanges: [{set: {promo: 1}}]", "expected a name of letters"),
        ("name: a\nchanges: []", "changes: .*at least 1"),
        ("name: a\nchanges: [{series: S1}]", r"changes\.0: changes nothing: give set, multiply or add"),
        ("name: a\nchanges: [{set: {p: 1}, add: {p: 1}}]", "p: set, multiply and add say different things"),
        ("name: a\nchanges: [{sett: {p: 1}}]", r"changes\.0\.sett: unknown key"),
        ("name: a\nchange: []", r"change: unknown key, did you mean changes\?"),
        ("name: a\nchanges: [{multiply: {p: ten}}]", r"changes\.0\.multiply\.p: .*'ten'"),
    ],
)
def test_what_is_wrong_with_a_scenario_is_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_scenario(written(tmp_path, text))


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"from": "2024-06-16"}, "2024-06-16 is outside of the horizon, 2024-06-17 to 2024-06-30"),
        ({"to": "soon"}, "expected a moment such as 2024-06-30, got 'soon'"),
        ({"to": 7}, "expected a moment such as 2024-06-30, got '7'"),
        ({"from": "2024-06-20", "to": "2024-06-19"}, "2024-06-20 is after"),
    ],
)
def test_a_change_outside_of_the_horizon_is_refused(bounds: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Change.model_validate({"set": {"promo": 1}, **bounds}).bounds(HORIZON)


@pytest.mark.spark
def test_changes_follow_one_another_where_they_are_about(spark: SparkSession) -> None:
    scenario = Scenario.model_validate(
        {
            "name": "a",
            "changes": [
                {"series": ["x"], "to": "2024-06-17", "set": {"promo": 1}, "multiply": {"price": 0.5}},
                {"from": "2024-06-18", "add": {"price": 1}},
            ],
        }
    )
    planned = Planned(tuple((change, *change.bounds(HORIZON)) for change in scenario.changes))
    days = [date(2024, 6, day) for day in (16, 17, 18)]
    rows = [(name, day, False, 10.0) for name in ("x", "y") for day in days]
    known = spark.createDataFrame(rows, "unique_id string, ds date, promo boolean, price double")

    changed = planned.applied(known).withColumn("is_changed", planned.is_changed()).orderBy("unique_id", "ds")

    assert [tuple(row)[2:] for row in changed.collect()] == [
        (False, 10.0, False),
        (True, 5.0, True),
        (False, 11.0, True),
        (False, 10.0, False),
        (False, 10.0, False),
        (False, 11.0, True),
    ]
