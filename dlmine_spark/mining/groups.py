"""How the classes of items are spread over tasks, and what each task has to see of a basket.

As in parallel FP-growth (Li, Wang, Zhang, Zhang and Chang 2008, "PFP: parallel FP-growth for query recommendation"),
items are divided into groups and a basket is sent to a group at most once, cut after the rarest item that the group
mines. Rare items need long prefixes of few baskets, frequent ones short prefixes of many, so groups come out even.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dlmine_spark.mining.miner import Baskets, Ints, ItemClass, Longs, gather

MOST_CODES = 50_000_000
"""Codes that a group is expected to hold at most: 200 MB, and two or three times as much while it is indexed."""
LEAST_CODES = 1_000_000
"""A group that reads fewer is mined in less time than starting a task for it takes."""
_SHARE_TO_SPLIT = 4
"""A class expected to be more than this part of a group's work is split over groups by its second item."""


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """Which classes each group mines.

    Attributes:
        classes: by group.
        groups: the groups that mine item 0's class or a part of it, then item 1's, and so on.
        starts: item ``i``'s groups are ``groups[starts[i]:starts[i + 1]]``.
    """

    classes: tuple[tuple[ItemClass, ...], ...]
    groups: Ints
    starts: Longs

    def __len__(self) -> int:
        return len(self.classes)


def plan_groups(
    counts: Longs, baskets: int, tasks: int, least_codes: int = LEAST_CODES, most_codes: int = MOST_CODES
) -> GroupPlan:
    """Spread the classes of all items over groups of about equal work.

    The work of a class is estimated as the codes it has to read: its baskets times the items more frequent than its
    own that they would hold if items were independent. That is also the memory it takes, so the number of groups
    follows from it.

    Args:
        counts: baskets per item, descending.
        baskets: number of baskets.
        tasks: number of groups wanted.
        least_codes: where groups would hold fewer codes than this, there are fewer groups than wanted.
        most_codes: where groups would hold more codes than this, there are more.
    """
    expected_prefix = (np.cumsum(counts) - counts) / baskets
    work = counts * (expected_prefix + 1.0)
    total = float(work.sum())
    groups = max(min(tasks, math.ceil(total / least_codes)), math.ceil(total / most_codes))
    share = total / (groups * _SHARE_TO_SPLIT)
    # The class of item i has at most i sub-classes.
    parts = np.minimum(np.ceil(work / share), np.maximum(1, np.arange(len(counts)))).astype(int)
    # Heaviest first, each to the group with the least work so far; the order of equals is that of codes.
    loads = [(0.0, group) for group in range(groups)]
    classes: list[list[ItemClass]] = [[] for _ in range(groups)]
    for item in np.argsort(-work / parts, kind="stable").tolist():
        for part in range(parts[item]):
            load, group = heapq.heappop(loads)
            classes[group].append(ItemClass(item, part, int(parts[item])))
            heapq.heappush(loads, (load + work[item] / parts[item], group))
    pairs = np.unique(
        np.array([(c.item, group) for group, own in enumerate(classes) for c in own], dtype=np.int64).reshape(-1, 2),
        axis=0,
    )
    starts = np.searchsorted(pairs[:, 0], np.arange(len(counts) + 1))
    return GroupPlan(tuple(map(tuple, classes)), pairs[:, 1].astype(np.int32), starts)


def project(baskets: Baskets, plan: GroupPlan) -> Iterator[tuple[int, Baskets]]:
    """Each group that needs some of the baskets, with those it needs, cut after the last item it mines.

    What a cut leaves with a single item is left out: single items are counted before.
    """
    per_code = np.diff(plan.starts)[baskets.codes]
    positions = np.repeat(np.arange(len(baskets.codes)), per_code)
    nth = np.arange(len(positions)) - np.repeat(np.cumsum(per_code) - per_code, per_code)
    groups = plan.groups[plan.starts[baskets.codes[positions]] + nth]
    rows = np.repeat(np.arange(len(baskets)), baskets.lengths)[positions]
    # Stable: within a group the baskets stay in order, and in a basket the codes ascend.
    order = np.argsort(groups.astype(np.uint16 if len(plan) < 1 << 16 else np.int32), kind="stable")
    groups, rows, positions = groups[order], rows[order], positions[order]
    is_last = np.ones(len(order), dtype=bool)
    is_last[:-1] = (groups[1:] != groups[:-1]) | (rows[1:] != rows[:-1])
    groups, rows, positions = groups[is_last], rows[is_last], positions[is_last]
    starts = baskets.starts[rows]
    lengths = positions - starts + 1
    is_mineable = lengths > 1
    groups, starts, lengths = groups[is_mineable], starts[is_mineable], lengths[is_mineable]
    bounds = np.flatnonzero(np.diff(groups, prepend=-1, append=-1))
    for first, last in pairwise(bounds.tolist()):
        codes, _ = gather(baskets.codes, starts[first:last], lengths[first:last])
        yield int(groups[first]), Baskets.of_lengths(codes, lengths[first:last])
