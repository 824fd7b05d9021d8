"""Counts of given sets of items over all baskets, by group: one pass, and the sums on the driver."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.mining.counting import Block, Totals, add_sets
from dlmine_spark.mining.encode import coded
from dlmine_spark.mining.miner import Baskets, Ints, Longs

GROUP, WEIGHT = "group", "weight"
_SET, _COUNT = "set", "count"


@dataclass(frozen=True, slots=True)
class SetList:
    """Different sets of items, by number.

    Attributes:
        items: the names of all their items; the codes of ``sets`` are places among them.
        sets: the sets, short ones first.
        numbers: of the sets of each list they came in.
    """

    items: pa.Array
    sets: Baskets
    numbers: list[Longs]

    @staticmethod
    def of(lists: Sequence[pa.Array]) -> SetList:
        """The sets of some lists of sets, items of each sorted; a set that is there twice has one number."""
        flat = pa.concat_arrays([one.flatten() for one in lists]).dictionary_encode()
        lengths = np.concatenate([np.asarray(pc.list_value_length(one)) for one in lists]).astype(np.int64)
        every = Baskets.of_lengths(np.asarray(flat.indices).astype(np.int32), lengths)
        numbers = np.empty(len(every), dtype=np.int64)
        codes: list[Ints] = [np.empty(0, dtype=np.int32)]
        sizes: list[Longs] = [np.empty(0, dtype=np.int64)]
        known = 0
        for size in np.unique(lengths):
            same = np.flatnonzero(lengths == size)
            members = every.codes[every.starts[same][:, None] + np.arange(size)]
            different, number = np.unique(members, axis=0, return_inverse=True)
            numbers[same] = known + number.ravel()
            codes.append(different.ravel())
            sizes.append(np.full(len(different), size))
            known += len(different)
        ends = np.cumsum([len(one) for one in lists])[:-1]
        sets = Baskets.of_lengths(np.concatenate(codes), np.concatenate(sizes))
        return SetList(flat.dictionary, sets, np.split(numbers, ends))


def totals(baskets: DataFrame, wanted: SetList, groups: int) -> Totals:
    """In how many baskets of each group each set lies, and what they weigh.

    Args:
        baskets: one row per basket: ``items``, ``group`` (a number from 0), and ``weight``, if that is asked for.
        wanted: the sets, each of at least one item; every task is sent them.
        groups: how many groups there are.

    Returns:
        Arrays of sets by groups, held by the driver as by each task. Weights are sums in no particular order, so their
        last digits may differ from run to run.
    """
    is_weighted = WEIGHT in baskets.columns
    names = [s.ITEMS, GROUP, *([WEIGHT] if is_weighted else [])]
    items, sets = wanted.items, wanted.sets

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        found = Totals.none(len(sets), groups, is_weighted=is_weighted)
        for batch in batches:
            rows, codes = coded(batch.column(0), items)
            own = np.asarray(batch.column(1)).astype(np.int64)
            add_sets(
                found, Block(rows, codes, own, np.asarray(batch.column(2)) if is_weighted else None), sets, len(items)
            )
        at, group = np.nonzero(found.counts)
        weights = np.zeros(len(at)) if found.weights is None else found.weights[at, group]
        columns = [pa.array(value) for value in (at, group, found.counts[at, group], weights)]
        yield pa.RecordBatch.from_arrays(columns, names=[_SET, GROUP, _COUNT, WEIGHT])

    summed = (
        baskets.select(*names)
        .mapInArrow(run, f"`{_SET}` bigint, `{GROUP}` bigint, `{_COUNT}` bigint, `{WEIGHT}` double")
        .groupBy(_SET, GROUP)
        .agg(F.sum(_COUNT).alias(_COUNT), F.sum(WEIGHT).alias(WEIGHT))
        .toArrow()
    )
    at, group = np.asarray(summed.column(_SET)), np.asarray(summed.column(GROUP))
    every = Totals.none(len(sets), groups, is_weighted=is_weighted)
    every.counts[at, group] = np.asarray(summed.column(_COUNT))
    if every.weights is not None:
        every.weights[at, group] = np.asarray(summed.column(WEIGHT))
    return every
