"""Rules of groups of baskets beside each other, and rules weighed by the value of their baskets."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F
from scipy.stats import fisher_exact

from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.errors import ConfigError, DlmineError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.mining import weights
from dlmine_spark.mining.contrast import contrasts
from dlmine_spark.mining.miner import Baskets
from dlmine_spark.mining.sets import SetList
from dlmine_spark.pipelines import contrast, mine

pytestmark = pytest.mark.spark

COLUMNS = ("basket_id", "ts", "item", "quantity", "price", "customer_id", "store_id")
CITY = [["beer", "crisps"]] * 40 + [["beer"]] * 10 + [["tea", "milk"]] * 20 + [["tea"]] * 10
COAST = [["beer", "crisps"]] * 10 + [["beer"]] * 40 + [["tea", "milk"]] * 20 + [["gin", "tonic"]] * 30
VILLAGE = [["tea", "milk"]] * 5 + [["beer", "crisps"]] * 3
"""Beer goes with crisps in the city, gin is bought at the coast only, and the village has few baskets."""
WORLD = {"city": CITY, "coast": COAST, "village": VILLAGE}


def config(columns: tuple[str, ...] = COLUMNS, **mining: object) -> Config:
    settings = {
        "min_support": 0.05,
        "min_confidence": 0.3,
        "groups": {"min_baskets": 50, "min_count": 5},
        "sequences": {"enabled": False},
        **mining,
    }
    source = {"kind": "lines", "path": "lines.csv", "columns": dict.fromkeys(columns)}
    return Config.model_validate({"sources": {"receipts": source}, "mining": settings})


def write(lakehouse: Lakehouse, world: dict[str, list[list[str]]] = WORLD) -> None:
    """A line an item; every item costs 1, gin 9; baskets are an hour apart."""
    rows, begin = [], datetime(2024, 12, 29, 8)
    for store, baskets in world.items():
        for number, basket in enumerate(baskets):
            ts = begin + timedelta(hours=number)
            price = {"gin": 9.0}
            rows.extend(
                (f"{store}{number}", ts, item, 1.0, price.get(item, 1.0), f"c{number}", store) for item in basket
            )
    lines = lakehouse.spark.createDataFrame(rows, s.LINES.ddl)
    lakehouse.overwrite("silver.lines", lines)


def group_rules(lakehouse: Lakehouse) -> dict[tuple[str, str], Row]:
    rows = lakehouse.read("gold.group_rules").collect()
    named = {(f"{' '.join(row['antecedent'])} => {' '.join(row['consequent'])}", row["group"]): row for row in rows}
    assert len(named) == len(rows)
    return named


def p_two_sided(hits: int, cases: int, other_hits: int, other_cases: int) -> float:
    table = [[hits, cases - hits], [other_hits, other_cases - other_hits]]
    return min(1.0, 2 * min(float(fisher_exact(table, alternative=side).pvalue) for side in ("greater", "less")))


def test_rules_in_each_group_and_elsewhere(lakehouse: Lakehouse) -> None:
    write(lakehouse)

    told, table = contrast.run(config(), lakehouse, "store_id")

    rows = group_rules(lakehouse)
    assert {group for _, group in rows} == {"city", "coast"}
    city = rows["beer => crisps", "city"]
    # Elsewhere are the coast and the village, which is too small to be mined alone.
    assert (city["baskets"], city["count"], city["support"], city["confidence"]) == (80, 40, 0.5, 0.8)
    assert city["support_elsewhere"] == pytest.approx(13 / 108)
    assert city["confidence_elsewhere"] == pytest.approx(13 / 53)
    assert city["lift"] == pytest.approx(40 * 80 / (50 * 40))
    assert city["lift_elsewhere"] == pytest.approx(13 * 108 / (53 * 13))
    assert city["p_value"] == pytest.approx(p_two_sided(40, 50, 13, 53), rel=1e-9)
    assert city["differs"]
    assert city["is_kept"]
    # Gin is bought nowhere else: nothing to compare its confidence with.
    gin = rows["gin => tonic", "coast"]
    assert (gin["confidence"], gin["confidence_elsewhere"], gin["p_value"], gin["differs"]) == (1.0, None, None, False)
    nowhere = rows["gin => tonic", "city"]
    assert (nowhere["count"], nowhere["confidence"], nowhere["is_kept"]) == (0, None, False)
    assert "2 groups of 180 baskets, 8 of smaller groups among the others;" in told
    assert "beer => crisps" in table


def test_q_values_count_all_that_could_have_been_compared(lakehouse: Lakehouse) -> None:
    write(lakehouse)
    contrast.run(config(), lakehouse, "store_id")
    # The city has 4 frequent items and 2 pairs, the coast 6 and 3. As sides: items with each other, 12 and 30 pairs of
    # them, and pairs with the items that are not in them, 2 x 2 and 3 x 4. Each could have differed in two groups.
    hypotheses = 2 * (12 + 4 + 30 + 12)
    rows = group_rules(lakehouse).values()
    known = sorted((row["p_value"], row["q_value"]) for row in rows if row["p_value"] is not None)
    adjusted = [min(1.0, hypotheses * p / (rank + 1)) for rank, (p, _) in enumerate(known)]
    assert [q for _, q in known] == pytest.approx([min(adjusted[place:]) for place in range(len(known))])


def test_what_chance_makes_of_alike_groups_is_rarely_said_to_differ() -> None:
    """Pairs that are just frequent in one of two groups are there by chance: that alone must not make them differ."""
    rng = np.random.default_rng(11)
    pairs, sides, least = 2_000, 1_000, 12
    runs_with_false = 0
    for _ in range(20):
        joint = rng.binomial(sides, 8 / sides, size=(pairs, 2))
        # A set of its own for both sides together, for each left and for each right side.
        shown = joint.max(axis=1) >= least
        counts = np.concatenate([joint[shown], np.full((2 * shown.sum(), 2), sides)])
        numbers = np.split(np.arange(len(counts)), 3)
        wanted = SetList(pa.array([], pa.string()), Baskets.of_lengths(np.empty(0, np.int32), np.empty(0)), numbers)
        found = contrasts(wanted, counts, np.array([50_000, 50_000, 0]), 2, 0.05, hypotheses=2 * 2 * pairs)
        runs_with_false += bool(found["differs"].any())
    assert runs_with_false <= 2


def test_labels_of_times(spark: SparkSession) -> None:
    # 29 December is a Sunday, the days after it are of the first week of 2025.
    times = [(datetime(2024, 12, 29, 8),), (datetime(2024, 12, 30, 23),), (datetime(2025, 1, 1, 0),)]
    labels = spark.createDataFrame(times, "ts timestamp").select(
        "ts", *(label(F.col("ts")).alias(by) for by, label in contrast.PERIODS.items())
    )
    assert list(contrast.PERIODS) == ["year", "quarter", "month", "week", "weekday", "hour"]
    assert [tuple(row) for row in labels.orderBy("ts").drop("ts").collect()] == [
        ("2024", "2024-Q4", "2024-12", "2024-W52", "Sunday", "08"),
        ("2024", "2024-Q4", "2024-12", "2025-W01", "Monday", "23"),
        ("2025", "2025-Q1", "2025-01", "2025-W01", "Wednesday", "00"),
    ]


def test_groups_by_time_and_by_segment(lakehouse: Lakehouse) -> None:
    world = {"city": CITY * 4}
    write(lakehouse, world)
    settings = config(groups={"min_baskets": 40, "min_count": 5})
    contrast.run(settings, lakehouse, "week")
    # The Sunday that ends the last week of 2024 has too few baskets.
    assert {row["group"] for row in lakehouse.read("gold.group_rules").collect()} == {"2025-W01", "2025-W02"}

    segments = [("customer", f"c{number}", number % 2, 0.0, [1.0], False) for number in range(len(CITY) * 4)]
    # A store of the same name is no customer.
    segments += [("store", f"c{number}", 5, 0.0, [1.0], False) for number in range(200)]
    lakehouse.overwrite("gold.segments", lakehouse.spark.createDataFrame(segments, s.SEGMENTS.ddl))
    told, _ = contrast.run(settings, lakehouse, "customer_segment")
    assert {row["group"] for row in lakehouse.read("gold.group_rules").collect()} == {"0", "1"}
    assert "2 groups of 320 baskets;" in told


def test_groups_that_cannot_be_made_are_refused(lakehouse: Lakehouse) -> None:
    write(lakehouse)
    with pytest.raises(ConfigError, match=r"--by stor_id: lines have no such column \(did you mean store_id\?\)"):
        contrast.check(config(), "stor_id")
    with pytest.raises(ConfigError, match=r"--by town: lines have no such column; there are: .*store_id"):
        contrast.run(config(), lakehouse, "town")
    with pytest.raises(ConfigError, match="--by item: lines have no such column"):
        contrast.check(config(), "item")
    with pytest.raises(ConfigError, match="--by store_id needs store_id of each line"):
        contrast.check(config(columns=("basket_id", "item")), "store_id")
    with pytest.raises(ConfigError, match="--by month needs ts of each line"):
        contrast.check(config(columns=("basket_id", "item")), "month")
    with pytest.raises(ConfigError, match="--by store_segment needs store_id"):
        contrast.check(config(columns=("basket_id", "item")), "store_segment")
    baskets = {"sources": {"baskets": {"kind": "baskets", "path": "b.txt", "format": "text"}}}
    with pytest.raises(ConfigError, match="no source of kind lines"):
        contrast.check(Config.model_validate(baskets), "store_id")
    with pytest.raises(DlmineError, match=r"100 groups have 1 baskets or more, .*max_groups is 2"):
        contrast.run(config(groups={"min_baskets": 1, "min_count": 1, "max_groups": 2}), lakehouse, "customer_id")
    with pytest.raises(DlmineError, match=r"0 groups of 0 baskets, 188 of smaller .* nothing to compare; .* is 1,000"):
        contrast.run(config(groups={"min_baskets": 1000}), lakehouse, "store_id")
    with pytest.raises(DlmineError, match=r"rules in 2 groups are more than mining\.max_itemsets=11 rows"):
        contrast.run(config(max_itemsets=11), lakehouse, "store_id")
    segments = [("store", "elsewhere", 0, 0.0, [1.0], False)]
    lakehouse.overwrite("gold.segments", lakehouse.spark.createDataFrame(segments, s.SEGMENTS.ddl))
    with pytest.raises(ConfigError, match=r"of none of 188 baskets .* store_id .* names none of the stores"):
        contrast.run(config(), lakehouse, "store_segment")
    assert not lakehouse.exists("gold.group_rules")


def test_no_rule_in_any_group_leaves_an_empty_table(lakehouse: Lakehouse) -> None:
    write(lakehouse)
    contrast.run(config(), lakehouse, "store_id")
    told, table = contrast.run(config(min_lift=1000), lakehouse, "store_id")
    assert "no rule is kept in any of them" in told
    assert table == ""
    assert lakehouse.read("gold.group_rules").count() == 0


def test_baskets_of_no_known_group_are_left_out_and_told(lakehouse: Lakehouse) -> None:
    write(lakehouse)
    lines = lakehouse.read("silver.lines")
    # A basket of two stores is of neither.
    two = F.when((F.col("basket_id") == "city0") & (F.col("item") == "beer"), "coast").otherwise(F.col("store_id"))
    lost = F.when(~F.col("basket_id").isin("city1", "city2"), two)
    lakehouse.overwrite("silver.lines", lines.withColumn("store_id", lost))
    told, _ = contrast.run(config(), lakehouse, "store_id")
    assert "2 groups of 177 baskets, 8 of smaller groups among the others, 3 of no known group left out" in told
    assert group_rules(lakehouse)["beer => crisps", "city"]["baskets"] == 77


@pytest.mark.slow
def test_counts_of_many_batches_add_up(lakehouse: Lakehouse) -> None:
    write(lakehouse)
    batch = "spark.sql.execution.arrow.maxRecordsPerBatch"
    before = lakehouse.spark.conf.get(batch)
    contrast.run(config(), lakehouse, "store_id")
    expected = group_rules(lakehouse)
    lakehouse.spark.conf.set(batch, "7")
    try:
        contrast.run(config(), lakehouse, "store_id")
        mine.run(config(weight="spend", max_q=1), lakehouse)
    finally:
        lakehouse.spark.conf.set(batch, str(before))
    assert group_rules(lakehouse) == expected
    gin = lakehouse.read("gold.rules").where("antecedent = array('gin')").collect()[0]
    assert gin["weighted_support"] == pytest.approx(300 / 556)


@pytest.mark.slow
def test_categories_take_part_in_groups_and_in_weights(lakehouse: Lakehouse) -> None:
    write(lakehouse)
    lines = lakehouse.read("silver.lines")
    kind = F.when(F.col("item").isin("beer", "tea", "gin", "tonic"), "drink").otherwise("food")
    lakehouse.overwrite("silver.lines", lines.withColumn("kind", kind))
    settings = config((*COLUMNS, "kind"), weight="spend", prune=False, min_lift=0, taxonomy={"categories": ["kind"]})
    contrast.run(settings, lakehouse, "store_id")
    rows = group_rules(lakehouse)
    assert rows["beer => kind=food", "city"]["confidence"] == pytest.approx(0.8)
    # So by definition.
    assert ("crisps => kind=food", "city") not in rows
    mine.run(settings, lakehouse)
    rule = (
        lakehouse.read("gold.rules").where("consequent = array('kind=food') and antecedent = array('beer')").collect()
    )
    assert rule[0]["weighted_support"] == pytest.approx(106 / 556)


def test_rules_weigh_what_their_baskets_are_worth(lakehouse: Lakehouse, caplog: pytest.LogCaptureFixture) -> None:
    write(lakehouse)
    with caplog.at_level(logging.WARNING):
        mine.run(config(weight="spend", max_q=1), lakehouse)
    rules = {
        " ".join((*row["antecedent"], "=>", *row["consequent"])): row for row in lakehouse.read("gold.rules").collect()
    }
    # 53 baskets of beer and crisps cost 2, 45 of tea and milk 2, 30 of gin and tonic 10, 50 of beer and 10 of tea 1.
    total = 53 * 2 + 45 * 2 + 30 * 10 + 50 + 10
    gin = rules["gin => tonic"]
    assert gin["support"] == pytest.approx(30 / 188)
    assert gin["weighted_support"] == pytest.approx(300 / total)
    assert gin["weighted_confidence"] == pytest.approx(1.0)
    assert gin["weighted_lift"] == pytest.approx(total / 300)
    beer = rules["beer => crisps"]
    assert beer["weighted_confidence"] == pytest.approx(106 / 156)
    assert all((row["weighted_support"] is None) != row["is_kept"] for row in rules.values())

    mine.run(config(), lakehouse)
    assert {row["weighted_support"] for row in lakehouse.read("gold.rules").collect()} == {None}


@pytest.mark.slow
def test_baskets_of_less_than_nothing_weigh_nothing(lakehouse: Lakehouse, caplog: pytest.LogCaptureFixture) -> None:
    write(lakehouse)
    lines = lakehouse.read("silver.lines")
    is_tea = F.col("item").isin("tea", "milk")
    lakehouse.overwrite("silver.lines", lines.withColumn("price", F.when(is_tea, -5.0).otherwise(F.col("price"))))
    mine.run(config(weight="spend", max_q=1), lakehouse)
    rules = {row["antecedent"][0]: row for row in lakehouse.read("gold.rules").collect()}
    assert rules["milk"]["weighted_support"] == 0.0
    assert rules["beer"]["weighted_support"] == pytest.approx(106 / 456)

    lakehouse.overwrite("silver.lines", lines.withColumn("price", F.lit(-1.0)))
    mine.run(config(weight="price", max_q=1), lakehouse)
    assert "no basket has a weight above 0" in caplog.text
    assert {row["weighted_support"] for row in lakehouse.read("gold.rules").collect()} == {None}


def test_the_most_frequent_of_too_many_rules_are_weighed(
    lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(lakehouse)
    monkeypatch.setattr(weights, "MOST", 2)
    mine.run(config(weight="spend", max_q=1), lakehouse)
    assert "more than 2 rules are kept" in caplog.text
    known = lakehouse.read("gold.rules").where("weighted_support is not null")
    assert {row["antecedent"][0] for row in known.collect()} == {"beer", "crisps"}


def test_weights_that_are_no_numbers_are_refused(lakehouse: Lakehouse) -> None:
    write(lakehouse)
    with pytest.raises(ConfigError, match=r"mining\.weight is 'item', which is no number .* spend, quantity, price"):
        mine.run(config(weight="item"), lakehouse)


@pytest.mark.parametrize(
    ("weight", "columns", "message"),
    [
        ("spend", ("basket_id", "item"), "mining.weight is 'spend', but sources.receipts.columns maps no price"),
        ("amont", (*COLUMNS, "amount"), "maps no amont.*amount.*: name its column, or take spend"),
    ],
)
def test_weights_that_no_source_has_are_refused_at_once(weight: str, columns: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(columns, weight=weight)


def test_weights_need_lines() -> None:
    sources = {"baskets": {"kind": "baskets", "path": "b.txt", "format": "text"}}
    with pytest.raises(ValueError, match="no source of kind lines"):
        Config.model_validate({"sources": sources, "mining": {"weight": "spend"}})
