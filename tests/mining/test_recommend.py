"""Recommendations by rules and popularity, and their score on held-out baskets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import Config, LakehouseConfig
from dlmine_spark.errors import ConfigError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.mining.holdout import mean_interval, scores, share_interval, split
from dlmine_spark.mining.recommend import firing_rules, popularity, recommend
from dlmine_spark.pipelines import mine
from dlmine_spark.pipelines import recommend as pipeline
from tests.copies import copy_of
from tests.mining.examples import rule

pytestmark = pytest.mark.spark

# Rules by hand: antecedent, item, confidence.
Rule = tuple[tuple[str, ...], str, float]


def entities(spark: SparkSession, baskets: Sequence[Iterable[str]]) -> DataFrame:
    rows = [("till", f"b{number}", list(basket)) for number, basket in enumerate(baskets)]
    return spark.createDataFrame(rows, "source string, entity_id string, items array<string>")


def rules_frame(spark: SparkSession, rules: Iterable[Rule], **values: object) -> DataFrame:
    given = {"lift": 2.0, "improvement": 0.1, **values}
    rows = [rule(left, [item], confidence=confidence, **given) for left, item, confidence in rules]
    return spark.createDataFrame(rows, s.RULES.ddl)


def by_definition(
    basket: Iterable[str], rules: Iterable[Rule], shares: Mapping[str, float], top: int
) -> list[tuple[str, float, tuple[str, ...]]]:
    """Item, score and antecedent of the best items, looking at every rule and every item."""
    has = set(basket)
    best: dict[str, tuple[float, int, tuple[str, ...]]] = {}
    for left, item, confidence in [*rules, *(((), item, share) for item, share in shares.items())]:
        reason = (-confidence, len(left), left)
        if set(left) <= has and item not in has and reason < best.get(item, (1.0, 0, ())):
            best[item] = reason
    ranked = sorted(best, key=lambda item: (best[item][0], item))[:top]
    return [(item, -best[item][0], best[item][2]) for item in ranked]


def found(frame: DataFrame) -> dict[str, list[tuple[str, float, tuple[str, ...]]]]:
    rows = sorted(frame.collect(), key=lambda row: (row["entity_id"], row["rank"]))
    lists: dict[str, list[tuple[str, float, tuple[str, ...]]]] = {}
    for row in rows:
        own = lists.setdefault(row["entity_id"], [])
        own.append((row["item"], row["score"], tuple(row["antecedent"])))
        assert row["rank"] == len(own)
        assert row["basis"] == ("rule" if row["antecedent"] else "popularity")
    return lists


def test_the_surest_rule_wins_and_popular_items_fill_up(spark: SparkSession) -> None:
    baskets = entities(spark, [["gin"], ["gin", "limes"], ["tonic"], ["bread", "milk", "gin", "limes", "tonic"]])
    shares = {"bread": 0.5, "milk": 0.5, "gin": 0.2, "limes": 0.1, "tonic": 0.15}
    popular = spark.createDataFrame(list(shares.items()), "item string, support double")
    rules = [
        (("gin",), "tonic", 0.6),
        (("gin",), "limes", 0.3),
        (("gin", "limes"), "tonic", 0.8),
        (("limes",), "tonic", 0.8),
        (("tonic",), "gin", 0.1),
    ]

    best = found(recommend(baskets, firing_rules(rules_frame(spark, rules), popular), popular, 3, longest=5))

    # Popularity is the rule of the empty antecedent: it may be surer than a rule, and then comes first.
    assert best == {
        "b0": [("tonic", 0.6, ("gin",)), ("bread", 0.5, ()), ("milk", 0.5, ())],
        # Two rules are as sure: the shorter one is told.
        "b1": [("tonic", 0.8, ("limes",)), ("bread", 0.5, ()), ("milk", 0.5, ())],
        # What is more popular than by the rule has popularity's score.
        "b2": [("bread", 0.5, ()), ("milk", 0.5, ()), ("gin", 0.2, ())],
        # There is nothing that this basket lacks.
    }
    assert found(recommend(baskets, None, popular, 1, longest=5)) == {
        "b0": [("bread", 0.5, ())],
        "b1": [("bread", 0.5, ())],
        "b2": [("bread", 0.5, ())],
    }


@pytest.mark.parametrize("threshold", ["10MB", "-1"], ids=["broadcast", "shuffled"])
def test_recommendations_are_those_of_the_definition(spark: SparkSession, threshold: str) -> None:
    setting = "spark.sql.autoBroadcastJoinThreshold"
    before = str(spark.conf.get(setting))
    spark.conf.set(setting, threshold)
    try:
        check_against_the_definition(spark)
    finally:
        spark.conf.set(setting, before)


def check_against_the_definition(spark: SparkSession) -> None:
    rng = np.random.default_rng(11)
    items = [f"i{number:02}" for number in range(12)]
    baskets = [sorted(rng.choice(items, size=rng.integers(1, 9), replace=False).tolist()) for _ in range(60)] + [items]
    rules = {}
    for _ in range(150):
        left = tuple(sorted(rng.choice(items, size=rng.integers(1, 4), replace=False).tolist()))
        right = str(rng.choice(items))
        if right not in left:
            rules[left, right] = round(float(rng.uniform(0.1, 0.9)), 1)
    listed = [(left, right, confidence) for (left, right), confidence in rules.items()]
    frame = entities(spark, baskets).repartition(3)
    popular = popularity(frame)
    counts = Counter(item for basket in baskets for item in basket)
    shares = {item: count / len(baskets) for item, count in counts.items()}

    assert {row["item"]: row["support"] for row in popular.collect()} == pytest.approx(shares)
    best = found(recommend(frame, firing_rules(rules_frame(spark, listed), popular), popular, 4, longest=12))

    expected = {f"b{n}": by_definition(basket, listed, shares, 4) for n, basket in enumerate(baskets)}
    assert best == {name: [(i, pytest.approx(c), left) for i, c, left in own] for name, own in expected.items() if own}
    assert sum(bool(left) for own in expected.values() for _, _, left in own) > 50


def test_rules_are_looked_up_by_their_rarest_item_and_the_idle_ones_left_out(spark: SparkSession) -> None:
    popular = spark.createDataFrame([("a", 0.5), ("b", 0.1), ("c", 0.1)], "item string, support double")
    rows = [
        rule(["a", "b"], ["z"], confidence=0.5, improvement=0.1),
        rule(["b", "c"], ["z"], confidence=0.5, improvement=0.1),
        rule(["a", "unsold"], ["z"], confidence=0.5, improvement=0.1),
        rule(["a"], ["y"], confidence=0.5, improvement=0.0),
        rule(["a"], ["y", "z"], confidence=0.5, improvement=0.1),
    ]
    rules = firing_rules(spark.createDataFrame(rows, s.RULES.ddl), popular).collect()
    anchors = {tuple(row["antecedent"]): row["anchor"] for row in rules}
    assert anchors == {("a", "b"): "b", ("b", "c"): "b", ("a", "unsold"): "unsold"}


# What is held out.


def baskets_over_time(spark: SparkSession, days: Sequence[int | None], customers: int = 2) -> DataFrame:
    rows = [
        ("till", f"b{n}", f"c{n % customers}", None if day is None else datetime(2024, 1, day, 12), ["a", f"x{n}"])
        for n, day in enumerate(days)
    ]
    ddl = "source string, entity_id string, customer_id string, time timestamp, items array<string>"
    return spark.createDataFrame(rows, ddl)


def ids(frame: DataFrame) -> set[str]:
    return {row["entity_id"] for row in frame.collect()}


def test_the_last_part_of_time_is_held_out(spark: SparkSession) -> None:
    baskets = baskets_over_time(spark, [1, 1, 1, 2, 2, 2, 3, 3, 4, 5, None])

    parts = split(baskets, "basket", 0.45)

    # The 3rd to the 5th hold 4 of the 10 baskets with a time; with the 2nd there would be 7.
    assert (parts.kind, parts.cutoff) == ("time", date(2024, 1, 3))
    assert ids(parts.train) == {f"b{n}" for n in range(6)}
    cases = {row["entity_id"]: (row["items"], row["hidden"]) for row in parts.cases.collect()}
    assert set(cases) == {"b6", "b7", "b8", "b9"}
    for name, (given, hidden) in cases.items():
        assert sorted([*given, hidden]) == ["a", name.replace("b", "x")]
    # The last day, where even that is more than what was asked for, and never the first one.
    assert split(baskets, "basket", 0.01).cutoff == date(2024, 1, 5)
    assert split(baskets, "basket", 0.99).cutoff == date(2024, 1, 2)
    assert split(baskets.repartition(4), "basket", 0.45).cases.exceptAll(parts.cases).isEmpty()


def test_without_times_a_hash_of_the_id_decides(spark: SparkSession) -> None:
    baskets = baskets_over_time(spark, [None] * 400, customers=40)

    parts = split(baskets, "basket", 0.3)

    assert (parts.kind, parts.cutoff) == ("hash", None)
    assert ids(parts.train) | ids(parts.cases) == {f"b{n}" for n in range(400)}
    assert not ids(parts.train) & ids(parts.cases)
    assert 80 < len(ids(parts.cases)) < 160
    assert 0 < sum(row["hidden"] == "a" for row in parts.cases.collect()) < 400
    # One day is no time to split by either.
    one_day = split(baskets.withColumn("time", F.lit(datetime(2024, 1, 1))), "basket", 0.3)
    assert (one_day.kind, one_day.cutoff) == ("hash", None)
    assert ids(one_day.cases) == ids(parts.cases)
    # No basket of a customer who is asked about is learned from; baskets of nobody are.
    unowned = baskets.withColumn("customer_id", F.when(F.col("entity_id") != "b7", F.col("customer_id")))
    customers = split(unowned, "customer", 0.3)
    owners = {row["customer_id"] for row in customers.train.collect()}
    assert 3 < len(ids(customers.cases)) < 25
    assert not owners & ids(customers.cases)
    assert owners | ids(customers.cases) == {None, *(f"c{n}" for n in range(40))}


def test_customers_are_asked_what_they_buy_first_after_the_cutoff(spark: SparkSession) -> None:
    rows = [
        ("b0", "ann", 1, ["a", "b"]),
        ("b1", "ann", 2, ["c"]),
        ("b2", "ann", 9, ["a", "d"]),
        ("b3", "bob", 1, ["a"]),
        ("b4", "bob", 9, ["a"]),  # nothing new
        ("b5", "eve", 9, ["a", "b"]),  # nothing known of before
        ("b6", None, 9, ["a", "b"]),
    ]
    baskets = spark.createDataFrame(
        [("till", name, who, datetime(2024, 1, day), items) for name, who, day, items in rows],
        "source string, entity_id string, customer_id string, time timestamp, items array<string>",
    )
    parts = split(baskets, "customer", 0.6)
    assert parts.cutoff == date(2024, 1, 9)
    assert [(row["entity_id"], sorted(row["items"]), row["hidden"]) for row in parts.cases.collect()] == [
        ("ann", ["a", "b", "c"], "d")
    ]


def test_intervals_of_shares_means_and_differences(spark: SparkSession) -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    for hits, cases in ((0, 10), (3, 10), (10, 10), (345, 1000)):
        assert share_interval(hits, cases) == pytest.approx(
            proportion.proportion_confint(hits, cases, method="wilson"), abs=1e-6
        )
    assert mean_interval(6.0, 14.0, 3) == pytest.approx((2 - 1.959964 / 3**0.5, 2 + 1.959964 / 3**0.5))
    assert mean_interval(1.0, 1.0, 1) == (-np.inf, np.inf)

    ranks = spark.createDataFrame([(1, None), (2, 2), (None, None), (4, 1)], "rules int, popularity int")
    cases, rows = scores(ranks, "rules", "popularity")
    values = {(row.metric, row.model): row.value for row in rows}
    assert cases == 4
    assert values == {
        ("hit_rate", "rules"): 0.75,
        ("hit_rate", "popularity"): 0.5,
        ("hit_rate", "difference"): 0.25,
        ("mrr", "rules"): pytest.approx((1 + 1 / 2 + 1 / 4) / 4),
        ("mrr", "popularity"): pytest.approx((1 / 2 + 1) / 4),
        ("mrr", "difference"): pytest.approx((1 - 3 / 4) / 4),
    }
    paired = next(row for row in rows if (row.metric, row.model) == ("hit_rate", "difference"))
    width = 1.959964 * np.std([1, 0, 0, 0], ddof=1) / 4**0.5
    assert (paired.low, paired.high) == pytest.approx((0.25 - width, 0.25 + width))
    assert scores(ranks.limit(0), "rules", "popularity") == (0, [])


# The whole.

PAIRS = [["gin", "tonic"], ["tea", "milk"], ["pasta", "sauce"], ["soap", "towel"]]


def config(**mining: object) -> Config:
    columns = {"basket_id": None, "item": None, "ts": None, "customer_id": None}
    return Config.model_validate(
        {
            "sources": {"till": {"kind": "lines", "path": "lines.csv", "columns": columns}},
            "mining": {"min_support": 0.02, "min_confidence": 0.1, **mining},
        }
    )


def test_how_rules_are_applied_is_no_reason_to_mine_again() -> None:
    assert config().digest("mining") == config(recommend={"top": 9}).digest("mining")
    assert config().digest("mining") != config(min_lift=2).digest("mining")


def write_lines(lakehouse: Lakehouse, days: int = 10, *, dated: bool = True) -> None:
    """Every day 20 baskets of one pair each, with bread in two of five."""
    rows = []
    for number in range(20 * days):
        basket = [*PAIRS[number % 4], *(["bread"] if number % 5 < 2 else [])]
        when = datetime(2024, 1, 1 + number // 20, 12) if dated else None
        rows += [(f"r{number}", when, item, None, None, f"c{number % 7}", None) for item in basket]
    lakehouse.overwrite(s.LINES.name, lakehouse.spark.createDataFrame(rows, s.LINES.ddl))


def scored(lakehouse: Lakehouse) -> dict[tuple[str, str], float]:
    rows = lakehouse.read(s.RECOMMENDATION_SCORES.name).collect()
    return {(row["metric"], row["model"]): row["value"] for row in rows}


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lakehouse:
    """Lines of ten days, mined once for all tests, each of which goes on with a copy."""
    lakehouse = Lakehouse(spark, LakehouseConfig(root=str(tmp_path_factory.mktemp("shop") / "lakehouse")))
    write_lines(lakehouse)
    mine.run(config(), lakehouse)
    return lakehouse


@pytest.mark.parametrize("dated", [True, False], ids=["time", "hash"])
def test_rules_find_what_popularity_cannot(shop: Lakehouse, tmp_path: Path, dated: bool) -> None:
    """The hidden one of a pair is the best item; hidden bread comes after the pair's other part or not at all."""
    lakehouse = copy_of(shop, tmp_path / "copy")
    if not dated:
        # Rules know no times: those of the same baskets are the same.
        write_lines(lakehouse, dated=False)
    settings = config(recommend={"top": 1})

    told = pipeline.run(settings, lakehouse)

    rows = {row["entity_id"]: row for row in lakehouse.read(s.RECOMMENDATIONS.name).collect()}
    assert len(rows) == 200
    assert (rows["r2"]["item"], rows["r2"]["basis"], rows["r2"]["score"]) == ("bread", "popularity", 0.4)
    assert (rows["r2"]["source"], rows["r2"]["entity"]) == ("till", "basket")
    values = scored(lakehouse)
    first = lakehouse.read(s.RECOMMENDATION_SCORES.name).first()
    assert first is not None
    assert (first["split"], first["cutoff"]) == (("time", date(2024, 1, 9)) if dated else ("hash", None))
    if dated:
        assert first["cases"] == 40
        assert "40 held-out baskets since 2024-01-09: hit rate@1 rules" in told
    # A pair's other part is found, unless bread is hidden and the basket lacks nothing surer.
    assert values["hit_rate", "rules"] == 1.0
    assert values["hit_rate", "popularity"] < 0.5
    assert values["hit_rate", "difference"] == pytest.approx(1.0 - values["hit_rate", "popularity"])
    assert told.startswith("200 items for 200 baskets, ")


def test_what_is_scored_was_never_mined(lakehouse: Lakehouse) -> None:
    """A pair that only the held-out days know is in gold.rules, and no help there."""
    rows = [
        (f"r{n}", datetime(2024, 1, 1 + n // 10), item, None, None, None, None)
        for n in range(50)
        for item in (["new", "newer"] if n >= 40 else [f"old{n % 3}", f"older{n % 3}"])
    ]
    lakehouse.overwrite(s.LINES.name, lakehouse.spark.createDataFrame(rows, s.LINES.ddl))
    mine.run(config(), lakehouse)
    assert not lakehouse.read(s.RULES.name).where("is_kept and antecedent[0] = 'new'").isEmpty()

    pipeline.run(config(), lakehouse)

    assert scored(lakehouse)["hit_rate", "rules"] == 0.0


def test_customers_get_what_they_never_bought(shop: Lakehouse, tmp_path: Path) -> None:
    lakehouse = copy_of(shop, tmp_path / "copy")
    settings = config(recommend={"entity": "customer", "top": 2})

    told = pipeline.run(settings, lakehouse)

    # Each of the seven has bought everything, so nothing is left to recommend or to find.
    assert told == (
        "0 items for 0 customers, 0% of them by rules; not scored: nothing is held out that has an item to hide"
    )
    assert lakehouse.read(s.RECOMMENDATION_SCORES.name).isEmpty()
    lines = lakehouse.read(s.LINES.name)
    lakehouse.overwrite(s.LINES.name, lines.where("customer_id != 'c0' or item != 'tonic'"))
    pipeline.run(settings, lakehouse)
    row = lakehouse.read(s.RECOMMENDATIONS.name).first()
    assert row is not None
    assert (row["entity"], row["entity_id"], row["item"], row["antecedent"]) == ("customer", "c0", "tonic", ["gin"])

    lakehouse.overwrite(s.LINES.name, lines.withColumn("customer_id", F.lit(None)))
    with pytest.raises(ConfigError, match=r"mining\.recommend\.entity is customer, but no basket has a customer"):
        pipeline.run(settings, lakehouse)


@pytest.mark.slow
def test_two_sources_with_the_same_ids_are_told_apart(shop: Lakehouse, tmp_path: Path) -> None:
    lakehouse = copy_of(shop, tmp_path / "copy")
    both = config(recommend={"top": 1})
    baskets = {"kind": "baskets", "path": "b.txt", "format": "text"}
    both = Config.model_validate(
        {**both.model_dump(by_alias=True), "sources": {**both.model_dump(by_alias=True)["sources"], "list": baskets}}
    )
    lakehouse.overwrite(s.BASKETS.name, lakehouse.spark.createDataFrame([("r2", ["gin", None, "gin"])], s.BASKETS.ddl))

    pipeline.run(both, lakehouse)

    rows = lakehouse.read(s.RECOMMENDATIONS.name).where("entity_id = 'r2'").collect()
    assert {row["source"]: row["item"] for row in rows} == {"till": "bread", "list": "tonic"}
