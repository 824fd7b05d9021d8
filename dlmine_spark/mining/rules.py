"""Association rules from frequent itemsets: all of them measured, tested and compared with more general ones.

An itemset splits into antecedent and consequent; both are frequent, so their counts are found among the itemsets. One
join brings the antecedents' counts; then all rules of a consequent meet in one task, where ``generality`` looks at what
each item adds. A task holds the rules of one consequent, or about ``CHUNK`` of them; nothing is collected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import MiningConfig
from dlmine_spark.mining.generality import Candidates, compare
from dlmine_spark.mining.measures import measures
from dlmine_spark.mining.templates import fits, has_required, may_become

ArrowFunction = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]

CHUNK = 500_000
"""Candidates that a task looks at together; more where a consequent has more."""
_BATCH_RULES = 10_000
"""Rules per Arrow batch that a task returns."""
SIDES = ("antecedent", "consequent")
_JOINT, _ANTECEDENT, _WANTED = "joint_count", "antecedent_count", "wanted"
WEIGHTED = ("weighted_support", "weighted_confidence", "weighted_lift")
"""Support, confidence and lift with the weights of baskets in place of their number; see ``weights``."""
_FLAGS = ("q_value", "is_redundant", "is_significant", "is_kept")
_TESTED = {name: type_ for name, type_ in s.RULES.columns.items() if name not in (*WEIGHTED, *_FLAGS)}


def rules_of(itemsets: DataFrame, baskets: int, config: MiningConfig, *, chunk: int = CHUNK) -> DataFrame:
    """Rules with at least the confidence and the lift asked for, as the templates want them.

    Args:
        itemsets: all frequent itemsets with sorted ``items`` and their ``count``; read twice, so cached or a table.
        baskets: number of baskets they were counted in.
        config: thresholds, templates, and how many items a consequent may have.
        chunk: see ``CHUNK``.

    Returns:
        The rows of ``gold.rules`` without what depends on all rules together (``with_verdicts`` adds it): one row per
        rule, both sides sorted ascending.
    """
    antecedents = itemsets.select(F.col(s.ITEMS).alias("antecedent"), F.col("count").alias(_ANTECEDENT))
    is_empty = F.size("antecedent") == 0
    return (
        splits(itemsets, config)
        .join(antecedents, on="antecedent", how="left")
        .select(
            "antecedent",
            "consequent",
            F.col(_JOINT).cast("double").alias(_JOINT),
            F.when(is_empty, F.lit(baskets)).otherwise(F.col(_ANTECEDENT)).cast("double").alias(_ANTECEDENT),
            has_required(F.col("antecedent"), config.antecedent).alias(_WANTED),
        )
        .repartition("consequent")
        .sortWithinPartitions("consequent")
        .mapInArrow(_comparing(config, float(baskets), chunk), ", ".join(f"{n} {t}" for n, t in _TESTED.items()))
    )


def splits(itemsets: DataFrame, config: MiningConfig) -> DataFrame:
    """Every way to split an itemset into an antecedent and a consequent of at most ``max_consequent`` items.

    The antecedent may be empty. Sides that a template excludes are left out, but for antecedents that lack a required
    item: what they are worth without it has to be known.

    Returns:
        One row per split: ``antecedent``, ``consequent`` (sorted), ``joint_count``.
    """
    return (
        itemsets.select(
            s.ITEMS, F.col("count").alias(_JOINT), F.explode(_parts(config.max_consequent)).alias("consequent")
        )
        .where(fits(F.col("consequent"), config.consequent))
        .select(F.array_except(s.ITEMS, "consequent").alias("antecedent"), "consequent", _JOINT)
        .where(may_become(F.col("antecedent"), config.antecedent))
    )


def _parts(largest: int) -> Column:
    """All subsets of one up to so many of the items, each in the items' order."""
    if largest == 1:
        return F.transform(s.ITEMS, lambda item: F.array(item))
    nothing = F.array(F.array().cast("array<string>"))
    subsets = F.aggregate(
        s.ITEMS,
        nothing,
        lambda parts, item: F.concat(
            parts,
            F.transform(F.filter(parts, lambda part: F.size(part) < largest), lambda part: F.array_append(part, item)),
        ),
    )
    return F.slice(subsets, F.lit(2), F.size(subsets))


def _comparing(config: MiningConfig, baskets: float, chunk: int) -> ArrowFunction:
    """The function that judges the candidates of a partition, which are sorted by consequent."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows, groups in _whole_groups(batches, chunk):
            yield from _judged(rows, groups, baskets, config).to_batches(_BATCH_RULES)

    return run


def _whole_groups(batches: Iterator[pa.RecordBatch], chunk: int) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Rows of whole consequents, about ``chunk`` at a time, with the numbers of their consequents."""
    held: list[pa.RecordBatch] = []
    waiting, enough = 0, chunk
    for batch in batches:
        held.append(batch)
        waiting += batch.num_rows
        if waiting < enough:
            continue
        rows = pa.Table.from_batches(held).combine_chunks()
        groups = _numbered(rows.column("consequent"))
        last = int(np.searchsorted(groups, groups[-1]))
        # The last consequent may go on; where there is no other, its rows are looked at less often.
        enough = chunk if last else 2 * waiting
        if last:
            yield rows.slice(0, last), groups[:last]
            held, waiting = rows.slice(last).to_batches(), rows.num_rows - last
    if waiting:
        rows = pa.Table.from_batches(held)
        yield rows, _numbered(rows.column("consequent"))


def _numbered(sets: pa.ChunkedArray) -> np.ndarray:
    """Number equal neighbours equally, from 0."""
    lengths, codes = _encoded(sets)
    starts = np.cumsum(lengths) - lengths
    is_new = np.zeros(len(lengths), dtype=np.int64)
    for place in range(int(lengths.max(initial=0))):
        code = np.full(len(lengths), -1, dtype=np.int64)
        has_place = lengths > place
        code[has_place] = codes[starts[has_place] + place]
        is_new[1:] |= np.diff(code) != 0
    return np.cumsum(is_new)


def _encoded(sets: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The sizes of sets, and their items as numbers, one set after the other."""
    lengths = np.asarray(pc.list_value_length(sets)).astype(np.int64)
    items = pa.chunked_array(pc.list_flatten(sets)).combine_chunks().dictionary_encode()
    return lengths, np.asarray(items.indices)


def _judged(rows: pa.Table, groups: np.ndarray, baskets: float, config: MiningConfig) -> pa.Table:
    """The rules among candidates, with everything that can be said of them one by one."""
    lengths, codes = _encoded(rows.column("antecedent"))
    joint, antecedent = (np.asarray(rows.column(name)) for name in (_JOINT, _ANTECEDENT))
    candidates = Candidates(groups, lengths, codes, joint, antecedent)
    found = compare(candidates, np.asarray(rows.column(_WANTED)), config.min_confidence, config.min_lift)
    values = {
        **measures(joint[found.rows], antecedent[found.rows], found.consequent, baskets),
        "improvement": found.improvement,
        "p_value": np.exp(found.log_p),
        "p_improvement": np.exp(found.log_p_improvement),
    }
    sides = rows.select(["antecedent", "consequent"]).take(pa.array(found.rows))
    columns = {name: pa.array(value, pa.float64(), from_pandas=True) for name, value in values.items()}
    return pa.table({"antecedent": sides.column(0), "consequent": sides.column(1), **columns}).select(list(_TESTED))


def with_verdicts(rules: DataFrame, hypotheses: int, config: MiningConfig) -> DataFrame:
    """Rules with what depends on all of them: adjusted p-values, and whether they are worth acting on.

    Args:
        rules: of ``rules_of``; counted at once and read twice more, so cached.
        hypotheses: how many were tested, see ``count_hypotheses``.
        config: thresholds of pruning.

    Returns:
        The rows of ``gold.rules``; ``weights`` may fill in weighted measures.
    """
    # The rule as a whole: its sides belong together, and no item of the antecedent is idle.
    with_p = rules.withColumn("p", F.greatest("p_value", "p_improvement"))
    q_values = adjusted(with_p.select("p"), rules.count(), hypotheses)
    is_kept = ~F.col("is_redundant") & F.col("is_significant") if config.prune else F.lit(True)
    return (
        with_p.join(q_values, on="p", how="inner")
        .withColumn("is_redundant", F.col("improvement") <= config.min_improvement)
        .withColumn("is_significant", F.col("q_value") <= config.max_q)
        .withColumn("is_kept", is_kept)
        .withColumns({name: F.lit(None).cast("double") for name in WEIGHTED})
        .select(*s.RULES.names)
    )


def adjusted(p_values: DataFrame, count: int, hypotheses: int) -> DataFrame:
    """P-values adjusted for testing many hypotheses (Benjamini and Hochberg 1995), exactly.

    ``q`` of ``p`` is the least of ``hypotheses * p' / rank(p')`` over all ``p' >= p``, where ``rank`` counts the values
    up to ``p'``. From the largest value down both are running totals. So one task reads all values, eight bytes each,
    but it holds a batch of them: Spark sorts them, on disk where memory is short. That is little beside what making the
    rules takes. Windows over ranges of p, with the totals of the other ranges, took 4 times as long (5,668 rules).

    Args:
        p_values: one column ``p``; hypotheses that are not among them count as p = 1.
        count: its rows.
        hypotheses: how many there are in all.

    Returns:
        One row per distinct value: ``p``, ``q_value``.
    """

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        seen, last, least = 0, np.nan, 1.0
        for batch in batches:
            p = np.asarray(batch.column(0))
            firsts = np.flatnonzero(np.diff(p, prepend=last) != 0)
            raw = hypotheses * p[firsts] / (count - seen - firsts)
            q = np.minimum.accumulate(np.concatenate([[least], raw]))
            yield pa.RecordBatch.from_pydict({"p": pa.array(p[firsts]), "q_value": pa.array(q[1:])})
            seen, last, least = seen + len(p), p[-1], q[-1]

    return p_values.repartition(1).sortWithinPartitions(F.desc("p")).mapInArrow(run, "p double, q_value double")


def count_hypotheses(itemsets: DataFrame, config: MiningConfig) -> int:
    """How many rules were tested, found or not: pairs of frequent itemsets that could have been its sides.

    A pair whose union is not frequent was tested too: it failed. What selects the pairs is how frequent each side is,
    of which the test of their independence knows nothing; selecting them by their common support, confidence or lift
    would choose those with small p-values, and the rate of false discoveries would be more than stated (Hämäläinen and
    Webb 2019). Runs one aggregation and collects a row per size.

    Returns:
        Their number, exactly for consequents of one item; for longer ones, pairs with common items are counted too.
    """
    sides = itemsets.groupBy("size").agg(
        F.count_if(fits(F.col(s.ITEMS), config.antecedent)).alias("antecedents"),
        F.count_if(fits(F.col(s.ITEMS), config.consequent)).alias("consequents"),
        F.sum(
            F.when(
                fits(F.col(s.ITEMS), config.antecedent),
                F.size(F.filter(s.ITEMS, lambda item: fits(F.array(item), config.consequent))),
            ).otherwise(0)
        ).alias("shared"),
    )
    rows = sides.collect()
    total = 0
    for left in rows:
        for right in rows:
            too_long = config.max_len is not None and left["size"] + right["size"] > config.max_len
            if right["size"] <= config.max_consequent and not too_long:
                total += left["antecedents"] * right["consequents"] - (left["shared"] if right["size"] == 1 else 0)
    return total
