"""The record of cleaning: rows that were refused, cells that were changed, and how often each rule spoke."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.baskets import number_lines
from dlmine_spark.cleaning.corrections import row_now, row_of
from dlmine_spark.cleaning.plan import ORIGINAL, REASONS, REPAIRS, WARNINGS, is_good, is_refused, key_of
from dlmine_spark.config import Config, Kind, SourceConfig
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.data_sets import Finding
from dlmine_spark.pipelines.judging import corrections_of, good_rows
from dlmine_spark.pipelines.subjects import SILVER_TABLES, Judged

_SHOWN_KEYS: dict[Kind, tuple[str, ...]] = {"lines": (s.BASKET_ID, s.ITEM)}
"""What names a row in silver.repairs where its source has no key."""
_KEY = "__key"


def write_quarantine(lakehouse: Lakehouse, judged: Mapping[str, Judged]) -> None:
    """Write the rows that were refused; of a source that new files are added to, beside those refused earlier."""
    whole = [_refused(lakehouse, name) for name, source in judged.items() if source.scope == "all"]
    _replace(lakehouse, s.QUARANTINE.name, whole, judged)
    for name, source in judged.items():
        if source.scope == "some" and source.counts.quarantined:
            new = _refused(lakehouse, name).dropDuplicates(["source", "row"])
            new = new.withColumn(s.RUN_ID, F.lit(lakehouse.run_id))
            lakehouse.merge(s.QUARANTINE.name, new, keys=("source", "row"), update=False)


def _refused(lakehouse: Lakehouse, name: str) -> DataFrame:
    return (
        lakehouse.read(f"staging.{name}")
        .where(is_refused())
        .select(
            F.lit(name).alias("source"),
            F.col(ORIGINAL).alias("row"),
            F.col(REASONS).alias("reasons"),
            F.lit(None).cast("string").alias("corrected"),
        )
    )


def write_repairs(
    config: Config, lakehouse: Lakehouse, judged: Mapping[str, Judged], inserted: Mapping[str, int]
) -> int:
    """Write every changed cell: those changed while reading, and those filled; returns how many this run wrote.

    New rows of a source take the place of what was said of earlier ones with their keys. A panel is filled anew as a
    whole whenever anything changes, and so is the record of its fills.

    Args:
        config: the whole configuration.
        lakehouse: the tables.
        judged: the sources.
        inserted: of each to which new files are added, how many of the new rows had keys that were not there.
    """
    whole = [
        part
        for source in judged.values()
        if source.scope == "all"
        for part in (*_repairs(lakehouse, source), *_fills(lakehouse, source))
    ]
    _replace(lakehouse, s.REPAIRS.name, whole, judged)
    for name, source in judged.items():
        if source.scope == "all":
            continue
        is_panel = source.subject.source.kind == "panel"
        parts: list[DataFrame] = []
        if source.scope == "some":
            new = good_rows(lakehouse, source)
            key = key_of(source.subject.source, new.columns)
            changed, *by_hand = _repairs(lakehouse, source)
            if inserted[name] < source.counts.accepted or _was_begun(source):
                of_rows = new.select(F.lit(name).alias("source"), _shown_key(key).alias("key"))
                said = [of_rows, *(part.select("source", "key") for part in by_hand)]
                lakehouse.delete(s.REPAIRS.name, reduce(DataFrame.unionByName, said))
            parts = [changed, *by_hand, *([] if is_panel else _fills(lakehouse, source, only=new.select(*key)))]
        if is_panel:
            lakehouse.delete_where(s.REPAIRS.name, f"source = '{name}' AND rule LIKE 'fill\\_%'")
            parts += _fills(lakehouse, source)
        _append(lakehouse, parts)
    return lakehouse.read(s.REPAIRS.name).where(F.col(s.RUN_ID) == lakehouse.run_id).count()


def _was_begun(judged: Judged) -> bool:
    """Whether a run that was killed may have written some of the record of a batch."""
    return judged.subject.step is not None and bool(judged.subject.step.batch.state.begun)


def _replace(lakehouse: Lakehouse, table: str, parts: Sequence[DataFrame], judged: Mapping[str, Judged]) -> None:
    """Replace the rows of a record, but for those of sources of which not all rows were judged."""
    empty = lakehouse.spark.createDataFrame([], s.TABLES[table].ddl).drop(s.RUN_ID)
    rows = reduce(DataFrame.unionByName, parts, empty)
    kept = [name for name, source in judged.items() if source.scope != "all"]
    if not parts and lakehouse.adopt(table) and lakehouse.read(table).where(~F.col("source").isin(*kept)).isEmpty():
        return
    others = f"source NOT IN ({', '.join(repr(name) for name in kept)})" if kept else None
    lakehouse.overwrite(table, rows.withColumn(s.RUN_ID, F.lit(lakehouse.run_id)), replace_where=others)


def _append(lakehouse: Lakehouse, parts: Sequence[DataFrame]) -> None:
    if parts:
        rows = reduce(DataFrame.unionByName, parts)
        lakehouse.append(s.REPAIRS.name, rows.withColumn(s.RUN_ID, F.lit(lakehouse.run_id)))


def _repairs(lakehouse: Lakehouse, judged: Judged) -> list[DataFrame]:
    """Cells that were changed in the judged rows of a source, and whole rows that were corrected by hand."""
    rows = named_rows(lakehouse, judged).where(is_good() & (F.size(REPAIRS) > 0))
    changed = rows.select(F.lit(judged.name).alias("source"), _KEY, F.explode(REPAIRS).alias("repair")).select(
        "source", F.col(_KEY).alias("key"), "repair.*"
    )
    corrections = corrections_of(lakehouse, judged.name)
    return [changed] if corrections is None else [changed, _by_hand(judged.subject.bronze, corrections)]


def _by_hand(bronze: DataFrame, corrections: DataFrame) -> DataFrame:
    """Whole rows that somebody corrected, and that did come."""
    came = bronze.select(row_of(bronze).alias("row"))
    corrections = corrections.withColumn("row", row_now(F.col("row"), bronze))
    return corrections.join(came, on="row", how="left_semi").select(
        "source",
        F.col("row").alias("key"),
        F.lit("").alias("column"),
        F.col("row").alias("old_value"),
        F.col("corrected").alias("new_value"),
        F.lit("correction").alias("rule"),
    )


def named_rows(lakehouse: Lakehouse, judged: Judged) -> DataFrame:
    """The judged rows of a source with ``__key``, the text that names a row in the records."""
    staged = lakehouse.read(f"staging.{judged.name}")
    key = _keys_shown(judged.subject.source, staged.columns)
    named = staged if key else number_lines(staged, judged.subject.bronze)
    return named.withColumn(_KEY, _shown_key(key))


def _keys_shown(source: SourceConfig, columns: Sequence[str]) -> tuple[str, ...]:
    return key_of(source, columns) or _SHOWN_KEYS.get(source.kind, ())


def _fills(lakehouse: Lakehouse, judged: Judged, only: DataFrame | None = None) -> list[DataFrame]:
    """Filled cells, as the silver table's ``_imputed`` flags tell them; ``only``: of the rows with these keys."""
    name, source = judged.name, judged.subject.source
    filled = [column for column, spec in source.columns.items() if spec.fill != "none"]
    if not filled:
        return []
    rows = lakehouse.read(SILVER_TABLES.get(source.kind, f"silver.{name}"))
    if only is not None:
        rows = rows.join(only.distinct(), on=only.columns, how="left_semi")
    key = _keys_shown(source, rows.columns)
    return [
        rows.where(F.col(f"{column}{s.IMPUTED_SUFFIX}")).select(
            F.lit(name).alias("source"),
            (_shown_key(key) if key else F.lit(None).cast("string")).alias("key"),
            F.lit(column).alias("column"),
            F.lit(None).cast("string").alias("old_value"),
            F.col(f"`{column}`").cast("string").alias("new_value"),
            F.lit(f"fill_{source.columns[column].fill}").alias("rule"),
        )
        for column in filled
    ]


def _shown_key(key: Sequence[str]) -> Column:
    """What names a row: its key, else the file and the number of the line."""
    if not key:
        return F.concat_ws(":", s.SOURCE_FILE, s.SOURCE_ROW)
    return F.concat_ws("|", *(F.coalesce(F.col(f"`{name}`").cast("string"), F.lit("")) for name in key))


def write_quality(lakehouse: Lakehouse, judged: Mapping[str, Judged], findings: Sequence[Finding]) -> None:
    """Add to the metrics what became of the rows, and how often each rule spoke, in this run.

    Args:
        lakehouse: the tables.
        judged: the sources.
        findings: what was warned of whole sources.
    """
    staged = {name: lakehouse.read(f"staging.{name}") for name, source in judged.items() if source.scope != "none"}
    by_rule = [
        lakehouse.read(s.REPAIRS.name)
        .where(F.col(s.RUN_ID) == lakehouse.run_id)
        .select("source", F.lit("repair").alias("outcome"), "rule", "column")
    ]
    for name, rows in staged.items():
        refused = rows.where(is_refused()).select(F.explode(REASONS).alias("of"))
        warnings = rows.where(is_good()).select(F.explode(WARNINGS).alias("rule"))
        # A warning about a column is called rule:column.
        column = F.when(F.contains("rule", F.lit(":")), F.substring_index("rule", ":", -1)).otherwise("")
        source = F.lit(name).alias("source")
        by_rule += [
            refused.select(source, F.lit("quarantine").alias("outcome"), "of.rule", "of.column"),
            warnings.select(
                source,
                F.lit("warning").alias("outcome"),
                F.substring_index("rule", ":", 1).alias("rule"),
                column.alias("column"),
            ),
        ]
    grouped = (
        reduce(DataFrame.unionByName, by_rule)
        .groupBy("source", "outcome", "rule", "column")
        .agg(F.count(F.lit(1)).alias("count"))
    )
    fates = [
        (source.name, outcome, "", "", getattr(source.counts, outcome))
        for source in judged.values()
        for outcome in (*s.FATES, "warned")
    ]
    fates += [(finding.source, "warning", finding.rule, finding.column, 1) for finding in findings]
    rows = lakehouse.spark.createDataFrame(
        fates, "source string, outcome string, rule string, column string, count bigint"
    )
    metrics = rows.unionByName(grouped).withColumns(
        {s.RUN_ID: F.lit(lakehouse.run_id), "cleaned_at": F.current_timestamp()}
    )
    of_run = f"{s.RUN_ID} = '{lakehouse.run_id}'"
    if lakehouse.adopt(s.QUALITY.name) and not lakehouse.read(s.QUALITY.name).where(of_run).isEmpty():
        # A killed attempt of this run came so far.
        lakehouse.overwrite(s.QUALITY.name, metrics, replace_where=of_run)
    else:
        lakehouse.append(s.QUALITY.name, metrics)
