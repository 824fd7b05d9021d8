"""Rules between single values: which are found, and what is suspicious for breaking them."""

from __future__ import annotations

import random

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from dlmine_spark.cleaning.associations import MOST_RULES, value_rules
from dlmine_spark.cleaning.dependencies import Dependency
from dlmine_spark.config import MinedRules
from tests.cleaning.test_dependencies import cells, frame, treated

PEOPLE = [("husband", "male"), ("wife", "female"), ("child", "male"), ("child", "female")] * 50
"""Of the role, only some values determine the sex, and the sex leaves two roles."""


def sample(rows: list[tuple[str | None, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["role", "sex"], dtype=object)


def found(rows: list[tuple[str | None, ...]], known: tuple[Dependency, ...] = ()) -> list[tuple[str, tuple[str, ...]]]:
    return [(str(rule), rule.usual) for rule in value_rules(sample(rows), known, MinedRules())]


def test_single_values_say_what_their_column_does_not() -> None:
    by_role, by_sex = found(PEOPLE)[:2], found(PEOPLE)[2:]

    assert by_role == [("role=husband->sex", ()), ("role=wife->sex", ())]
    assert by_sex == [("sex=female->role", ("child", "wife")), ("sex=male->role", ("child", "husband"))]


def test_a_value_may_leave_a_few_others() -> None:
    # Flagships are in two of ten towns, markets everywhere.
    rows = [("flagship", f"town{place % 2}") for place in range(60)]
    rows += [("market", f"town{place % 10}") for place in range(200)]

    (rule,) = value_rules(sample(rows), (), MinedRules())

    assert (str(rule), rule.usual, rule.rows) == ("role=flagship->sex", ("town0", "town1"), 60)
    assert rule.error == 0
    # In 100 of 260 rows the town is one of these anyhow.
    assert rule.agreement == pytest.approx(1.0)


def test_an_error_keeps_no_rule_from_being_found_and_is_measured() -> None:
    rows = [*PEOPLE, ("husband", "female")]

    rule = value_rules(sample(rows), (), MinedRules())[1]

    assert (str(rule), rule.rows, rule.error) == ("role=husband->sex", 51, pytest.approx(1 / 51))
    # Spark takes no numbers of numpy's into a table.
    assert [type(value) for value in (rule.error, rule.agreement, rule.rows)] == [float, float, int]


def test_blanks_and_usual_values_say_nothing() -> None:
    blank = [(role, None if role != "child" else sex) for role, sex in PEOPLE]
    usual = [(role, "male") for role, _ in PEOPLE] + [("wife", "female"), ("child", "female")]

    assert found(blank) == []
    assert found(usual) == []


def test_what_chance_makes_is_no_rule() -> None:
    chance = random.Random(7)
    rows: list[tuple[str | None, ...]] = [
        (f"role{place % 50}", chance.choices(("male", "female"), (85, 15))[0]) for place in range(1_000)
    ]
    women = {role for role, sex in rows if sex == "female"}

    # In some of fifty groups of twenty all are men, as most are anyhow.
    assert len(women) < 50
    assert found(rows) == []


def test_identifiers_and_measures_have_no_rules_of_single_values() -> None:
    # Each of a hundred numbers is there thirty times and always in the same town.
    rows: list[tuple[str | None, ...]] = [(f"{place % 100}", f"town{place % 10}") for place in range(3_000)]

    assert found(rows) == []


def test_dependencies_of_whole_columns_are_not_said_again() -> None:
    rows: list[tuple[str | None, ...]] = [(role, role[0]) for role, _ in PEOPLE]
    known = (Dependency(("sex",), "role", 0.0, 1.0, 3, 200),)

    assert len(found(rows)) == 6
    assert found(rows, known) == []


def test_there_is_an_end_to_them() -> None:
    table = pd.DataFrame({name: [f"{place % 40}" for place in range(1_200)] for name in ("a", "b", "c")}, dtype=object)

    assert len(value_rules(table, (), MinedRules())) == MOST_RULES


@pytest.mark.spark
def test_a_cell_that_breaks_one_is_suspicious_and_repaired_where_one_value_is_usual(spark: SparkSession) -> None:
    towns = [("flagship", f"town{place % 2}", "yes") for place in range(60)]
    towns += [("market", f"town{place % 10}", "yes" if place % 3 else "no") for place in range(200)]
    towns[10] = ("flagship", "town7", "yes")
    towns[20] = ("flagship", "town0", "no")

    found = cells(treated(frame(spark, "type string, town string, parking string", towns)))

    assert found == [(10, "town", "town7", None), (20, "parking", "no", "yes")]


@pytest.mark.spark
def test_a_blank_is_no_breach_of_a_rule_about_one_value(spark: SparkSession) -> None:
    rows: list[tuple[str | None, ...]] = [*PEOPLE, *[("wife", None)] * 30, *[("child", None)] * 30]

    assert cells(treated(frame(spark, "role string, sex string", rows))) == []
