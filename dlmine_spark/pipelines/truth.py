"""What the lakehouse says of a simulated world, compared with what is true of it (``report.truth``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.arima.paths import ARIMA, OTHERS
from dlmine_spark.config import Config
from dlmine_spark.errors import ConfigError
from dlmine_spark.evaluation.compare import KEY, scored_actuals
from dlmine_spark.frequency import sql_literal
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.common import all_cutoffs
from dlmine_spark.pipelines.steps import panel_frequency
from dlmine_spark.report.data import Truth
from dlmine_spark.segmentation.choice import adjusted_rand


def compare(config: Config, lakehouse: Lakehouse) -> Truth:
    """How good a forecast could be at best, and how much of what was planted was found.

    A figure whose tables are not there yet is None; without ``report.truth`` all of them are.

    Raises:
        ConfigError: ``report.truth`` is no truth of a simulation, or that of another one.
    """
    if config.report.truth is None:
        return Truth()
    folder = Path(config.report.truth)
    planted = _read(folder, "rules.csv", ("antecedent", "consequent"))
    found = _rules_found(lakehouse, planted)
    sequences_found, sequences_planted = _sequences_found(lakehouse, folder)
    return Truth(
        irreducible_wape=_irreducible_wape(config, lakehouse, folder),
        rules_planted=None if found is None else len(planted),
        rules_found=found,
        sequences_planted=sequences_planted,
        sequences_found=sequences_found,
        store_types_ari=_store_types_ari(lakehouse, folder),
    )


def summary(truth: Truth) -> str:
    """The figures there are, in one line; empty where there are none."""
    parts = []
    if truth.irreducible_wape is not None:
        parts.append(f"irreducible WAPE {truth.irreducible_wape:.1%}")
    if truth.rules_planted is not None:
        parts.append(f"planted rules found {truth.rules_found} of {truth.rules_planted}")
    if truth.sequences_planted is not None:
        parts.append(f"planted sequences found {truth.sequences_found} of {truth.sequences_planted}")
    if truth.store_types_ari is not None:
        parts.append(f"store types ARI {truth.store_types_ari:.2f}")
    return ", ".join(parts)


def _read(folder: Path, name: str, columns: Sequence[str]) -> pd.DataFrame:
    """Some columns of a table of the truth folder, as text."""
    try:
        return pd.read_csv(folder / name, dtype=str, usecols=list(columns))
    except (OSError, ValueError) as error:
        reason = f"no file {name}" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
        raise ConfigError(
            f"report.truth {folder}: is no truth of a simulation ({reason}); "
            "give the truth/ folder that 'dlmine simulate' wrote, or leave the key away"
        ) from error


def _irreducible_wape(config: Config, lakehouse: Lakehouse, folder: Path) -> float | None:
    """The WAPE of the noiseless expected sales, on the values that the backtest compared forecasts with."""
    if not (lakehouse.exists(s.FORECASTS.name) and lakehouse.exists(s.PANEL.name)):
        return None
    compared = _compared(config, lakehouse)
    first = compared.agg(F.min(s.DS).alias(s.DS)).collect()[0][s.DS]
    if first is None:
        return None
    truth = _read(folder, "expected_sales.csv", ("store", "date", "expected"))
    truth = truth[truth["date"] >= first.isoformat()]
    expected = lakehouse.spark.createDataFrame(truth, "store string, date string, expected string").select(
        F.col("store").alias(s.UNIQUE_ID),
        F.col("date").cast("date").alias(s.DS),
        F.col("expected").cast("double").alias("expected"),
    )
    row = (
        compared.join(expected, on=[s.UNIQUE_ID, s.DS], how="left")
        .agg(
            F.sum(F.abs(F.col(s.Y) - F.col("expected"))).alias("missed"),
            F.sum(F.abs(s.Y)).alias("sold"),
            F.count(F.when(F.col("expected").isNull(), 1)).alias("unknown"),
            F.count(F.lit(1)).alias("rows"),
        )
        .collect()[0]
    )
    if row["unknown"]:
        raise ConfigError(
            f"report.truth {folder}: does not know {row['unknown']:,} of {row['rows']:,} series and dates of the "
            "backtest; is it the truth of another simulation?"
        )
    return row["missed"] / row["sold"] if row["sold"] else None


def _compared(config: Config, lakehouse: Lakehouse) -> DataFrame:
    """Series, cutoffs and dates that every model of the backtest forecast, with the value there was."""
    panel = lakehouse.read(s.PANEL.name)
    cutoffs = all_cutoffs(config, panel, panel_frequency(config, panel)).backtest
    made = lakehouse.read(s.FORECASTS.name).where(F.col(s.CUTOFF).isin([F.expr(sql_literal(one)) for one in cutoffs]))
    # A series that ARIMA could not fit has a fallback in its place.
    model = F.when(F.col(s.MODEL).isin(*OTHERS), F.lit(ARIMA)).otherwise(F.col(s.MODEL))
    paired = made.withColumn(s.MODEL, model).join(scored_actuals(panel), on=[s.UNIQUE_ID, s.DS], how="inner")
    models = paired.select(s.MODEL).distinct().count()
    return (
        paired.groupBy(*KEY, s.Y)
        .agg(F.count_distinct(s.MODEL).alias("models"))
        .where(F.col("models") == models)
        .select(*KEY, s.Y)
    )


def _rules_found(lakehouse: Lakehouse, planted: pd.DataFrame) -> int | None:
    """How many planted rules are kept in ``gold.rules``, antecedent and consequent being the same."""
    if not lakehouse.exists(s.RULES.name):
        return None
    wanted = lakehouse.spark.createDataFrame(planted[["antecedent", "consequent"]]).select(
        F.array_sort(F.split("antecedent", r"\|")).alias("antecedent"), F.array("consequent").alias("consequent")
    )
    rules = (
        lakehouse.read(s.RULES.name)
        .where("is_kept")
        .select(F.array_sort("antecedent").alias("antecedent"), "consequent")
    )
    return wanted.join(rules, on=["antecedent", "consequent"], how="left_semi").count()


def _sequences_found(lakehouse: Lakehouse, folder: Path) -> tuple[int | None, int | None]:
    """How many planted sequences of single items are in ``gold.sequences``, and how many there are."""
    if not lakehouse.exists(s.SEQUENCES.name):
        return None, None
    planted = _read(folder, "sequences.csv", ("items",))
    wanted = lakehouse.spark.createDataFrame(planted[["items"]]).select(
        F.transform(F.split("items", r"\|"), lambda item: F.array(item)).alias("sequence")
    )
    sequences = lakehouse.read(s.SEQUENCES.name).select("sequence")
    return wanted.join(sequences, on="sequence", how="left_semi").count(), len(planted)


def _store_types_ari(lakehouse: Lakehouse, folder: Path) -> float | None:
    """How well the segments of the stores agree with their true types."""
    if not lakehouse.exists(s.SEGMENTS.name):
        return None
    stores = lakehouse.read(s.SEGMENTS.name).where(F.col("entity") == "store").select("entity_id", "segment")
    types = _read(folder, "stores.csv", ("store", "type"))
    both = stores.toPandas().merge(types, left_on="entity_id", right_on="store")
    return None if both.empty else adjusted_rand(both["segment"].to_numpy(), both["type"].to_numpy())


def true_types(config: Config) -> dict[str, str]:
    """The type of each store of a simulated world; nothing where ``report.truth`` names none."""
    if config.report.truth is None:
        return {}
    types = _read(Path(config.report.truth), "stores.csv", ("store", "type"))
    return dict(zip(types["store"].astype(str), types["type"].astype(str), strict=True))
