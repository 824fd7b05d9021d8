"""Sources of one basket a line."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.parse import trimmed
from dlmine_spark.cleaning.plan import COPY, ORDER, ORIGINAL, RANK, REASONS, REPAIRS, WARNINGS
from dlmine_spark.config import SourceConfig

_QUOTED = '"((?:[^"]|"")*)"'


def split_baskets(bronze: DataFrame, text: str, source: SourceConfig) -> DataFrame:
    """Split each line into items; repeated items of a basket count once, spaces around items not at all.

    A quoted item (CSV) keeps the separators inside it. Lines without an item are refused. Equal lines are different
    baskets, so nothing counts as a duplicate.

    Returns:
        One row per line in the shape of ``plan.mark_rows``: ``basket_id`` (file, block and row), ``items`` (sorted).
    """
    line = F.col(f"`{text}`")
    # A quoted item's separators are hidden while the line is split: found, joined by a sign no text file holds.
    parts = F.when(
        line.contains('"'),
        F.transform(
            F.regexp_extract_all(line, F.lit(f'(?:{_QUOTED}|(?:(?!{source.separator})[^"])+)'), F.lit(0)),
            lambda part: F.replace(F.regexp_replace(part, '^"|"$', ""), F.lit('""'), F.lit('"')),
        ),
    ).otherwise(F.split(line, source.separator))
    items = F.array_sort(
        F.array_distinct(F.filter(F.transform(parts, trimmed), lambda item: ~item.isin("", *source.null_tokens)))
    )
    reason = F.struct(
        F.lit("empty_basket").alias("rule"), F.lit(s.ITEMS).alias("column"), F.lit("no item").alias("message")
    )
    none = F.array().cast("array<struct<rule: string, column: string, message: string>>")
    return bronze.withColumn(s.ITEMS, F.coalesce(items, F.array().cast("array<string>"))).select(
        F.concat_ws(":", F.element_at(F.split(F.col(s.SOURCE_FILE), "/"), -1), s.SOURCE_BLOCK, s.SOURCE_ROW).alias(
            s.BASKET_ID
        ),
        s.ITEMS,
        F.when(F.size(s.ITEMS) == 0, F.array(reason)).otherwise(none).alias(REASONS),
        F.array()
        .cast("array<struct<column: string, old_value: string, new_value: string, rule: string>>")
        .alias(REPAIRS),
        F.array().cast("array<string>").alias(WARNINGS),
        F.to_json(F.struct(line.alias(text))).alias(ORIGINAL),
        F.lit(1).alias(COPY),
        F.lit(1).alias(RANK),
        *ORDER,
    )
