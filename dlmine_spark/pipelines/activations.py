"""What rules say of a store's last baskets, as of a cutoff: how many hold what the strongest rules begin with."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.panel import store_of
from dlmine_spark.config import Config
from dlmine_spark.frequency import Frequency, Moment
from dlmine_spark.fusion.signals import activations, antecedents_of
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.mining.baskets import agreed, baskets_of_lines, with_items

log = logging.getLogger(__name__)

ACTIVATIONS_AS_OF = "staging.activations_as_of"
"""Activations as of a cutoff; one table a cutoff, their names end as those of what was known in advance."""
SHOWN = 3
"""Antecedents that the log names."""


@dataclass(frozen=True, slots=True)
class Activations:
    """What is given to the network of rules' antecedents.

    Attributes:
        antecedents: items by name of the covariate, those first that most extra items come of.
        rows: ``fusion.signals.activations`` of the moments up to the cutoff.
    """

    antecedents: Mapping[str, Sequence[str]]
    rows: DataFrame


def activations_of(
    config: Config,
    lakehouse: Lakehouse,
    *,
    lines: DataFrame,
    rules: DataFrame,
    moments: DataFrame,
    frequency: Frequency,
    place: str,
) -> Activations | None:
    """How many of the last baskets hold what rules begin with, at each moment up to a cutoff.

    Args:
        config: the whole configuration.
        lakehouse: where they are staged.
        lines: basket lines up to the cutoff, which have times.
        rules: mined from them.
        moments: ``unique_id``, ``ds`` up to the cutoff.
        frequency: of the panel; it has a calendar.
        place: ending of the staging table's name.

    Returns:
        None, with a warning, where no rule says more than chance or no basket is of a series of the panel.
    """
    source = config.source_of_kind("lines")
    if source is None:
        return None
    antecedents = antecedents_of(rules)
    if not antecedents:
        log.warning("the forecast is told nothing of activations: no rule up to the cutoff says more than chance")
        return None
    lines = lines.withColumn(s.UNIQUE_ID, store_of(source[1]))
    series = moments.select(s.UNIQUE_ID).distinct()
    if lines.join(series, on=s.UNIQUE_ID, how="left_semi").isEmpty():
        log.warning("the forecast is told nothing of activations: no basket is of a series of %s", s.PANEL.name)
        return None
    baskets = baskets_of_lines(lines, F.min(s.TS).alias(s.TS), agreed(s.UNIQUE_ID).alias(s.UNIQUE_ID))
    table = f"{ACTIVATIONS_AS_OF}_{place}"
    lakehouse.overwrite(table, activations(moments, with_items(baskets), antecedents, frequency))
    return Activations(antecedents, lakehouse.read(table))


def told(cutoff: Moment, antecedents: Mapping[str, Sequence[str]]) -> str:
    """The antecedents in words, a few of them."""
    shown = ", ".join(" + ".join(items) for items in list(antecedents.values())[:SHOWN])
    more = ", ..." if len(antecedents) > SHOWN else ""
    return f"cutoff {cutoff}: activations of {len(antecedents)} antecedents for the forecast: {shown}{more}"
