"""What sequences say as of a cutoff: what promotions bring later, and what the last baskets still have to bring."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.caching import kept
from dlmine_spark.cleaning.panel import store_of
from dlmine_spark.config import Config
from dlmine_spark.frequency import Frequency, Moment
from dlmine_spark.fusion.signals import due
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.mining.baskets import agreed, baskets_of_lines, customer_and_time, with_items
from dlmine_spark.mining.follow_ups import FollowUp, follow_ups, pairs_of, visits_of, waiting
from dlmine_spark.mining.sequence_table import TooManySequences, count_by_length
from dlmine_spark.mining.sequences import frequent_sequences, purchases_of, summarise_customers

log = logging.getLogger(__name__)

DUE_AS_OF = "staging.sequences_due_as_of"
"""What was due as of a cutoff; one table a cutoff, their names end as those of what was known in advance."""
SHOWN = 3
"""Sequences that the log names."""


@dataclass(frozen=True, slots=True)
class SequenceSignals:
    """What is given to the network of sequences.

    Attributes:
        found: the sequences, those that most comes of first.
        due: ``fusion.signals.due`` of the moments up to the cutoff; None where no basket is of a series of the panel.
    """

    found: Sequence[FollowUp]
    due: DataFrame | None


def signals_of(
    config: Config, lakehouse: Lakehouse, lines: DataFrame, moments: DataFrame, frequency: Frequency, place: str
) -> SequenceSignals | None:
    """Mine sequences from basket lines up to a cutoff, and what they say of each moment up to it.

    Args:
        config: the whole configuration.
        lakehouse: where what is due is staged.
        lines: basket lines up to the cutoff.
        moments: ``unique_id``, ``ds`` up to the cutoff.
        frequency: of the panel; it has a calendar.
        place: ending of the staging table's name.

    Returns:
        None, with a warning, where no sequence says more than chance.
    """
    source = config.source_of_kind("lines")
    if source is None:
        return None
    if lines.where(F.col(s.CUSTOMER_ID).isNotNull() & F.col(s.TS).isNotNull()).isEmpty():
        log.warning("the forecast is told nothing of sequences: no basket up to the cutoff has a customer and a time")
        return None
    lines = lines.withColumn(s.STORE_ID, store_of(source[1]))
    baskets = with_items(baskets_of_lines(lines, *customer_and_time(), agreed(s.STORE_ID).alias(s.STORE_ID)))
    with kept(baskets) as bought, kept(visits_of(bought, config.mining.sequences, frequency)) as visits:
        found = _found(config, bought, visits)
        if not found:
            return None
        waited_for = waiting(visits, found, config.mining.sequences)
        window = max(one.usual for one in found)
        series = moments.select(F.col(s.UNIQUE_ID).alias(s.STORE_ID)).distinct()
        if window <= 0 or visits.join(series, on=s.STORE_ID, how="left_semi").isEmpty():
            log.warning("no basket that anything is to follow is of a series of %s", s.PANEL.name)
            return SequenceSignals(found, None)
        table = f"{DUE_AS_OF}_{place}"
        lakehouse.overwrite(
            table,
            due(
                moments,
                waited_for.withColumnRenamed(s.STORE_ID, s.UNIQUE_ID),
                visits.select(F.col(s.STORE_ID).alias(s.UNIQUE_ID), "day"),
                window,
                frequency,
            ),
        )
    return SequenceSignals(found, lakehouse.read(table))


def _found(config: Config, baskets: DataFrame, visits: DataFrame) -> list[FollowUp]:
    """Frequent pairs that are beyond chance; none, with a warning that says why."""
    # Pairs are all that is looked at, so nothing longer has to be mined.
    settings = config.mining.sequences.model_copy(update={"max_len": 2, "max_elements": 2})
    mining = config.mining.model_copy(update={"sequences": settings})
    purchases = purchases_of(baskets)
    summary = summarise_customers(purchases, settings)
    try:
        with kept(frequent_sequences(purchases, summary, mining)) as sequences:
            count_by_length(sequences, settings)
            found = follow_ups(visits, pairs_of(sequences), mining.max_q)
    except TooManySequences as error:
        log.warning("the forecast is told nothing of sequences: %s", error)
        return []
    if not found:
        log.warning(
            "the forecast is told nothing of sequences: of those that at least %g of %s customers have, none comes "
            "oftener in its order than in the other beyond chance",
            settings.min_support,
            f"{summary.customers:,}",
        )
    return found


def told(cutoff: Moment, found: Sequence[FollowUp]) -> str:
    """The sequences in words, a few of them."""
    shown = ", ".join(
        f"{one.first} -> {one.second} ({one.confidence:.2f} after, {one.before:.2f} before, {one.gap:g} days)"
        for one in found[:SHOWN]
    )
    return f"cutoff {cutoff}: {len(found)} sequences for the forecast: {shown}{', ...' if len(found) > SHOWN else ''}"
