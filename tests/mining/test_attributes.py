"""Rows of a table as baskets: the values of their columns are items, and rules may be asked to end in one of them."""

from __future__ import annotations

import pytest
from pyspark.sql import DataFrame, SparkSession

from dlmine_spark.config import AttributesConfig, Config, load_config
from dlmine_spark.errors import ConfigError, TableContractError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.mining.attributes import baskets_of_rows
from dlmine_spark.pipelines import contrast, mine, recommend

LOANS = "loan string, purpose string, months double, insured boolean, risk string, sex string"
SOURCE = {
    "kind": "table",
    "path": "loans.csv",
    "columns": {
        **dict.fromkeys(("loan", "purpose", "risk", "sex")),
        "months": {"type": "integer"},
        "insured": {"type": "boolean"},
    },
    "key": ["loan"],
}
ATTRIBUTES = {"source": "loans", "columns": ["purpose", "months", "risk"], "cuts": {"months": [12, 24.5]}}


def config(**mining: object) -> Config:
    settings = {"attributes": ATTRIBUTES, "min_support": 0.05, "min_confidence": 0.4, **mining}
    return Config.model_validate({"sources": {"loans": SOURCE}, "mining": settings})


def loans(spark: SparkSession, copies: int = 10) -> DataFrame:
    """Of long loans for cars, four in five went bad; of all others, one in five; men and women alike."""
    rows = [
        (f"{purpose}-{months}-{n}-{copy}", purpose, months, True, "bad" if n < bad else "good", "mf"[copy % 2])
        for purpose, months, bad in (("car", 36.0, 4), ("car", 6.0, 1), ("boat", 36.0, 1), ("boat", 12.0, 1))
        for n in range(5)
        for copy in range(copies)
    ]
    return spark.createDataFrame(rows, LOANS)


def rules(lakehouse: Lakehouse) -> dict[tuple[str, ...], float]:
    rows = lakehouse.read("gold.rules").where("is_kept").collect()
    assert all(row["consequent"] == ["risk=bad"] for row in rows)
    return {tuple(row["antecedent"]): round(row["confidence"], 3) for row in rows}


@pytest.mark.spark
def test_values_and_ranges_are_items_and_blanks_are_none(spark: SparkSession) -> None:
    rows = spark.createDataFrame(
        [
            ("a", "car", 11.0, True, "bad", "m"),
            ("b", None, 12.0, False, "good", "f"),
            ("c", "car", 24.5, None, None, "f"),
        ],
        LOANS,
    )
    wanted = AttributesConfig(source="loans", columns=("purpose", "months", "insured"), cuts={"months": (12, 24.5)})

    baskets = baskets_of_rows(rows, wanted, ["loan"]).collect()

    assert {row["basket_id"]: row["items"] for row in baskets} == {
        "a": ["purpose=car", "months<12", "insured=true"],
        "b": ["12<=months<24.5", "insured=false"],
        "c": ["purpose=car", "months>=24.5"],
    }
    # Whole numbers are kept as doubles, and nobody calls a loan's months 11.0.
    as_they_are = AttributesConfig(source="loans", columns=("months",))
    assert [row["items"] for row in baskets_of_rows(rows, as_they_are, ["loan"]).collect()] == [
        ["months=11"],
        ["months=12"],
        ["months=24.5"],
    ]


@pytest.mark.spark
def test_columns_that_are_called_alike_have_items_in_common(spark: SparkSession) -> None:
    rows = spark.createDataFrame(
        [("250", "428", "250"), ("428", None, None)], "first string, second string, third string"
    )
    wanted = AttributesConfig(source="stays", columns=dict.fromkeys(("first", "second", "third"), "diag"))

    baskets = baskets_of_rows(rows, wanted, []).collect()

    assert [sorted(row["items"]) for row in baskets] == [["diag=250", "diag=428"], ["diag=428"]]
    # Without a key, rows are still told apart.
    assert len({row["basket_id"] for row in baskets}) == 2


@pytest.mark.spark
def test_rules_end_in_the_outcome_that_is_asked_for(lakehouse: Lakehouse) -> None:
    lakehouse.overwrite("silver.loans", loans(lakehouse.spark))

    report = mine.run(config(consequent={"require": ["risk=bad"]}), lakehouse)

    assert isinstance(report, mine.MineReport)
    assert report.rows_in == 200
    # months>=24.5 and car have 25 bad of 50 each, which is not what makes a car on a long loan go bad.
    assert rules(lakehouse) == {("months>=24.5",): 0.5, ("purpose=car",): 0.5, ("months>=24.5", "purpose=car"): 0.8}


@pytest.mark.slow
@pytest.mark.spark
def test_rules_of_groups_of_rows_and_of_two_halves(lakehouse: Lakehouse) -> None:
    """Grouped by a column that is no item; and what is so holds in both halves that a hash makes."""
    lakehouse.overwrite("silver.loans", loans(lakehouse.spark))
    settings = config(consequent={"require": ["risk=bad"]}, groups={"min_baskets": 20, "min_count": 5})

    told, _ = contrast.run(settings, lakehouse, "sex")
    assert told.endswith("in 2 groups of 200 baskets; confidence differs beyond chance: f 0, m 0")
    both = lakehouse.read("gold.group_rules").where("size(antecedent) = 2").collect()
    assert {(row["group"], row["baskets"], row["confidence"]) for row in both} == {("f", 100, 0.8), ("m", 100, 0.8)}

    contrast.run(settings, lakehouse, "half")
    halves = lakehouse.read("gold.group_rules").where("size(antecedent) = 2").collect()
    assert {row["group"] for row in halves} == {"half 1", "half 2"}
    assert sum(row["baskets"] for row in halves) == 200
    assert all(row["baskets"] > 60 and row["confidence"] > 0.6 for row in halves)


@pytest.mark.spark
def test_halves_of_any_baskets(lakehouse: Lakehouse) -> None:
    rows = [(f"b{n}", ["beer", "crisps"] if n % 2 else ["tea"]) for n in range(400)]
    lakehouse.overwrite(
        "silver.baskets", lakehouse.spark.createDataFrame(rows, "basket_id string, items array<string>")
    )
    source = {"kind": "baskets", "path": "b.txt", "format": "text"}
    baskets = Config.model_validate({"sources": {"baskets": source}, "mining": {"groups": {"min_baskets": 100}}})
    contrast.check(baskets, "half")
    told, _ = contrast.run(baskets, lakehouse, "half")
    assert "2 rules in 2 groups of 400 baskets" in told


@pytest.mark.spark
def test_columns_that_the_table_lacks_or_that_are_no_numbers(lakehouse: Lakehouse) -> None:
    """What a configuration cannot tell of columns that are kept unmapped."""
    lakehouse.overwrite("silver.loans", loans(lakehouse.spark, 1))
    kept = {**SOURCE, "other_columns": "keep"}
    for attributes, error, message in (
        ({"columns": ["amount"]}, TableContractError, "silver.loans has no column amount; found loan, purpose, months"),
        ({"columns": ["sex"], "cuts": {"sex": 1}}, ConfigError, "cuts: sex of silver.loans is no number but string"),
    ):
        columns = {name: spec for name, spec in SOURCE["columns"].items() if name != "sex"}  # type: ignore[attr-defined]
        settings = {
            "sources": {"loans": {**kept, "columns": columns}},
            "mining": {"attributes": {"source": "loans", **attributes}},
        }
        with pytest.raises(error, match=message):
            mine.run(Config.model_validate(settings), lakehouse)
    assert not lakehouse.exists("gold.itemsets")


SOURCES = [
    "sources.loans={kind: table, path: l.csv, columns: {loan: null, purpose: null, months: {type: integer}}}",
    "sources.sales={kind: panel, path: s.csv, columns: {ds: null, y: null}}",
]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["mining.attributes={source: loan, columns: [purpose]}"], "there is no source 'loan', did you mean loans?"),
        (["mining.attributes={source: sales, columns: [y]}"], "sales is of kind panel, expected table or statics"),
        (["mining.attributes={source: loans, columns: [purpos]}"], "maps no column purpos, did you mean purpose?"),
        (["mining.attributes={source: loans, columns: []}"], "mining.attributes.columns"),
        (["mining.attributes={source: loans, columns: [purpose], cuts: {months: 12}}"], "months is not among columns"),
        (
            ["mining.attributes={source: loans, columns: [months], cuts: {months: [9, 3]}}"],
            "expected ascending numbers",
        ),
        (["mining.attributes={source: loans, columns: [purpose], cuts: {purpose: 1}}"], "purpose has to be a number"),
        (
            [
                "mining.attributes={source: loans, columns: [purpose]}",
                "sources.b={kind: baskets, path: b, format: text}",
            ],
            "rows of loans and baskets of b would be counted together",
        ),
    ],
)
def test_contradictions_are_told_at_load(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as told:
        load_config((), [*SOURCES, *settings])
    assert message in str(told.value)


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("purpose", "--by purpose: is among mining.attributes.columns"),
        ("sexe", r"silver.loans has no such column \(did you mean sex\?\); there are: half, loan, sex, insured"),
    ],
)
def test_groups_that_rows_cannot_have_are_refused_at_once(by: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        contrast.check(config(), by)


def test_nothing_is_recommended_to_rows() -> None:
    with pytest.raises(ConfigError, match="mines what rows of loans are, and nothing can be recommended to those"):
        recommend.check(config())
