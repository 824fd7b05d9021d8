"""References as a part of ``clean``: once all sources are judged, each is held against those that it refers to."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial

from dlmine_spark.cleaning.plan import is_good
from dlmine_spark.cleaning.references import referred_keys, treat_references
from dlmine_spark.config import Config, Reference, reference_order
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.parallel import in_parallel
from dlmine_spark.pipelines.counting import recount
from dlmine_spark.pipelines.judging import all_rows
from dlmine_spark.pipelines.subjects import Judged

log = logging.getLogger(__name__)


def treat_all_references(config: Config, lakehouse: Lakehouse, judged: Mapping[str, Judged]) -> dict[str, Judged]:
    """Rewrite ``staging.<source>`` of every source with references, and count its rows again.

    A source comes after those that it refers to: what was refused there can be referred to no more. Those that do not
    wait for each other go at the same time.

    Returns:
        The sources with their counts, in the order they came in.

    Raises:
        SourceError: more of a source would be quarantined than ``cleaning.max_rejected`` allows.
        TableContractError: rows in and rows accounted for differ.
    """
    treated = dict(judged)
    order = reference_order(config.sources)
    order.prepare()
    while order.is_active():
        ready = order.get_ready()
        referring = [name for name in ready if config.sources[name].references and judged[name].scope != "none"]
        treated |= in_parallel(
            lakehouse.spark, {name: partial(_treat_source, config, lakehouse, name, treated) for name in referring}
        )
        order.done(*ready)
    return treated


def _treat_source(config: Config, lakehouse: Lakehouse, name: str, judged: Mapping[str, Judged]) -> Judged:
    references = config.sources[name].references
    accepted = judged[name].counts.accepted
    asked: tuple[Reference, ...] = references
    while asked:
        _rewrite(config, lakehouse, name, asked, judged)
        counted = recount(config, lakehouse, judged[name])
        # Where rows of the source itself were refused, others that refer to them may be next.
        own = [one for one in references if one.source == name and one.action == "quarantine"]
        asked = tuple(own) if counted.counts.accepted < accepted else ()
        accepted = counted.counts.accepted
    return counted


def _rewrite(
    config: Config, lakehouse: Lakehouse, name: str, asked: tuple[Reference, ...], judged: Mapping[str, Judged]
) -> None:
    staged = lakehouse.read(f"staging.{name}")
    keys = [
        referred_keys(all_rows(lakehouse, judged[one.source]), one.to or config.sources[one.source].mapped_key)
        for one in asked
    ]
    treated = treat_references(staged.where(is_good()), list(zip(asked, keys, strict=True)))
    lakehouse.overwrite(f"staging.{name}", treated.unionByName(staged.where(~is_good())))
