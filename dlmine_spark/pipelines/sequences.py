"""The part of the stage mine that needs to know whose baskets are and when: sequences of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pyspark.sql import DataFrame

from dlmine_spark import schemas as s
from dlmine_spark.caching import kept
from dlmine_spark.config import Config, SequencesConfig
from dlmine_spark.errors import ConfigError, DlmineError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.mining.sequence_table import TooManySequences, count_by_length, described
from dlmine_spark.mining.sequences import CustomerSummary, frequent_sequences, purchases_of, summarise_customers

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MinedSequences:
    """Sequences (``sequence_table.MINED``) that are counted and kept for as long as they are read."""

    sequences: DataFrame
    by_length: dict[int, int]
    summary: CustomerSummary

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(self.by_length.values())

    @property
    def told(self) -> str:
        """What the stage says of them."""
        left_out = f" ({self.summary.left_out:,} with too many baskets left out)" if self.summary.left_out else ""
        return f"; {self.total:,} sequences of {self.summary.customers:,} customers{left_out}"


def are_wanted(config: Config) -> bool:
    """Whether sequences are to be mined: unless that is switched off, where lines say whose they are and when.

    Raises:
        ConfigError: they are asked for, and no source says so.
    """
    enabled = config.mining.sequences.enabled
    source = config.source_of_kind("lines")
    missing = {s.CUSTOMER_ID, s.TS} - {name.lower() for name in (source[1].columns if source else {})}
    if enabled is True and missing:
        raise ConfigError(
            f"mining.sequences.enabled is true, but no source of kind lines maps {' and '.join(sorted(missing))}: "
            "name their columns under sources.<name>.columns, or leave mining.sequences.enabled at auto"
        )
    return enabled is not False and not missing


@contextmanager
def mined_sequences(baskets: DataFrame, config: Config) -> Iterator[MinedSequences | None]:
    """Frequent sequences, each once and within the limits, counted before any table is written.

    None where they are not wanted, no basket has a customer and a time, or, with ``enabled: auto``, there are too many:
    whoever only wants rules must not be stopped by them.

    Args:
        baskets: ``items``, and ``customer_id`` and ``ts`` where sequences are wanted.
        config: sources and mining.

    Raises:
        DlmineError: ``mining.sequences.enabled`` is true, and there are more than ``mining.sequences.max_sequences``.
    """
    if not are_wanted(config):
        yield None
        return
    settings = config.mining.sequences
    purchases = purchases_of(baskets)
    summary = summarise_customers(purchases, settings)
    _warn_of_unknown(summary, settings)
    found = None
    with ExitStack() as stack:
        try:
            if summary.customers:
                sequences = stack.enter_context(kept(frequent_sequences(purchases, summary, config.mining)))
                found = MinedSequences(sequences, count_by_length(sequences, settings), summary)
            elif settings.enabled is True:
                log.warning("no basket has a customer and a time: %s is not written", s.SEQUENCES.name)
        except TooManySequences as error:
            if settings.enabled is True:
                raise DlmineError(f"{error}; no table was changed") from error
            log.warning("%s; %s is not written", error, s.SEQUENCES.name)
        yield found


def _warn_of_unknown(summary: CustomerSummary, config: SequencesConfig) -> None:
    """Name the id that is no customer's."""
    if summary.left_out:
        log.warning(
            "customer %r has %s baskets, mining.sequences.max_history is %s: %s with more left out of all sequences; "
            "put the id among the source's null_tokens if it means unknown, or set mining.sequences.max_history=%s",
            summary.longest_id,
            f"{summary.longest:,}",
            f"{config.max_history:,}",
            f"{summary.left_out:,}",
            summary.longest,
        )


def write(found: MinedSequences, config: SequencesConfig, lakehouse: Lakehouse) -> None:
    """Write ``gold.sequences``."""
    lakehouse.overwrite(s.SEQUENCES.name, described(found.sequences, found.summary.customers, config))
