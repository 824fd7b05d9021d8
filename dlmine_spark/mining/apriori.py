"""Distributed Apriori: two passes over the baskets whatever the size of the itemsets.

1. Count items (``count_items``). Infrequent ones are pruned; the others get codes by descending frequency.
2. Encode each basket and send it, cut, to the tasks that mine an item of it (``groups``); each task mines the classes
   it was given from bitsets, level by level (``miner``). Every itemset belongs to one class, so counts are exact as
   they come and no candidates travel.

Of the other plans, counting every level over all baskets (Agrawal and Srikant 1994) takes a pass a level, and
partitioned mining (SON: Savasere, Omiecinski and Navathe 1995, "An efficient algorithm for mining association rules in
large databases") takes two passes but mines each part at the same relative support: with many small parts, most local
itemsets are noise (17 times the true ones with 32 parts, measured on FIMI retail).

Baskets of ``SMALL`` items in sum are mined by the driver instead: that takes less time than the tasks take to start.

Only the DataFrame API is used, so this runs under Spark Connect too. The driver holds the frequent items and their
counts; a task holds about ``groups.MOST_CODES`` codes at most, and bitsets of an eighth of their size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import MiningConfig
from dlmine_spark.mining.baskets import BasketSummary
from dlmine_spark.mining.encode import Dictionary, decode, dictionary_of, encode
from dlmine_spark.mining.groups import LEAST_CODES, MOST_CODES, GroupPlan, plan_groups, project
from dlmine_spark.mining.itemsets import MINED, too_many
from dlmine_spark.mining.miner import Baskets, Found, ItemClass, mine_classes
from dlmine_spark.parallel import shuffle_tasks

ArrowFunction = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]

_GROUP, _LENGTHS, _CODES = "group", "lengths", "codes"
_PROJECTED = f"{_GROUP} int, {_LENGTHS} binary, {_CODES} binary"
"""One row per piece of the baskets and group: lengths and codes of cut baskets as little-endian 32-bit integers.

Whole pieces in binary cells cross to the JVM, through the shuffle and back as blocks of memory, not item by item.
"""
_BINARY = np.dtype("<i4")
SMALL = 2_000_000
"""Items of all baskets in sum that the driver mines itself: some tens of megabytes."""
_SMALL_ITEMSETS = 200_000
"""Itemsets that the driver mines itself: also some tens of megabytes."""
_PIECE_ITEMS = 2_000_000
"""Items that a task encodes at once: fewer, larger pieces make fewer calls of numpy."""
_BATCH_ITEMSETS = 50_000
"""Itemsets per Arrow batch that a task returns."""


def frequent_itemsets(
    baskets: DataFrame,
    summary: BasketSummary,
    config: MiningConfig,
    *,
    small: int = SMALL,
    least_codes: int = LEAST_CODES,
    most_codes: int = MOST_CODES,
) -> DataFrame:
    """Frequent itemsets with exact counts; counts items at once (one action), and mines small baskets at once.

    Args:
        baskets: one row per basket, ``items`` distinct and not null; read twice, so cached or a table.
        summary: of the baskets.
        config: support and limits.
        small: items in sum that the driver mines itself, unless there are very many itemsets in them.
        least_codes, most_codes: see ``plan_groups``.

    Returns:
        ``itemsets.MINED``: one row per itemset, and one for each task that stopped at ``max_itemsets``.

    Raises:
        DlmineError: there are more frequent items than ``mining.max_itemsets``.
    """
    mined = mine_small(baskets, summary, config, small=small)
    if mined is not None:
        return baskets.sparkSession.createDataFrame(mined, MINED)
    return mine_large(baskets, summary, config, least_codes=least_codes, most_codes=most_codes)


def mine_large(
    baskets: DataFrame,
    summary: BasketSummary,
    config: MiningConfig,
    *,
    least_codes: int = LEAST_CODES,
    most_codes: int = MOST_CODES,
) -> DataFrame:
    """The itemsets of baskets that tasks mine; arguments, result and errors as of ``frequent_itemsets``."""
    spark = baskets.sparkSession
    dictionary = count_items(baskets, summary, config)
    single_items = spark.createDataFrame(pa.Table.from_batches([_single_items(dictionary)]), MINED)
    if len(dictionary) < 2 or config.max_len == 1:
        return single_items
    plan = plan_groups(dictionary.counts, dictionary.baskets, task_count(spark, config), least_codes, most_codes)
    larger = (
        baskets.select(s.ITEMS)
        .mapInArrow(_projection(dictionary, plan), _PROJECTED)
        # By number, so that adaptive execution does not merge small partitions: they are small to ship, not to mine.
        .repartitionById(len(plan), _GROUP)
        .mapInArrow(_mining(dictionary, plan, config), MINED)
    )
    return single_items.unionByName(larger)


def mine_small(
    baskets: DataFrame, summary: BasketSummary, config: MiningConfig, *, small: int = SMALL
) -> pa.Table | None:
    """The itemsets (``itemsets.MINED``) of baskets that the driver collects and mines itself.

    Returns:
        None where baskets or itemsets are too many to hold.
    """
    if summary.items > small:
        return None
    lists = baskets.select(s.ITEMS).toArrow().column(s.ITEMS).combine_chunks()
    counts = lists.flatten().value_counts()
    min_count = summary.min_count(config.min_support)
    dictionary = dictionary_of(counts.field("values"), np.asarray(counts.field("counts")), summary.baskets, min_count)
    most = min(_SMALL_ITEMSETS, config.max_itemsets)
    found = len(dictionary)
    held: list[Found] = []
    classes = [ItemClass(item) for item in range(len(dictionary))]
    for block in mine_classes(encode(lists, dictionary), classes, min_count, config.max_len):
        held.append(block)
        found += len(block.counts)
        if found > most:
            return None
    return pa.Table.from_batches([_single_items(dictionary), *_itemsets(held, dictionary)])


def task_count(spark: SparkSession, config: MiningConfig) -> int:
    """Groups wanted: as many as the session has tasks after a shuffle."""
    return config.num_partitions or shuffle_tasks(spark)


def count_items(baskets: DataFrame, summary: BasketSummary, config: MiningConfig) -> Dictionary:
    """The frequent items with their counts (one aggregation; what is collected is limited by ``max_itemsets``).

    Raises:
        DlmineError: there are more than ``mining.max_itemsets``.
    """
    min_count = summary.min_count(config.min_support)
    counts = (
        baskets.select(F.explode(s.ITEMS).alias(s.ITEM))
        .groupBy(s.ITEM)
        .count()
        .where(F.col("count") >= min_count)
        .limit(config.max_itemsets + 1)
        .toArrow()
    )
    if counts.num_rows > config.max_itemsets:
        raise too_many(1, config)
    items = counts.column(s.ITEM).combine_chunks()
    return dictionary_of(items, np.asarray(counts.column("count")), summary.baskets, min_count)


def _projection(dictionary: Dictionary, plan: GroupPlan) -> ArrowFunction:
    """The function of the second pass: baskets in, what each group needs of them out."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for piece in _pieces(batches):
            rows = list(project(encode(piece, dictionary), plan))
            yield pa.RecordBatch.from_pydict(
                {
                    _GROUP: pa.array([group for group, _ in rows], pa.int32()),
                    _LENGTHS: pa.array([_to_bytes(cut.lengths) for _, cut in rows], pa.binary()),
                    _CODES: pa.array([_to_bytes(cut.codes) for _, cut in rows], pa.binary()),
                }
            )

    return run


def _pieces(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Array]:
    """The lists of items of some batches at a time."""
    held: list[pa.Array] = []
    items = 0
    for batch in batches:
        held.append(batch.column(0))
        items += len(held[-1].values)
        if items >= _PIECE_ITEMS:
            yield pa.concat_arrays(held)
            held, items = [], 0
    if held:
        yield pa.concat_arrays(held)


def _mining(dictionary: Dictionary, plan: GroupPlan, config: MiningConfig) -> ArrowFunction:
    """The function that mines a group: its pieces in, itemsets out."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        group, baskets = _collect(batches)
        if group is None:
            return
        held: list[Found] = []
        found = waiting = 0
        for block in mine_classes(baskets, plan.classes[group], dictionary.min_count, config.max_len):
            held.append(block)
            waiting += len(block.counts)
            found += len(block.counts)
            if found > config.max_itemsets:
                yield _stopped(block, found)
                return
            if waiting >= _BATCH_ITEMSETS:
                yield from _itemsets(held, dictionary)
                held, waiting = [], 0
        yield from _itemsets(held, dictionary)

    return run


def _collect(batches: Iterator[pa.RecordBatch]) -> tuple[int | None, Baskets]:
    """The number of a partition's group, None in an empty one, and all its baskets."""
    group = None
    lengths: list[np.ndarray] = []
    codes: list[np.ndarray] = []
    for batch in batches:
        for number, some_lengths, some_codes in zip(*batch.columns, strict=True):
            group = number.as_py()
            lengths.append(np.frombuffer(some_lengths.as_buffer(), _BINARY))
            codes.append(np.frombuffer(some_codes.as_buffer(), _BINARY))
    if group is None:
        return None, Baskets.of_lengths(np.empty(0, np.int32), np.empty(0, np.int32))
    return group, Baskets.of_lengths(np.concatenate(codes), np.concatenate(lengths))


def _single_items(dictionary: Dictionary) -> pa.RecordBatch:
    """The itemsets of one item, whose counts are known before any basket is mined."""
    offsets = pa.array(np.arange(len(dictionary) + 1, dtype=np.int32))
    return pa.RecordBatch.from_pydict(
        {
            s.ITEMS: pa.ListArray.from_arrays(offsets, dictionary.items),
            "size": pa.array(np.ones(len(dictionary), dtype=np.int32)),
            "count": pa.array(dictionary.counts),
        }
    )


def _itemsets(held: list[Found], dictionary: Dictionary) -> Iterator[pa.RecordBatch]:
    """Blocks of itemsets as rows, one batch per size."""
    for size in sorted({block.codes.shape[1] for block in held}):
        blocks = [block for block in held if block.codes.shape[1] == size]
        counts = np.concatenate([block.counts for block in blocks])
        yield pa.RecordBatch.from_pydict(
            {
                s.ITEMS: decode(np.concatenate([block.codes for block in blocks]), dictionary),
                "size": pa.array(np.full(len(counts), size, dtype=np.int32)),
                "count": pa.array(counts),
            }
        )


def _stopped(block: Found, found: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {
            s.ITEMS: pa.array([None], pa.list_(pa.string())),
            "size": pa.array([block.codes.shape[1]], pa.int32()),
            "count": pa.array([found], pa.int64()),
        }
    )


def _to_bytes(values: np.ndarray) -> bytes:
    return values.astype(_BINARY, copy=False).tobytes()
