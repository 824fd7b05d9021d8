"""Rules of mixed levels: baskets with the categories of their items, and nothing that is so by definition."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from pyspark.sql import SparkSession

from dlmine_spark import schemas as s
from dlmine_spark.config import Config, TaxonomyConfig, load_config
from dlmine_spark.errors import ConfigError, TableContractError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.mining.taxonomy import ancestors, between_items, categories_of
from dlmine_spark.pipelines import mine, recommend
from tests.mining.examples import basket_frame, brute_force, found, rule

PRODUCTS = [
    ("ale", "beer", "drinks"),
    ("stout", "beer", "drinks"),
    ("gin", "spirits", "drinks"),
    ("crisps", "salty", "snacks"),
    ("nuts", "salty", "snacks"),
    ("bag", None, None),
    (None, "beer", "drinks"),
]
"""Item, category, department; nothing is known of soap."""
ALL_OF = {
    item: {f"category={category}", f"department={department}"}
    for item, category, department in PRODUCTS
    if item is not None and category is not None
}
NESTED = {("category=beer", "department=drinks"), ("category=spirits", "department=drinks"),
          ("category=salty", "department=snacks"), ("department=snacks", "category=salty")}  # fmt: skip
"""Salty things are all there is of snacks: each is in the other."""

TAXONOMY = {"source": "products", "item": "sku", "categories": ["category", "department"]}


def config(**mining: object) -> Config:
    baskets = {"kind": "baskets", "path": "baskets.txt", "format": "text"}
    columns = dict.fromkeys(("sku", "category", "department"))
    products = {"kind": "table", "path": "products.csv", "columns": columns}
    settings = {"min_support": 0.1, "min_confidence": 0.1, "min_lift": 0, "taxonomy": TAXONOMY, **mining}
    return Config.model_validate({"sources": {"baskets": baskets, "products": products}, "mining": settings})


def random_baskets(number: int = 60) -> list[list[str]]:
    rng = np.random.default_rng(4)
    items = [*ALL_OF, "bag", "soap"]
    return [sorted(rng.choice(items, size=rng.integers(1, 5), replace=False).tolist()) for _ in range(number)]


def write(lakehouse: Lakehouse, baskets: list[list[str]]) -> None:
    lakehouse.overwrite("silver.baskets", basket_frame(lakehouse.spark, baskets))
    rows = lakehouse.spark.createDataFrame(PRODUCTS, "sku string, category string, department string")
    lakehouse.overwrite("silver.products", rows)


def by_definition(baskets: list[list[str]], min_count: int) -> dict[tuple[str, ...], int]:
    """Itemsets of extended baskets, without those that hold two of which one is in the other."""
    related = NESTED | {(item, category) for item, own in ALL_OF.items() for category in own}
    extended = [set(basket).union(*(ALL_OF.get(item, set()) for item in basket)) for basket in baskets]
    return {
        items: count
        for items, count in brute_force(extended, min_count).items()
        if not any((a, b) in related or (b, a) in related for a, b in combinations(items, 2))
    }


@pytest.mark.spark
def test_itemsets_of_mixed_levels_are_those_of_the_definition(lakehouse: Lakehouse) -> None:
    """By both engines."""
    baskets = random_baskets()
    write(lakehouse, baskets)

    mine.run(config(verify=True), lakehouse)

    expected = by_definition(baskets, 6)
    assert found(lakehouse.read("gold.itemsets")) == expected
    assert ("category=beer", "crisps") in expected
    assert ("category=beer", "category=spirits") in expected
    # Every rule that could be is there, and measured by exact counts.
    rules = lakehouse.read("gold.rules").collect()
    splits = {(items, item) for items in expected if len(items) > 1 for item in items}
    assert {(tuple(sorted([*row["antecedent"], *row["consequent"]])), row["consequent"][0]) for row in rules} <= splits
    for row in rules:
        both = tuple(sorted([*row["antecedent"], *row["consequent"]]))
        assert row["confidence"] == pytest.approx(expected[both] / expected[tuple(row["antecedent"])])
    assert sum(
        expected[items] / expected[tuple(i for i in items if i != item)] >= 0.1 for items, item in splits
    ) == len(rules)


@pytest.mark.spark
def test_categories_that_hold_all_of_another_are_its_ancestors(spark: SparkSession) -> None:
    rows = spark.createDataFrame(PRODUCTS, "sku string, category string, department string")
    categories = categories_of(rows.union(rows), "sku", ("category", "department"))
    pairs = [(row["item"], row["category"]) for row in categories.collect()]
    assert sorted(pairs) == sorted((item, category) for item, own in ALL_OF.items() for category in own)
    related = {(row["lower"], row["upper"]) for row in ancestors(categories).collect()}
    assert related == NESTED | set(pairs)


@pytest.mark.slow
@pytest.mark.spark
def test_categories_may_be_a_column_of_the_lines(lakehouse: Lakehouse) -> None:
    """An item with two categories is in both; rules that templates want of categories."""
    rows = [
        (f"r{number}", item, category)
        for number in range(40)
        for item, category in [("ale" if number % 2 else "stout", "beer"), ("bag", None), (f"i{number}", "odd")][
            : 3 if number == 7 else 2
        ]
    ]
    rows += [("r1", "ale", "offer"), *((f"s{number}", "soap", "care") for number in range(40))]
    lines = lakehouse.spark.createDataFrame(rows, "basket_id string, item string, category string")
    types = {name: type_ for name, type_ in s.LINES.columns.items() if name not in lines.columns}
    full = lines.selectExpr("*", *(f"cast(null as {type_}) as {name}" for name, type_ in types.items()))
    lakehouse.overwrite("silver.lines", full)
    columns = {"basket_id": None, "item": None, "category": None}
    settings = Config.model_validate(
        {
            "sources": {"till": {"kind": "lines", "path": "l.csv", "columns": columns}},
            "mining": {
                "min_support": 0.2,
                "taxonomy": {"categories": "category"},
                "antecedent": {"only": ["category=beer", "category=offer"]},
            },
        }
    )

    mine.run(settings, lakehouse)

    counts = found(lakehouse.read("gold.itemsets"))
    assert counts["category=beer",] == counts["bag",] == counts["bag", "category=beer"] == 40
    # Nobody bought another item of the offer.
    assert counts["category=offer",] == counts["ale",] == 20
    assert ("ale", "category=offer") not in counts
    rules = {(*row["antecedent"], *row["consequent"]) for row in lakehouse.read("gold.rules").collect()}
    assert rules == {("category=beer", "bag"), ("category=offer", "bag")}


@pytest.mark.spark
def test_what_is_wrong_with_a_taxonomy_is_named(lakehouse: Lakehouse) -> None:
    write(lakehouse, [["ale", "crisps"], ["ale", "department=drinks"]])
    with pytest.raises(TableContractError, match=r"item 'department=drinks' is called as mining"):
        mine.run(config(), lakehouse)
    unknown = {**TAXONOMY, "categories": ["category", "brand"]}
    with pytest.raises(TableContractError, match=r"silver.products has no column brand; found sku, category, departm"):
        mine.run(config(taxonomy=unknown), lakehouse)
    assert not lakehouse.exists("gold.itemsets")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("mining.taxonomy={}", "mining.taxonomy.categories"),
        ("mining.taxonomy.categories=[a, a]", "categories: a is there twice"),
        ("mining.taxonomy={categories: item}", "categories: item names the items themselves"),
        ("mining.taxonomy={item: sku, categories: a}", "item is 'sku', but basket lines have their items in item"),
        ("mining.taxonomy={source: goods, categories: a}", "there is no source 'goods'; sources: baskets"),
        ("mining.taxonomy={source: baskets, categories: a}", "baskets is of kind baskets, expected table or statics"),
        ("mining.taxonomy.categories=a", "there is no source of kind lines to take categories from"),
    ],
)
def test_contradictions_are_told_at_load(setting: str, message: str) -> None:
    with pytest.raises(ConfigError) as told:
        load_config((), ["sources.baskets={kind: baskets, path: b.txt, format: text}", setting])
    assert message in str(told.value)


@pytest.mark.slow
@pytest.mark.spark
def test_only_items_are_recommended(lakehouse: Lakehouse) -> None:
    pairs = [["ale", "crisps"]] * 10 + [["stout", "crisps"]] * 10 + [["gin", "soap"]] * 20 + [["ale"]] * 2
    write(lakehouse, pairs)
    settings = config(recommend={"top": 2, "rules": "all"})
    mine.run(settings, lakehouse)
    assert not lakehouse.read("gold.rules").where("antecedent = array('category=beer')").isEmpty()

    recommend.run(settings, lakehouse)

    rows = lakehouse.read("gold.recommendations").collect()
    assert {row["basis"] for row in rows} == {"rule", "popularity"}
    assert not any("=" in item for row in rows for item in [row["item"], *row["antecedent"]])
    frame = lakehouse.spark.createDataFrame(
        [rule(["a"], ["b"]), rule(["a", "category=x"], ["b"]), rule(["a"], ["category=x"])], s.RULES.ddl
    )
    taxonomy = TaxonomyConfig(categories=("category",))
    assert [row["consequent"] for row in between_items(frame, taxonomy).collect()] == [["b"]]
    assert between_items(frame, None) is frame
