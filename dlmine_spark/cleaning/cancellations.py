"""Cancelled sales: basket lines that take back an earlier one, matched with it.

A cancellation takes back the latest earlier sale with the same match columns and the opposite quantity that none took
back before: sales and cancellations nest as brackets do. Each line's depth is a running count inside its group, and the
two that belong together are neighbours among the lines of one depth, so that two window functions find all of them.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.plan import ORDER, REASONS, WARNINGS, reason
from dlmine_spark.config import Cancellations

_IS_SALE, _SIZE, _COUNT, _FLOOR, _DEPTH, _PARTNER = (
    "__is_sale",
    "__size",
    "__count",
    "__floor",
    "__depth",
    "__partner",
)


def match_cancellations(rows: DataFrame, rule: Cancellations, time: str | None) -> DataFrame:
    """Find the sale that each cancelling line takes back, and do with both what the rule says.

    Lines without a time, or without a value in a match column, belong to no pair: two unknown customers need not be
    one. At equal times the sale comes first, then the order of arrival decides.

    Args:
        rows: good basket lines with ``REASONS`` and ``WARNINGS``.
        rule: how cancelling lines are recognised and matched.
        time: the column that orders the lines; None: the order of arrival does.

    Returns:
        The same rows: ``drop_both`` adds the reasons ``cancelled`` (the sale) and ``cancels``, ``flag`` the warnings.
    """
    quantity = F.col(f"`{rule.quantity}`")
    is_marked = F.coalesce(F.expr(rule.marker).cast("boolean"), F.lit(False))
    is_sale = F.when(~is_marked & (quantity > 0), F.lit(True)).when(is_marked & (quantity < 0), F.lit(False))
    known = [F.col(f"`{name}`").isNotNull() for name in (*rule.match, *([time] if time else []))]
    is_known = reduce(lambda left, right: left & right, known)
    marked = rows.withColumns({_IS_SALE: F.when(is_known, is_sale), _SIZE: F.abs(quantity)})
    # Lines that cannot be matched stay out of the windows: those without a customer would be one huge group.
    others = marked.where(F.col(_IS_SALE).isNull()).drop(_IS_SALE, _SIZE)
    paired = _with_partners(marked.where(F.col(_IS_SALE).isNotNull()), rule, time)
    return _treat(paired, rule).select(*rows.columns).unionByName(others)


def _with_partners(lines: DataFrame, rule: Cancellations, time: str | None) -> DataFrame:
    """Add the other line of the pair, as words for a message; null where there is none."""
    group = [*(F.col(f"`{name}`") for name in rule.match), F.col(_SIZE)]
    arrival = [F.col(name) for name in ORDER]
    order = [F.col(time), F.col(_IS_SALE).desc(), *arrival] if time else arrival
    in_time = Window.partitionBy(*group).orderBy(*order)
    so_far = in_time.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    counted = lines.withColumn(_COUNT, F.sum(F.when(F.col(_IS_SALE), 1).otherwise(-1)).over(so_far))
    # A cancellation without a sale makes the count fall below all before it; depths are measured from there.
    floored = counted.withColumn(_FLOOR, F.least(F.min(_COUNT).over(so_far), F.lit(0)))
    is_unmatched = ~F.col(_IS_SALE) & (F.col(_FLOOR) < F.coalesce(F.lag(_FLOOR).over(in_time), F.lit(0)))
    depth = F.col(_COUNT) - F.col(_FLOOR) + F.when(F.col(_IS_SALE), 0).otherwise(1)
    placed = floored.withColumn(_DEPTH, F.when(~is_unmatched, depth).otherwise(F.lit(0)))
    of_depth = Window.partitionBy(*group, _DEPTH).orderBy(*order)
    name = F.concat_ws(" at ", F.col(s.BASKET_ID), *([F.col(time).cast("string")] if time else []))
    after, before = F.lead(_IS_SALE).over(of_depth), F.lag(name).over(of_depth)
    partner = F.when(F.col(_IS_SALE) & ~after, F.lead(name).over(of_depth)).when(~F.col(_IS_SALE), before)
    return placed.withColumn(_PARTNER, F.when(F.col(_DEPTH) > 0, partner))


def _treat(lines: DataFrame, rule: Cancellations) -> DataFrame:
    is_paired, is_sale = F.col(_PARTNER).isNotNull(), F.col(_IS_SALE)

    def added(entries: str, of_sale: Column, of_cancellation: Column) -> Column:
        entry = F.when(is_sale, of_sale).otherwise(of_cancellation)
        return F.when(is_paired, F.concat(F.col(entries), F.array(entry))).otherwise(F.col(entries))

    if rule.action == "flag":
        return lines.withColumn(WARNINGS, added(WARNINGS, F.lit("cancelled"), F.lit("cancels")))
    cancelled = reason("cancelled", "", F.concat(F.lit("is cancelled by "), F.col(_PARTNER)))
    cancels = reason("cancels", "", F.concat(F.lit("cancels "), F.col(_PARTNER)))
    return lines.withColumn(REASONS, added(REASONS, cancelled, cancels))
