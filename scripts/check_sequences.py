"""Compare the sequences mined of a simulated world's lines with what was planted in them.

    .venv/bin/python scripts/check_sequences.py [--config conf/examples/demo.yaml] [--set mining.sequences.max_gap=1]

The lakehouse must have been cleaned, and report.truth must name the simulation's truth/ folder. The customers who have
a planted sequence are counted one by one, in plain Python; then sequences are mined at the support of the rarest one,
by the driver and by tasks. Prints, of each planted sequence, its count both ways, its support, confidence and lift, and
its place among all mined ones of as many baskets by each of these. No table is changed. Exits with 1 where a planted
sequence is not found with that count, or driver and tasks differ.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from pathlib import Path

import pandas as pd
from pyspark.sql import functions as F

from dlmine_spark.config import SequencesConfig, load_config
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.mining.baskets import customer_and_time
from dlmine_spark.mining.sequence_table import described
from dlmine_spark.mining.sequences import frequent_sequences, purchases_of, summarise_customers
from dlmine_spark.pipelines.common import kept
from dlmine_spark.pipelines.mine import baskets_of_sources
from dlmine_spark.session import open_session

Planted = tuple[str, ...]
History = list[tuple[int, set[str]]]
"""A customer's visits in order: the day and what was bought."""


def main() -> int:
    """Count, mine, compare, print, and say whether all was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("conf/examples/demo.yaml"))
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args()
    config = load_config([arguments.config], arguments.settings, dict(os.environ))
    if config.report.truth is None:
        parser.error("report.truth is not set: there is nothing to compare with")
    planted = [tuple(items.split("|")) for items in pd.read_csv(Path(config.report.truth) / "sequences.csv")["items"]]
    with open_session(config.spark) as spark:
        baskets = baskets_of_sources(config, Lakehouse(spark, config.lakehouse), *customer_and_time())[0]
        with kept(purchases_of(baskets)) as purchases:
            histories = histories_of(purchases.toPandas())
            settings = config.mining.sequences
            counts = {one: sum(holds(visits, one, settings) for visits in histories) for one in planted}
            support = min(counts.values()) / len(histories)
            mining = config.mining.model_copy(
                update={"sequences": settings.model_copy(update={"min_support": support})}
            )
            summary = summarise_customers(purchases, mining.sequences)
            mined = frequent_sequences(purchases, summary, mining).localCheckpoint()
            by_tasks = frequent_sequences(purchases, summary, mining, small=0, least_codes=1)
            differ = mined.exceptAll(by_tasks).count() + by_tasks.exceptAll(mined).count()
            rows = described(mined, summary.customers, mining.sequences).where(F.col("elements") > 1).toPandas()
    print(
        f"support {support:.3f}, {gap_of(settings)}: {mined_count(rows)} of {len(histories):,} customers; "
        f"{differ:,} rows differ between driver and tasks"
    )
    found = sum(tell(one, counts[one], rows, len(histories)) for one in planted)
    print(f"{found} of {len(planted)} planted sequences found: recall {found / len(planted):.1f}")
    return 0 if found == len(planted) and not differ else 1


def histories_of(purchases: pd.DataFrame) -> list[History]:
    """The visits of each customer; what was bought at one instant is one visit."""
    histories: dict[str, dict[int, tuple[int, set[str]]]] = defaultdict(dict)
    for customer, time, day, items in purchases.itertuples(index=False):
        histories[customer].setdefault(time, (day, set()))[1].update(items)
    return [[visits[time] for time in sorted(visits)] for visits in histories.values()]


def holds(visits: History, items: Planted, config: SequencesConfig) -> bool:
    """Whether the items were bought one visit after another, as far apart as is allowed."""
    ends = [place for place, (_, bought) in enumerate(visits) if items[0] in bought]
    for item in items[1:]:
        ends = [
            place
            for place, (day, bought) in enumerate(visits)
            if item in bought
            and any(
                0 < place - end <= (config.max_gap or len(visits))
                and day - visits[end][0] <= (config.max_gap_days or day)
                for end in ends
            )
        ]
    return bool(ends)


def gap_of(config: SequencesConfig) -> str:
    """The limits in words."""
    return f"max_gap {config.max_gap}, max_gap_days {config.max_gap_days}"


def mined_count(rows: pd.DataFrame) -> str:
    """How many sequences of two and more baskets there are."""
    return f"{len(rows):,} sequences of two baskets and more"


def tell(items: Planted, count: int, rows: pd.DataFrame, customers: int) -> bool:
    """Print one line; whether the sequence was found with the right count."""
    sequences = [tuple(map(tuple, sequence)) for sequence in rows["sequence"]]
    own = rows[[sequence == tuple((item,) for item in items) for sequence in sequences]]
    name = " > ".join(items)
    if own.empty:
        print(f"{name}: {count:,} customers ({count / customers:.1%}), not found")
        return False
    row = own.iloc[0]
    others = rows[rows["elements"] == len(items)]
    places = ", ".join(
        f"{measure} {row[measure]:.2f} (place {1 + int((others[measure] > row[measure]).sum())} of {len(others):,})"
        for measure in ("support", "confidence", "lift")
    )
    print(f"{name}: {count:,} customers, mined {row['count']:,}; {places}")
    return bool(row["count"] == count)


if __name__ == "__main__":
    sys.exit(main())
