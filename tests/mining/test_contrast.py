"""Rules of groups of baskets beside each other, and rules weighed by the value of their baskets."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

import pytest
from pyspark.sql import Row
from scipy.stats import fisher_exact

from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.errors import ConfigError, DlmineError, TableContractError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.mining.contrast import count_hypotheses
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
    assert "8 baskets of smaller groups among the others" in told
    assert "beer => crisps" in table


def test_q_values_count_all_that_could_have_been_compared(lakehouse: Lakehouse) -> None:
    write(lakehouse)
    contrast.run(config(), lakehouse, "store_id")
    # Pairs that are frequent in either group: beer-crisps, milk-tea, gin-tonic; each splits in two ways; two groups.
    hypotheses = count_hypotheses({1: 6, 2: 3}, 2, 1)
    assert hypotheses == 12
    known = sorted(
        (row["p_value"], row["q_value"]) for row in group_rules(lakehouse).values() if row["p_value"] is not None
    )
    assert known[0][1] == pytest.approx(min(hypotheses * p / (rank + 1) for rank, (p, _) in enumerate(known)))


def test_groups_by_time_and_by_segment(lakehouse: Lakehouse) -> None:
    world = {"city": CITY * 4}
    write(lakehouse, world)
    settings = config(groups={"min_baskets": 40, "min_count": 5})
    labels = {}
    for by in ("year", "quarter", "month", "week", "weekday"):
        contrast.run(settings, lakehouse, by)
        labels[by] = {row["group"] for row in lakehouse.read("gold.group_rules").collect()}
    assert labels["year"] == {"2024", "2025"}
    assert labels["quarter"] == {"2024-Q4", "2025-Q1"}
    assert labels["month"] == {"2024-12", "2025-01"}
    # 29 December is a Sunday, with too few baskets; the days after it are of the first week of 2025.
    assert labels["week"] == {"2025-W01", "2025-W02"}
    assert labels["weekday"] == {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}

    segments = [("customer", f"c{number}", number % 2, 0.0, [1.0], False) for number in range(len(CITY) * 4)]
    lakehouse.overwrite("gold.segments", lakehouse.spark.createDataFrame(segments, s.SEGMENTS.ddl))
    told, _ = contrast.run(settings, lakehouse, "customer_segment")
    assert {row["group"] for row in lakehouse.read("gold.group_rules").collect()} == {"0", "1"}
    assert "320 baskets" in told


def test_groups_that_cannot_be_made_are_refused(lakehouse: Lakehouse) -> None:
    write(lakehouse)
    with pytest.raises(ConfigError, match=r"--by town: silver\.lines has no such column; there are: .*store_id"):
        contrast.run(config(), lakehouse, "town")
    with pytest.raises(ConfigError, match="--by month needs ts of each line"):
        contrast.check(config(columns=("basket_id", "item")), "month")
    with pytest.raises(ConfigError, match="--by store_segment needs store_id"):
        contrast.check(config(columns=("basket_id", "item")), "store_segment")
    baskets = {"sources": {"baskets": {"kind": "baskets", "path": "b.txt", "format": "text"}}}
    with pytest.raises(ConfigError, match="no source of kind lines"):
        contrast.check(Config.model_validate(baskets), "store_id")
    with pytest.raises(DlmineError, match=r"100 groups have 1 baskets or more, .*max_groups is 2"):
        contrast.run(config(groups={"min_baskets": 1, "max_groups": 2}), lakehouse, "customer_id")
    told, table = contrast.run(config(groups={"min_baskets": 1000}), lakehouse, "store_id")
    assert "nothing to compare" in told
    assert table == ""
    assert not lakehouse.exists("gold.group_rules")


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": "item"}, r"mining\.weight is 'item', which is no number .* spend, quantity, price"),
        ({"weight": "spend", "columns": ("basket_id", "item")}, r"sources\.receipts\.columns maps no price"),
    ],
)
def test_weights_that_are_no_numbers_are_refused(
    lakehouse: Lakehouse, settings: dict[str, object], message: str
) -> None:
    write(lakehouse)
    with pytest.raises(ConfigError, match=message):
        mine.run(config(**settings), lakehouse)  # type: ignore[arg-type]


def test_weights_need_lines(lakehouse: Lakehouse) -> None:
    sources = {"baskets": {"kind": "baskets", "path": "b.txt", "format": "text"}}
    settings = Config.model_validate({"sources": sources, "mining": {"weight": "spend"}})
    with pytest.raises((ConfigError, TableContractError), match="no source of kind lines"):
        mine.run(settings, lakehouse)
