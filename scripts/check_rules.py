"""Compare the rules kept of a simulated world's baskets with what was planted in them.

    .venv/bin/python scripts/check_rules.py [--config conf/examples/demo.yaml] [--supports 0.01 0.002 0.001]

The lakehouse must have been cleaned, and report.truth must name the simulation's truth/ folder. A rule is true if all
its items are of one planted group: the world's other items lie in baskets independently. Prints, by support, how many
rules there are, how many are kept and how many of those are false; beside it, the same of what Fisher's test of the two
sides alone would call significant. No table is changed. Exits with 1 where more than ``mining.max_q`` of the kept rules
are false, or a planted rule is not kept.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark.config import MiningConfig, load_config
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.mining.baskets import summarise, with_items
from dlmine_spark.mining.rules import adjusted, count_hypotheses, rules_of, with_verdicts
from dlmine_spark.pipelines.common import kept
from dlmine_spark.pipelines.mine import baskets_of_sources, mined
from dlmine_spark.session import open_session

Sides = tuple[frozenset[str], frozenset[str]]


def main() -> int:
    """Mine, compare, print, and say whether it is good enough."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("conf/examples/demo.yaml"))
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--supports", type=float, nargs="+", default=[0.01, 0.002, 0.001])
    parser.add_argument("--confidence", type=float, default=0.05)
    arguments = parser.parse_args()
    config = load_config([arguments.config], arguments.settings, dict(os.environ))
    if config.report.truth is None:
        parser.error("report.truth is not set: there is nothing to compare with")
    planted = read_planted(Path(config.report.truth))
    good = True
    with open_session(config.spark) as spark:
        baskets = baskets_of_sources(config, Lakehouse(spark, config.lakehouse))[0]
        for support in arguments.supports:
            changes = {"min_support": support, "min_confidence": arguments.confidence}
            good &= tell(rules_at(baskets, config.mining.model_copy(update=changes)), planted, support, config.mining)
    return 0 if good else 1


def read_planted(truth: Path) -> list[Sides]:
    """The planted rules."""
    rows = pd.read_csv(truth / "rules.csv")
    return [
        (frozenset(left.split("|")), frozenset([right]))
        for left, right in zip(rows["antecedent"], rows["consequent"], strict=True)
    ]


def rules_at(baskets: DataFrame, config: MiningConfig) -> pd.DataFrame:
    """All rules, with what the stage would say of them and what the test of the sides alone would."""
    with kept(with_items(baskets)) as whole:
        summary = summarise(whole)
        with mined(whole, summary, config) as found:
            hypotheses = count_hypotheses(found.itemsets, config)
            with kept(rules_of(found.itemsets, summary.baskets, config)) as rules:
                alone = adjusted(rules.select(F.col("p_value").alias("p")), rules.count(), hypotheses)
                verdicts = with_verdicts(rules, hypotheses, config).join(
                    alone.select(F.col("p").alias("p_value"), F.col("q_value").alias("q_alone")),
                    on="p_value",
                    how="left",
                )
                return verdicts.toPandas()


def tell(rules: pd.DataFrame, planted: list[Sides], support: float, config: MiningConfig) -> bool:
    """Print one line; whether what is kept is true and complete."""
    groups: list[frozenset[str]] = []
    for left, right in planted:
        touching = [group for group in groups if group & (left | right)]
        groups = [group for group in groups if group not in touching] + [(left | right).union(*touching)]
    sides = [
        (frozenset(left), frozenset(right))
        for left, right in zip(rules["antecedent"], rules["consequent"], strict=True)
    ]
    is_true = pd.Series([any(left | right <= group for group in groups) for left, right in sides])
    alone = (rules["q_alone"] <= config.max_q) & ~rules["is_redundant"]
    found = {side for side, is_kept in zip(sides, rules["is_kept"], strict=True) if is_kept}
    missing = [side for side in planted if side not in found]
    false = int((rules["is_kept"] & ~is_true).sum())
    print(
        f"support {support:g}: {len(rules):,} rules; {len(found):,} kept, {false:,} of them false; "
        f"{len(planted) - len(missing)} of {len(planted)} planted ones kept; by the test of the sides alone "
        f"{int(alone.sum()):,}, {int((alone & ~is_true).sum()):,} of them false",
        flush=True,
    )
    return not missing and false <= config.max_q * len(found)


if __name__ == "__main__":
    sys.exit(main())
