"""Exact counts of public benchmark files, computed by other programs (skipped where there are no public data)."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dlmine_spark.caching import kept
from dlmine_spark.config import MiningConfig
from dlmine_spark.mining import apriori
from dlmine_spark.mining.baskets import summarise, with_items
from dlmine_spark.mining.itemsets import described
from dlmine_spark.mining.rules import rules_of

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("compiled")]


def read(spark: SparkSession, file: Path) -> DataFrame:
    text = file.read_text(encoding="utf-8").splitlines()
    rows = list(csv.reader(text)) if file.suffix == ".csv" else [line.split() for line in text]
    ids = [str(number) for number in range(len(rows))]
    return with_items(spark.createDataFrame(pa.table({"basket_id": ids, "items": rows})))


@pytest.mark.parametrize("small", [apriori.SMALL, 0], ids=["by the driver", "by tasks"])
@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (
            "fimi/retail_fimi.dat",
            {
                0.01: (159, 159, 78),
                0.002: (2_691, 2_691, 1_341),
                0.001: (7_589, 7_572, 3_452),
                0.0005: (19_242, 19_114, 8_143),
            },
        ),
        ("fimi/mushroom_fimi.dat", {0.4: (565, 140, 41), 0.3: (2_735, 427, 63), 0.2: (53_583, 1_197, 158)}),
    ],
    ids=["sparse", "dense"],
)
def test_itemsets(
    spark: SparkSession, public_data: Path, file: str, expected: dict[float, tuple[int, int, int]], small: int
) -> None:
    """Frequent, closed and maximal ones."""
    with kept(read(spark, public_data / file)) as baskets:
        summary = summarise(baskets)
        for min_support, counts in expected.items():
            mined = apriori.frequent_itemsets(baskets, summary, MiningConfig(min_support=min_support), small=small)
            found = described(mined, summary.baskets).agg(
                F.count(F.lit(1)), F.count_if("is_closed"), F.count_if("is_maximal")
            )
            assert tuple(found.collect()[0]) == counts


def test_rules_of_groceries(spark: SparkSession, public_data: Path) -> None:
    """The published figure of R's arules: 5,668 rules at support .001 and confidence .5."""
    with kept(read(spark, public_data / "groceries" / "groceries.csv")) as baskets:
        summary = summarise(baskets)
        config = MiningConfig(min_support=0.001, min_confidence=0.5)
        with kept(apriori.frequent_itemsets(baskets, summary, config)) as itemsets:
            assert itemsets.count() == 13_492
            with kept(rules_of(itemsets, summary.baskets, config)) as rules:
                lengths = rules.groupBy(F.size("antecedent") + F.size("consequent")).count().collect()
                best = rules.orderBy(F.desc("lift")).first()
    assert dict(map(tuple, lengths)) == {2: 11, 3: 1461, 4: 3211, 5: 939, 6: 46}
    assert best is not None
    assert (best["antecedent"], best["consequent"]) == (["Instant food products", "soda"], ["hamburger meat"])
    assert best["lift"] == pytest.approx(18.9957, abs=5e-5)
