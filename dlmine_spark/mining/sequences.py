"""Frequent sequences of customers' baskets, distributed by what they start with.

1. Count the customers of each item; infrequent items are pruned.
2. Collect each customer's baskets, encode them in the order of their time, and send them, cut, to the tasks that mine
   what starts with an item of theirs (``histories``). Each task grows the sequences that start with its items
   (``prefixspan``). It has all that its customers bought from there on, as far as gaps let sequences reach, so counts
   are exact as they come.

Baskets of ``SMALL`` items in sum are mined by the driver instead: that takes less time than the tasks take to start.

Only the DataFrame API is used, so this runs under Spark Connect too. The driver holds the frequent items and their
counts; a task holds the histories of all customers who bought one of its items, from there on: up to all of them,
8 bytes a basket and 4 an item, and some four times as much while it looks its first items up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import MiningConfig, SequencesConfig
from dlmine_spark.mining.apriori import SMALL, ArrowFunction, task_count
from dlmine_spark.mining.baskets import least_count
from dlmine_spark.mining.groups import LEAST_CODES
from dlmine_spark.mining.histories import Gap, Histories, frequent_names, histories_of, in_order, project, spread
from dlmine_spark.mining.miner import Longs
from dlmine_spark.mining.prefixspan import Found, Limits, mine_sequences
from dlmine_spark.mining.sequence_table import MINED, too_many

_TIME, _DAY, _GROUP = "time", "day", "group"
_PARTS = ("codes", "lengths", "ahead", "sizes")
_PROJECTED = f"{_GROUP} int, " + ", ".join(f"{part} binary" for part in _PARTS)
"""One row per piece of the histories and group: the arrays of ``Histories`` as little-endian 32-bit integers."""
_BINARY = np.dtype("<i4")
_PIECE_ITEMS = 1_000_000
"""Items that a task encodes at once, about."""
_BATCH_SEQUENCES = 50_000
"""Sequences per Arrow batch that a task returns."""


@dataclass(frozen=True, slots=True)
class CustomerSummary:
    """How many customers there are, and whose history is too long to be one customer's.

    Attributes:
        customers: those with a basket; supports are shares of these.
        baskets: of all of them.
        items: of all their baskets in sum.
        left_out: customers with more than ``max_history`` baskets, who count nowhere above.
        longest: baskets of the customer with the most, left out or not.
        longest_id: that customer (the last in order of id among equals).
    """

    customers: int
    baskets: int
    items: int
    left_out: int
    longest: int
    longest_id: str | None


def purchases_of(baskets: DataFrame) -> DataFrame:
    """The baskets of which it is known whose they are and when.

    Args:
        baskets: ``customer_id``, ``ts``, ``items``.

    Returns:
        One row per such basket: ``customer_id``, ``time`` (microseconds since 1970), ``day`` (days since 1970, by the
        session's time zone), ``items``.
    """
    return baskets.where(F.col(s.CUSTOMER_ID).isNotNull() & F.col(s.TS).isNotNull()).select(
        s.CUSTOMER_ID,
        F.unix_micros(s.TS).alias(_TIME),
        F.unix_date(F.to_date(s.TS)).cast("bigint").alias(_DAY),
        s.ITEMS,
    )


def summarise_customers(purchases: DataFrame, config: SequencesConfig) -> CustomerSummary:
    """Count customers and find the longest history (one aggregation).

    Args:
        purchases: as ``purchases_of`` returns them.
        config: the limit of a history.
    """
    row = (
        _baskets_by_customer(purchases)
        .agg(
            F.count_if(_fits(config)).alias("customers"),
            F.sum(F.when(_fits(config), F.col("baskets"))).alias("baskets"),
            F.sum(F.when(_fits(config), F.col("bought"))).alias("bought"),
            F.count_if(~_fits(config)).alias("left_out"),
            F.max(F.struct("baskets", s.CUSTOMER_ID)).alias("of"),
        )
        .collect()[0]
    )
    longest, longest_id = row["of"] or (0, None)
    return CustomerSummary(
        row["customers"], row["baskets"] or 0, row["bought"] or 0, row["left_out"], longest, longest_id
    )


def _baskets_by_customer(purchases: DataFrame) -> DataFrame:
    return purchases.groupBy(s.CUSTOMER_ID).agg(
        F.count(F.lit(1)).alias("baskets"), F.sum(F.size(s.ITEMS)).alias("bought")
    )


def _fits(config: SequencesConfig) -> Column:
    return F.col("baskets") <= config.max_history


def frequent_sequences(
    purchases: DataFrame,
    summary: CustomerSummary,
    config: MiningConfig,
    *,
    small: int = SMALL,
    least_codes: int = LEAST_CODES,
) -> DataFrame:
    """Frequent sequences with exact counts; counts items at once (one action), and mines small histories at once.

    Args:
        purchases: as ``purchases_of`` returns them; read twice or three times, so cached or a table.
        summary: of the purchases.
        config: support and limits.
        small: items in sum that the driver mines itself.
        least_codes: items that a task reads at least, in sum over the items its sequences start with.

    Returns:
        ``MINED``: one row per sequence, and one for each task that stopped at ``max_sequences``.

    Raises:
        TooManySequences: there are more frequent items than ``mining.sequences.max_sequences``.
    """
    spark = purchases.sparkSession
    settings = config.sequences
    if summary.customers == 0:
        return spark.createDataFrame([], MINED)
    if summary.left_out:
        too_long = _baskets_by_customer(purchases).where(~_fits(settings)).select(s.CUSTOMER_ID)
        purchases = purchases.join(too_long, on=s.CUSTOMER_ID, how="left_anti")
    limits = Limits(least_count(settings.min_support, summary.customers), settings.max_len, settings.max_elements)
    if summary.items <= small:
        mined = _mine_here(purchases, limits, settings)
        return spark.createDataFrame(mined if mined.num_rows else [], MINED)
    names, counts = _count_items(purchases, limits, settings)
    if not len(names):
        return spark.createDataFrame([], MINED)
    # What starts with an item reads about as much of each of its customers as any other.
    work = float(counts.sum()) * summary.items / summary.customers
    group_of = spread(counts, min(task_count(spark, config), len(names), max(1, math.ceil(work / least_codes))))
    return (
        purchases.groupBy(s.CUSTOMER_ID)
        .agg(F.collect_list(F.struct(_TIME, _DAY, s.ITEMS)).alias("history"))
        .select("history")
        .mapInArrow(_projection(names, group_of, limits, _gap(settings)), _PROJECTED)
        # By number, so that adaptive execution does not merge small partitions: they are small to ship, not to mine.
        .repartitionById(int(group_of.max()) + 1, _GROUP)
        .mapInArrow(_mining(names, group_of, limits, settings.max_sequences), MINED)
    )


def _gap(config: SequencesConfig) -> Gap:
    return Gap(config.max_gap, config.max_gap_days)


def _mine_here(purchases: DataFrame, limits: Limits, config: SequencesConfig) -> pa.Table:
    """The sequences of small histories, collected and mined by the driver."""
    table = purchases.toArrow()
    customers = np.asarray(table.column(s.CUSTOMER_ID).combine_chunks().dictionary_encode().indices).astype(np.int64)
    times, days = (np.asarray(table.column(name)) for name in (_TIME, _DAY))
    items = table.column(s.ITEMS).combine_chunks()
    names, _ = frequent_names(customers, items, limits.min_count)
    histories = histories_of(customers, times, days, items, names, _gap(config))
    found = mine_sequences(histories, np.arange(len(names)), limits)
    return pa.Table.from_batches(_rows(found, names, config.max_sequences), _SCHEMA)


def _count_items(purchases: DataFrame, limits: Limits, config: SequencesConfig) -> tuple[pa.Array, Longs]:
    """The items that enough customers bought, ascending, and how many did (one aggregation).

    Raises:
        TooManySequences: there are more than ``mining.sequences.max_sequences``.
    """
    counted = (
        purchases.select(s.CUSTOMER_ID, F.explode(s.ITEMS).alias(s.ITEM))
        .distinct()
        .groupBy(s.ITEM)
        .count()
        .where(F.col("count") >= limits.min_count)
        .limit(config.max_sequences + 1)
        .toArrow()
    )
    if counted.num_rows > config.max_sequences:
        raise too_many(1, config)
    return in_order(counted.column(s.ITEM).combine_chunks(), np.asarray(counted.column("count")))


def _projection(names: pa.Array, group_of: np.ndarray, limits: Limits, gap: Gap) -> ArrowFunction:
    """The function of the second pass: whole histories in, what each group needs of them out."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for lists in pieces_of(batches):
            customers = np.repeat(np.arange(len(lists)), np.asarray(lists.value_lengths()))
            # flatten() minds slices, of lists and of structs; .values and .field() do not all.
            times, days, items = lists.flatten().flatten()
            histories = histories_of(customers, np.asarray(times), np.asarray(days), items, names, gap)
            rows = list(project(histories, group_of, limits.hops))
            yield pa.RecordBatch.from_pydict(
                {_GROUP: pa.array([group for group, _ in rows], pa.int32())}
                | {
                    part: pa.array([getattr(cut, part).astype(_BINARY).tobytes() for _, cut in rows], pa.binary())
                    for part in _PARTS
                }
            )

    return run


def pieces_of(batches: Iterator[pa.RecordBatch], piece_items: int = _PIECE_ITEMS) -> Iterator[pa.Array]:
    """The histories of so few customers at a time that encoding them takes some tens of megabytes."""
    for batch in batches:
        lists = batch.column(0)
        items = pc.sum(pc.list_value_length(lists.flatten().field(2))).as_py() or 0
        step = max(1, len(lists) * piece_items // max(1, items))
        for start in range(0, len(lists), step):
            yield lists.slice(start, step)


def _mining(names: pa.Array, group_of: np.ndarray, limits: Limits, max_sequences: int) -> ArrowFunction:
    """The function that mines a group: its pieces in, sequences out."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        group = None
        pieces: list[Histories] = []
        for batch in batches:
            for number, *parts in zip(*batch.columns, strict=True):
                group = number.as_py()
                pieces.append(Histories(*(np.frombuffer(part.as_buffer(), _BINARY) for part in parts)))
        if group is None:
            return
        found = mine_sequences(Histories.joined(pieces), np.flatnonzero(group_of == group), limits)
        yield from _rows(found, names, max_sequences)

    return run


_SCHEMA = pa.schema(
    {
        "sequence": pa.list_(pa.list_(pa.string())),
        "length": pa.int32(),
        "elements": pa.int32(),
        "count": pa.int64(),
        "prefix_count": pa.int64(),
    }
)


def _rows(blocks: Iterator[Found], names: pa.Array, max_sequences: int) -> Iterator[pa.RecordBatch]:
    """Blocks of sequences as rows, in few large batches; after the limit one row that says that it was passed."""
    held: list[Found] = []
    found = waiting = 0
    for block in blocks:
        found += len(block.counts)
        if found > max_sequences:
            row = {"sequence": None, "length": block.codes.shape[1], "elements": None, "count": found}
            yield pa.RecordBatch.from_pylist([row], _SCHEMA)
            return
        held.append(block)
        waiting += len(block.counts)
        if waiting >= _BATCH_SEQUENCES:
            yield from _batches(held, names)
            held, waiting = [], 0
    yield from _batches(held, names)


def _batches(held: list[Found], names: pa.Array) -> Iterator[pa.RecordBatch]:
    """The rows of some blocks, one batch per length."""
    for length in sorted({block.codes.shape[1] for block in held}):
        blocks = [block for block in held if block.codes.shape[1] == length]
        yield _batch(
            Found(
                np.concatenate([block.codes for block in blocks]),
                np.concatenate([block.opens for block in blocks]),
                np.concatenate([block.counts for block in blocks]),
                np.concatenate([block.prefix_counts for block in blocks]),
            ),
            names,
        )


def _batch(block: Found, names: pa.Array) -> pa.RecordBatch:
    """The rows of a block: lists of baskets, which are lists of names."""
    length = block.codes.shape[1]
    elements = block.opens.sum(axis=1)
    items = names.take(pa.array(block.codes.ravel())).cast(pa.string())
    firsts = np.append(np.flatnonzero(block.opens), block.codes.size).astype(np.int32)
    baskets = pa.ListArray.from_arrays(pa.array(firsts), items)
    ends = np.append(0, np.cumsum(elements)).astype(np.int32)
    return pa.RecordBatch.from_arrays(
        [
            pa.ListArray.from_arrays(pa.array(ends), baskets),
            pa.array(np.full(len(elements), length, dtype=np.int32)),
            pa.array(elements.astype(np.int32)),
            pa.array(block.counts),
            pa.array(block.prefix_counts),
        ],
        schema=_SCHEMA,
    )
