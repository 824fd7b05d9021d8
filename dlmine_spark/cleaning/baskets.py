"""Sources of one basket a line, or a list: items split, trimmed and sorted."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.names import bronze_name
from dlmine_spark.cleaning.parse import present, trimmed
from dlmine_spark.cleaning.plan import (
    COPY,
    ORDER,
    ORIGINAL,
    REASONS,
    REPAIRS,
    WARNINGS,
    judge_rows,
    no_reasons,
    no_repairs,
    reason,
    shown_row,
    unusable_line,
)
from dlmine_spark.config import STRUCTURED, SourceConfig

_FIRST, _SHIFT, _NAME = "__first", "__shift", "__name"


def split_baskets(bronze: DataFrame, text: str, source: SourceConfig) -> DataFrame:
    """Split each line into items; repeated items of a basket count once, spaces around items not at all.

    A quoted item keeps the separators inside it. Lines without an item are refused. Equal lines are different baskets,
    so nothing counts as a copy.

    Args:
        bronze: rows as they came.
        text: the column that holds whole lines, where the source does not map ``items``.
        source: the declaration.

    Returns:
        One row per line in the shape of ``plan.mark_rows``: ``basket_id`` (as mapped, else file and number of the
        line), ``items`` (sorted).
    """
    cells = [name for name in bronze.columns if name not in s.BRONZE_METADATA]
    items_from = bronze_name(source.columns[s.ITEMS].source or s.ITEMS) if s.ITEMS in source.columns else text
    if s.BASKET_ID in source.columns:
        id_from = bronze_name(source.columns[s.BASKET_ID].source or s.BASKET_ID)
        rows = bronze.withColumn(s.BASKET_ID, present(trimmed(F.col(f"`{id_from}`")), source.null_tokens))
    else:
        rows = number_lines(bronze, bronze).withColumn(s.BASKET_ID, F.concat_ws(":", s.SOURCE_FILE, s.SOURCE_ROW))
    is_list = source.format in STRUCTURED
    cell = F.col(f"`{items_from}`")
    parts = _listed(cell, source.separator) if is_list else _separated(cell, source.separator)
    tokens = ("", *source.null_tokens)
    known = F.filter(F.transform(parts, trimmed), lambda item: ~item.isin(*tokens))
    items = F.array_sort(F.array_distinct(known))
    marked = rows.withColumn(s.ITEMS, F.coalesce(items, F.array().cast("array<string>"))).select(
        s.BASKET_ID,
        s.ITEMS,
        F.when(F.col(s.RAW_LINE).isNotNull(), F.array(unusable_line(source)))
        .when(F.size(s.ITEMS) == 0, F.array(reason("empty_basket", s.ITEMS, F.lit("there is no item"))))
        .when(F.col(s.BASKET_ID).isNull(), F.array(reason("missing", s.BASKET_ID, F.lit("has no value"))))
        .otherwise(no_reasons())
        .alias(REASONS),
        no_repairs().alias(REPAIRS),
        F.array().cast("array<string>").alias(WARNINGS),
        shown_row(F.struct(*(F.col(f"`{name}`") for name in cells))).alias(ORIGINAL),
        F.lit(1).alias(COPY),
        *ORDER,
    )
    return judge_rows(marked, source)


def number_lines(rows: DataFrame, bronze: DataFrame) -> DataFrame:
    """Number rows by their place in their file, from 1, in ``SOURCE_ROW``; a file is called by its name, if it can be.

    Bronze numbers rows inside the part of a file that a task read, which depends on how many tasks there were; a small
    aggregation over those parts makes the numbers independent of it.

    Args:
        rows: some rows of a source, or all.
        bronze: all of them.
    """
    file = F.col(s.SOURCE_FILE)
    parts = bronze.groupBy(s.SOURCE_FILE, s.SOURCE_BLOCK).agg(
        F.min(s.SOURCE_ROW).alias(_FIRST), F.count(F.lit(1)).alias("rows")
    )
    up_to_here = (
        Window.partitionBy(s.SOURCE_FILE)
        .orderBy(s.SOURCE_BLOCK)
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    name = F.url_decode(F.replace(F.substring_index(file, "/", -1), F.lit("+"), F.lit("%2B")))
    of_this_name = Window.partitionBy(F.substring_index(file, "/", -1))
    offsets = parts.select(
        s.SOURCE_FILE,
        s.SOURCE_BLOCK,
        (F.sum("rows").over(up_to_here) - F.col("rows") - F.col(_FIRST) + 1).alias(_SHIFT),
        F.when(F.min(file).over(of_this_name) == F.max(file).over(of_this_name), name).otherwise(file).alias(_NAME),
    )
    return (
        rows.join(F.broadcast(offsets), on=[s.SOURCE_FILE, s.SOURCE_BLOCK], how="inner")
        .withColumns({s.SOURCE_ROW: F.col(s.SOURCE_ROW) + F.col(_SHIFT), s.SOURCE_FILE: F.col(_NAME)})
        .drop(_SHIFT, _NAME)
    )


def _separated(cell: Column, separator: str) -> Column:
    """The parts of a text between separators; one that begins with a quote ends with it."""
    # \\G: where the last part ended. Separators belong to the part after them.
    quoted = f'(?s)\\G(?:{separator})?(?:"(?:[^"]|"")*"(?={separator}|$)|(?:(?!{separator}).)*)'
    parts = F.regexp_extract_all(cell, F.lit(quoted), F.lit(0))
    return F.when(F.contains(cell, F.lit('"')), F.transform(parts, lambda part: _unquoted(part, separator))).otherwise(
        F.split(cell, separator)
    )


def _unquoted(part: Column, separator: str) -> Column:
    """A part without the separator it was found with, and without the quotes around it."""
    item = F.trim(F.regexp_replace(part, f"^(?:{separator})", ""))
    inside = F.replace(F.regexp_extract(item, '(?s)^"(.*)"$', 1), F.lit('""'), F.lit('"'))
    return F.when(item.rlike('(?s)^".*"$'), inside).otherwise(item)


def _listed(cell: Column, separator: str) -> Column:
    """The elements of a list (JSON, as bronze holds it), or the parts of a text."""
    listed = F.from_json(cell, "array<string>")
    return F.when(F.startswith(cell, F.lit("[")) & listed.isNotNull(), listed).otherwise(_separated(cell, separator))
