"""Rules mined from the data: which dependencies are found, which cell of a row that breaks one is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.checks import wrong_rules
from dlmine_spark.cleaning.dependencies import find_dependencies
from dlmine_spark.cleaning.patterns import affix, decimals, loose, width
from dlmine_spark.cleaning.plan import REASONS, REPAIRS, SUSPICIONS, WARNINGS
from dlmine_spark.cleaning.quality import choose_columns, mine_quality, treat_suspicious
from dlmine_spark.cleaning.texts import ColumnFacts, facts_of, texts_of, value_counts, with_counts
from dlmine_spark.config import ColumnConfig, MinedRules
from tests.cleaning.examples import good, source, values

pytestmark = pytest.mark.spark

TOWNS = {"10115": "Berlin", "20095": "Hamburg", "50667": "Koeln", "80331": "Muenchen", "70173": "Stuttgart"}
ADDRESSES = [(code, town, str(place)) for code, town in TOWNS.items() for place in range(8)]
"""Five towns of eight rows, and a measure that has nothing to do with them."""
CELLS = "zip string, town string, pieces string"


def frame(spark: SparkSession, types: str, rows: Sequence[Sequence[Any]]) -> DataFrame:
    """Good rows in the order given."""
    numbered = [(*row, "f.csv", 0, place) for place, row in enumerate(rows)]
    return good(spark, f"{types}, {s.SOURCE_FILE} string, {s.SOURCE_BLOCK} bigint, {s.SOURCE_ROW} bigint", *numbered)


def treated(rows: DataFrame, key: Sequence[str] = (), **settings: Any) -> DataFrame:
    """Rows after mining and treatment."""
    columns = {
        name: ColumnConfig.model_validate({"from": name, "type": "string" if type_ == "string" else "double"})
        for name, type_ in rows.dtypes
        if type_ in ("string", "double") and not name.startswith("_")
    }
    rules = MinedRules.model_validate(settings)
    quality, suspicious = mine_quality(rows, columns, rules)
    return treat_suspicious(rows, suspicious, quality, columns, rules, key)


def cells(rows: DataFrame) -> list[tuple[int, str, str, str | None]]:
    """Place of the row, column, value and proposal of every suspicious cell."""
    found = rows.select(s.SOURCE_ROW, F.explode(SUSPICIONS).alias("cell")).select(s.SOURCE_ROW, "cell.*")
    return sorted((row[s.SOURCE_ROW], row["column"], row["value"], row["proposed"]) for row in found.collect())


def dependencies(rows: DataFrame, names: Sequence[str], **settings: Any) -> list[str]:
    texts = texts_of(rows, dict.fromkeys(names, "string"))
    facts = choose_columns(facts_of(texts, names), 60)
    counted = with_counts(facts, value_counts(texts, facts))
    return [str(one) for one in find_dependencies(texts, counted, MinedRules.model_validate(settings))]


def changed(rows: Sequence[Sequence[str | None]], place: int, **new: str | None) -> list[tuple[str | None, ...]]:
    """The rows with other values in one of them; columns by their place, ``c0`` and so on."""
    made = [list(row) for row in rows]
    for name, value in new.items():
        made[place][int(name[1:])] = value
    return [tuple(row) for row in made]


def test_a_dependency_is_found_in_spite_of_an_error_and_measured_by_the_rows_to_remove(spark: SparkSession) -> None:
    rows = frame(spark, CELLS, changed(ADDRESSES, 3, c1="Hamburg"))
    texts = texts_of(rows, dict.fromkeys(("zip", "town", "pieces"), "string"))
    facts = choose_columns(facts_of(texts, ["zip", "town", "pieces"]), 60)
    counted = with_counts(facts, value_counts(texts, facts))

    found = find_dependencies(texts, counted, MinedRules())

    # Hamburg now has nine rows, one of them with another postcode.
    assert [(str(one), one.groups, one.rows) for one in found] == [("zip->town", 5, 40), ("town->zip", 5, 40)]
    assert {one.error for one in found} == {1 / 40}


def test_a_usual_value_is_no_dependency_and_neither_is_what_a_unique_column_says(spark: SparkSession) -> None:
    # 95 % of all rows are "open", whatever the shop; every number is there once.
    rows = [(f"shop{place % 5}", "closed" if place % 20 == 7 else "open", f"{place}") for place in range(60)]

    assert (
        dependencies(frame(spark, "shop string, state string, number string", rows), ["shop", "state", "number"]) == []
    )


def test_two_columns_determine_what_neither_does_alone(spark: SparkSession) -> None:
    fares = {("A", "day"): "1", ("A", "night"): "3", ("B", "day"): "2", ("B", "night"): "4", ("C", "day"): "5"}
    rows = [(*key, fare) for key, fare in fares.items() for _ in range(6)] + [("C", "night", "1")] * 6
    found = dependencies(frame(spark, "zone string, hour string, fare string", rows), ["zone", "hour", "fare"])

    assert "hour+zone->fare" in found or "zone+hour->fare" in found
    assert not {"zone->fare", "hour->fare"} & set(found)


def test_a_declared_dependency_is_used_though_the_data_speak_against_it(spark: SparkSession) -> None:
    rows = [(f"{place % 5}", f"{place % 7}") for place in range(70)]
    declared = [{"from": "code", "to": "text"}]

    found = dependencies(frame(spark, "code string, text string", rows), ["code", "text"], dependencies=declared)

    assert found == ["code->text"]


def test_the_wrong_cell_is_found_and_its_repair_proposed(spark: SparkSession) -> None:
    rows = changed(ADDRESSES, 3, c1="Bxrlin")
    # A slip in the determinant: its own group has one row, and nothing but the town speaks against it.
    rows = changed(rows, 11, c0="2x095")
    rows = changed(rows, 19, c1=None)
    rows = changed(rows, 27, c1="unknown")

    assert cells(treated(frame(spark, CELLS, rows))) == [
        (3, "town", "Bxrlin", "Berlin"),
        (11, "zip", "2x095", "20095"),
        (19, "town", None, "Koeln"),
        (27, "town", "unknown", "Muenchen"),
    ]


def test_of_two_sides_the_one_that_breaks_more_dependencies_is_to_blame(spark: SparkSession) -> None:
    # Town and region of row 2 agree with each other: its postcode is the wrong one.
    regions = {"Berlin": "BE", "Hamburg": "HH", "Koeln": "NW", "Muenchen": "BY", "Stuttgart": "BW"}
    rows = [(code, town, regions[town]) for code, town, _ in ADDRESSES]

    found = cells(treated(frame(spark, "zip string, town string, region string", changed(rows, 2, c0="20095"))))

    assert found == [(2, "zip", "20095", "10115")]


def test_variants_that_return_and_clean_tables_raise_no_suspicion(spark: SparkSession) -> None:
    # Every article has two descriptions half and half; pieces and a free text say nothing of anything.
    rows = [(f"A{place % 6}", f"tea no {place % 6} {'ab'[place // 6 % 2]}", f"{place % 9}") for place in range(96)]

    assert cells(treated(frame(spark, "item string, text string, pieces string", rows))) == []


def test_numbers_are_not_misspelled_and_labels_are(spark: SparkSession) -> None:
    labels = ["cheese"] * 30 + ["butter"] * 30 + ["chese", "Butter", "size 10"] + ["size 12"] * 5
    sizes = ["1500"] * 30 + ["2500"] * 30 + ["1501", "2600", "1500"] + ["1500"] * 5
    rows = frame(spark, "label string, size string", list(zip(labels, sizes, strict=True)))

    assert cells(treated(rows)) == [(60, "label", "chese", "cheese"), (61, "label", "Butter", "butter")]


WRITTEN_OTHERWISE = {
    "unit": (["12", "16", "305", "7"], "12.0 oz", "12"),
    "decimals": (["1.10", "12.25", "3.90", "4.05"], "1.1", "1.10"),
    "leading_zero": (["02115", "10001", "94110", "60601"], "2115", "02115"),
    "date": (["2024-03-01", "2024-11-30", "2023-01-09", "2022-12-24"], "3/1/2024", None),
    "capitals": (["BLUE TIN", "RED BOX", "BIG GREEN BAG", "OLD TIN"], "blue jar", "BLUE JAR"),
    "percent": (["3.5", "12.25", "7", "100.125"], "4.5%", "4.5"),
}
"""Usual cells of a column, one that is written otherwise, and its repair."""


def test_a_cell_written_otherwise_is_suspicious(spark: SparkSession) -> None:
    columns = [[*usual * 15, odd] for usual, odd, _ in WRITTEN_OTHERWISE.values()]
    # Codes that share a prefix are a convention of their own, however few they are.
    columns.append([f"{5000 + place}" for place in range(54)] + [f"C{place}" for place in range(6)] + ["54y2"])
    types = ", ".join(f"{name} string" for name in (*WRITTEN_OTHERWISE, "code"))

    found = cells(treated(frame(spark, types, list(zip(*columns, strict=True)))))

    expected = [(60, name, odd, repair) for name, (_, odd, repair) in WRITTEN_OTHERWISE.items()]
    assert found == sorted([*expected, (60, "code", "54y2", None)])


def test_columns_that_are_blank_together_have_nothing_missing(spark: SparkSession) -> None:
    rows: list[tuple[Any, ...]] = [(f"a{place}", f"b{place}") for place in range(100)]
    together = [*rows, (None, None)]
    alone = [*rows, (None, "b100")]

    assert cells(treated(frame(spark, "one string, two string", together))) == []
    assert cells(treated(frame(spark, "one string, two string", alone))) == [(100, "one", None, None)]


def test_patterns(spark: SparkSession) -> None:
    rows = spark.createDataFrame([("-12.50",), ("Green Tea",), ("C539574",), ("2115",)], "v string")
    v = F.col("v")

    found = [tuple(row) for row in rows.select(loose(v), decimals(v), affix(v), width(v)).collect()]

    assert found == [
        ("9.9", "9.99", None, None),
        ("Aa", None, None, None),
        ("A9", None, "C9", "A999999"),
        ("9", "9", None, "9999"),
    ]


# What is done with them


def test_a_cell_is_flagged_repaired_or_its_row_refused_as_the_settings_say(spark: SparkSession) -> None:
    rows = frame(spark, CELLS, changed(ADDRESSES, 11, c1="Hambxrg"))
    columns = {name: ColumnConfig.model_validate({"from": name, "type": "string"}) for name in ("zip", "town")}
    quality, suspicious = mine_quality(rows, columns, MinedRules())
    suspicious = suspicious.localCheckpoint()

    def outcome(**settings: Any) -> tuple[Any, ...]:
        made = treat_suspicious(rows, suspicious, quality, columns, MinedRules.model_validate(settings))
        assert made.columns == [*rows.columns, SUSPICIONS]
        assert made.count() == 40
        row = made.where(F.col(s.SOURCE_ROW) == 11).collect()[0]
        entries = [[tuple(entry) for entry in row[name]] for name in (REPAIRS, REASONS)]
        return (row["town"], row[WARNINGS], *entries, [entry["applied"] for entry in row[SUSPICIONS]])

    assert outcome() == ("Hambxrg", ["suspicious:town"], [], [], [False])
    repairs = [("town", "Hambxrg", "Hamburg", "mined:zip->town")]
    assert outcome(apply_above=0.8, quarantine_above=0.8) == ("Hamburg", [], repairs, [], [True])
    other = outcome(apply_above=0.8, repair_columns=["zip"])
    assert other == ("Hambxrg", ["suspicious:town"], [], [], [False])
    reasons = [("suspicious", "town", "breaks what the data says of it (mined:zip->town): Hambxrg")]
    assert outcome(apply_above=1.0, quarantine_above=0.8) == ("Hambxrg", [], [], reasons, [False])


def test_keys_are_never_repaired_and_typed_columns_keep_their_type(spark: SparkSession) -> None:
    prices = [(code, {"a": 1.5, "b": 20.0, "c": 3.0}[code]) for code in "abc" for _ in range(12)]
    rows = frame(spark, "code string, price double", [*prices[:-1], ("c", 20.5)])

    assert values(treated(rows, apply_above=0.5), "price")[-1] == 3.0
    assert values(treated(rows, ("price",), apply_above=0.5), "price")[-1] == 20.5


# Settings and bounds


def test_columns_beyond_the_limit_are_left_out_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    unique = ColumnFacts("id", 0, 100, 100, 100, 5.0)
    label = ColumnFacts("label", 1, 100, 100, 4, 5.0)
    constant = ColumnFacts("constant", 2, 100, 100, 1, 5.0)

    chosen = choose_columns([unique, label, constant], 1)

    assert [(one.name, one.place) for one in chosen] == [("label", 0)]
    assert "left out: id" in caplog.text


def test_a_sample_of_whole_groups_finds_the_same_dependencies(spark: SparkSession) -> None:
    rows = [(f"{place % 600}", f"t{place % 600 // 3}", f"{place % 11}") for place in range(6_000)]

    found = dependencies(frame(spark, CELLS, rows), ["zip", "town", "pieces"], sample_rows=1_000)

    assert found == ["zip->town"]


def test_settings_that_contradict_each_other_or_name_no_column_are_refused(spark: SparkSession) -> None:
    mined = {"dependencies": [{"from": ["zipp"], "to": "town"}], "columns": ["zipp", "town", "area"]}
    wrong = wrong_rules(spark, "shops", source({"zip": None, "town": None}, mined=mined), [])

    assert [problem.partition(";")[0] for problem in wrong] == [
        "sources.shops.mined.columns: there is no column zipp",
        "sources.shops.mined.columns: there is no column area",
        "sources.shops.mined.dependencies: there is no column zipp",
    ]
    for settings, message in (
        ({"dependencies": [{"from": "a", "to": "a"}]}, "names a column twice"),
        ({"dependencies": [{"from": "a", "to": "b"}] * 2}, "is there twice"),
        ({"dependencies": [{"from": "a", "to": "b"}], "columns": ["a"]}, "b is used here, but not among"),
        ({"quarantine_above": 0.2}, "is below min_suspicion"),
        ({"repair_columns": ["a"]}, "repair_columns without apply_above"),
    ):
        with pytest.raises(ValidationError, match=message):
            MinedRules.model_validate(settings)
