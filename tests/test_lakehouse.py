"""The lakehouse: atomic writes, pinned reads, contracts, names."""

from __future__ import annotations

import subprocess
from datetime import datetime
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from dlmine_spark import schemas as s
from dlmine_spark.config import LakehouseConfig
from dlmine_spark.errors import ConfigError, EnvironmentProblem, TableContractError
from dlmine_spark.lakehouse import Lakehouse


def itemsets(spark: SparkSession, *rows: tuple[list[str], int, int, float]):  # type: ignore[no-untyped-def]
    found = spark.createDataFrame(list(rows), "items array<string>, size int, count int, support double")
    return found.selectExpr("*", "true AS is_closed", "true AS is_maximal")


def test_a_table_is_written_to_its_address_and_cast_to_its_contract(lakehouse: Lakehouse, tmp_path: Path) -> None:
    version = lakehouse.overwrite("gold.itemsets", itemsets(lakehouse.spark, (["a"], 1, 3, 0.5)))

    assert version == 0
    assert (tmp_path / "lakehouse" / "gold" / "itemsets" / "_delta_log").is_dir()
    assert dict(lakehouse.read("gold.itemsets").dtypes)["count"] == "bigint"


def test_a_run_reads_the_versions_it_is_pinned_to(lakehouse: Lakehouse) -> None:
    lakehouse.overwrite("gold.itemsets", itemsets(lakehouse.spark, (["old"], 1, 3, 0.5)))
    lakehouse.overwrite("gold.itemsets", itemsets(lakehouse.spark, (["new"], 1, 4, 0.6)))

    bound = lakehouse.for_run("run-1", {"gold.itemsets": 0})

    assert [row["items"] for row in bound.read("gold.itemsets").collect()] == [["old"]]
    assert bound.pinned_version("gold.itemsets") == 0
    assert lakehouse.version("gold.itemsets") == 1
    # What is there, but none of the run's inputs, is an earlier configuration's.
    assert bound.exists("gold.itemsets")
    assert lakehouse.exists("gold.itemsets")
    assert not lakehouse.for_run("run-2", {}).exists("gold.itemsets")
    with pytest.raises(TableContractError, match=r"gold\.itemsets: there is no such table"):
        lakehouse.for_run("run-2", {}).read("gold.itemsets")


def test_replace_where_leaves_the_other_rows(lakehouse: Lakehouse) -> None:
    def forecasts(model: str, y_hat: float):  # type: ignore[no-untyped-def]
        return lakehouse.spark.createDataFrame(
            [("run", model, "s", None, None, 1, y_hat, 0.0, 0.0, 0.0, 0.0)],
            "run_id string, model string, unique_id string, cutoff date, ds date, h int, y_hat double, "
            "lo_80 double, hi_80 double, lo_95 double, hi_95 double",
        )

    lakehouse.overwrite("gold.forecasts", forecasts("arima", 1.0), replace_where="model = 'arima'")
    lakehouse.overwrite("gold.forecasts", forecasts("lstm", 2.0), replace_where="model = 'lstm'")
    lakehouse.overwrite("gold.forecasts", forecasts("arima", 3.0), replace_where="model = 'arima'")

    rows = {row["model"]: row["y_hat"] for row in lakehouse.read("gold.forecasts").collect()}
    assert rows == {"arima": 3.0, "lstm": 2.0}


def test_a_frame_that_breaks_the_contract_is_refused_and_nothing_is_written(lakehouse: Lakehouse) -> None:
    frame = lakehouse.spark.createDataFrame([(["a"], 1)], "items array<string>, size int")

    with pytest.raises(TableContractError, match=r"gold\.itemsets.*count, support"):
        lakehouse.overwrite("gold.itemsets", frame)
    assert not lakehouse.exists("gold.itemsets")


def test_moments_of_other_types_are_neither_cast_nor_mixed(lakehouse: Lakehouse) -> None:
    def panel(moment: str) -> DataFrame:
        return lakehouse.spark.sql(f"SELECT 'a' unique_id, {moment} ds, 1D y, 1 open, false y_imputed")

    for moment, type_ in {
        "DATE'2024-01-01'": "date",
        "TIMESTAMP_NTZ'2024-01-01 05:00:00'": "timestamp_ntz",
        "17": "int",
    }.items():
        lakehouse.overwrite("silver.panel", panel(moment))
        assert dict(lakehouse.read("silver.panel").dtypes)["ds"] == type_
        lakehouse.overwrite(
            "gold.training_panel",
            panel(moment).selectExpr(
                "ds cutoff", "0 shard", "unique_id", "ds", "y", "1 mask", "open", "array(1D) arima_path"
            ),
        )
        assert dict(lakehouse.read("gold.training_panel").dtypes)["cutoff"] == type_
    for moment in ("TIMESTAMP'2024-01-01 05:00:00'", "'2024-01-01'"):
        with pytest.raises(TableContractError, match=r"silver\.panel: ds is .*; expected one of date, timestamp_ntz"):
            lakehouse.overwrite("silver.panel", panel(moment))
    forecasts = lakehouse.spark.sql(
        "SELECT 'r' run_id, 'm' model, 'a' unique_id, DATE'2024-01-01' cutoff, TIMESTAMP_NTZ'2024-01-01 05:00' ds, "
        "1 h, 1D y_hat, 1D lo_80, 1D hi_80, 1D lo_95, 1D hi_95"
    )
    with pytest.raises(TableContractError, match=r"cutoff is date, ds is timestamp_ntz"):
        lakehouse.overwrite(s.FORECASTS.name, forecasts)


def test_forecasts_of_another_panels_time_do_not_stay_beside_new_ones(lakehouse: Lakehouse) -> None:
    def forecasts(model: str, moment: str) -> DataFrame:
        return lakehouse.spark.sql(
            f"SELECT 'r' run_id, '{model}' model, 'a' unique_id, {moment} cutoff, {moment} ds, 1 h, 1D y_hat, "
            "1D lo_80, 1D hi_80, 1D lo_95, 1D hi_95"
        )

    for model in ("arima", "lstm"):
        lakehouse.overwrite(s.FORECASTS.name, forecasts(model, "DATE'2024-01-01'"), replace_where=f"model = '{model}'")
    assert lakehouse.read(s.FORECASTS.name).count() == 2
    hours = forecasts("arima", "TIMESTAMP_NTZ'2024-01-01 05:00:00'")
    lakehouse.overwrite(s.FORECASTS.name, hours, replace_where="model = 'arima'")

    rows = lakehouse.read(s.FORECASTS.name).collect()
    assert [(row["model"], row["ds"]) for row in rows] == [("arima", datetime(2024, 1, 1, 5))]


def test_undeclared_columns_are_refused_in_a_closed_table_only(lakehouse: Lakehouse) -> None:
    spark = lakehouse.spark
    statics = spark.createDataFrame([("a", "north")], "unique_id string, region string")
    lakehouse.overwrite("silver.statics", statics)
    assert lakehouse.read("silver.statics").columns == ["unique_id", "region"]

    with pytest.raises(TableContractError, match="undeclared columns extra"):
        lakehouse.overwrite("gold.itemsets", itemsets(spark, (["a"], 1, 3, 0.5)).selectExpr("*", "1 as extra"))


def test_a_table_of_another_layout_is_named_and_left_as_it_is(lakehouse: Lakehouse) -> None:
    rows = lakehouse.spark.createDataFrame([("run", "lstm")], "run_id string, model string")
    rows.write.format("delta").save(lakehouse.address(s.FORECASTS.name))
    forecast = lakehouse.spark.createDataFrame([(None,) * len(s.FORECASTS.names)], s.FORECASTS.ddl)

    with pytest.raises(TableContractError, match=r"gold\.forecasts \(.*remove the table"):
        lakehouse.overwrite(s.FORECASTS.name, forecast.fillna("lstm", ["model"]), replace_where="model = 'lstm'")

    assert lakehouse.version(s.FORECASTS.name) == 0


def test_a_session_without_deltas_catalog_is_told_what_to_do(lakehouse: Lakehouse) -> None:
    without = lakehouse.spark.newSession()
    without.conf.unset("spark.sql.catalog.spark_catalog")
    there = Lakehouse(without, lakehouse.config)

    with pytest.raises(EnvironmentProblem, match=r"--conf spark\.sql\.catalog\.spark_catalog="):
        there.overwrite("silver.numbers", without.range(3))


def test_a_full_disk_is_named_and_leaves_the_table_as_it_was(spark: SparkSession, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        house = Lakehouse(spark, LakehouseConfig(root=f"{disk}/house"))
        house.overwrite("silver.numbers", spark.range(3))

        with pytest.raises(EnvironmentProblem, match=r"silver\.numbers \(.*no space left on device"):
            house.overwrite("silver.numbers", spark.range(500_000))

        assert house.read("silver.numbers").count() == 3
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_merge_updates_inserts_and_keeps(lakehouse: Lakehouse) -> None:
    spark = lakehouse.spark
    lakehouse.overwrite("silver.extra", spark.createDataFrame([("a", 1, 10), ("b", 2, 20)], "id string, x int, k int"))

    lakehouse.merge(
        "silver.extra",
        spark.createDataFrame([("b", 3, 30), ("c", 4, 40)], "id string, x int, k int"),
        keys=["id"],
        keep=["k"],
    )

    assert sorted(tuple(row) for row in lakehouse.read("silver.extra").collect()) == [
        ("a", 1, 10),
        ("b", 3, 20),
        ("c", 4, 40),
    ]


def test_a_missing_table_names_the_stage_to_run(lakehouse: Lakehouse) -> None:
    assert lakehouse.version("silver.panel") is None
    with pytest.raises(TableContractError, match=r"silver\.panel.*dlmine run"):
        lakehouse.read("silver.panel")


def test_a_table_lacking_a_column_is_refused_at_the_door(lakehouse: Lakehouse) -> None:
    frame = lakehouse.spark.createDataFrame([("a",)], "unique_id string")
    frame.write.format("delta").save(lakehouse.address(s.PANEL.name))

    with pytest.raises(TableContractError, match="column ds, y, open, y_imputed is missing"):
        lakehouse.read("silver.panel")


def test_catalog_names(spark: SparkSession) -> None:
    def address(schema: str | None) -> str:
        return Lakehouse(spark, LakehouseConfig(catalog="main", schema_name=schema)).address("gold.rules")

    assert address(None) == "main.gold.rules"
    assert address("retail") == "main.retail.gold_rules"


def test_catalog_tables_are_written_and_read(spark: SparkSession) -> None:
    lakehouse = Lakehouse(spark, LakehouseConfig(catalog="spark_catalog", schema_name="dlmine_test"))
    spark.sql("DROP SCHEMA IF EXISTS dlmine_test CASCADE")

    lakehouse.overwrite("gold.itemsets", itemsets(spark, (["a"], 1, 3, 0.5)))
    lakehouse.overwrite("gold.itemsets", itemsets(spark, (["b"], 1, 3, 0.5)))

    assert [row["items"] for row in lakehouse.read("gold.itemsets").collect()] == [["b"]]
    old = lakehouse.for_run("r", {"gold.itemsets": 0}).read("gold.itemsets")
    assert [row["items"] for row in old.collect()] == [["a"]]
    spark.sql("DROP SCHEMA dlmine_test CASCADE")


def test_a_partitioned_table_of_a_catalog_is_replaced_again_and_again(spark: SparkSession) -> None:
    lakehouse = Lakehouse(spark, LakehouseConfig(catalog="spark_catalog", schema_name="dlmine_test"))
    spark.sql("DROP SCHEMA IF EXISTS dlmine_test CASCADE")

    def rows(*names: str) -> DataFrame:
        return spark.createDataFrame([(name, 1) for name in names], "name string, number int")

    for names in (("a", "b"), ("c",), ("d", "e")):
        lakehouse.overwrite("gold.parts", rows(*names), partition_by=["name"])
        assert {row["name"] for row in lakehouse.read("gold.parts").collect()} == set(names)
    # A later run that does not read what it replaces.
    lakehouse = lakehouse.for_run("later", {})
    lakehouse.overwrite("gold.parts", rows("d", "e"), partition_by=["name"])
    for _ in range(2):
        lakehouse.overwrite("gold.parts", rows("f"), replace_where="name IN ('d', 'f')", partition_by=["name"])
        assert {row["name"] for row in lakehouse.read("gold.parts").collect()} == {"e", "f"}
    assert spark.sql("DESCRIBE DETAIL dlmine_test.gold_parts").collect()[0]["partitionColumns"] == ["name"]
    spark.sql("DROP SCHEMA dlmine_test CASCADE")


def test_a_later_run_replaces_some_rows_of_a_table_that_it_does_not_read(lakehouse: Lakehouse) -> None:
    def rows(name: str) -> DataFrame:
        moments = "'s' unique_id, date'2024-01-01' cutoff, date'2024-01-02' ds, 1 h, 1d y_hat"
        bounds = "0d lo_80, 2d hi_80, 0d lo_95, 3d hi_95"
        return lakehouse.spark.sql(
            f"select '{name}' scenario, 'm' model, {moments}, {bounds}, 1d as_planned, true is_changed"
        )

    for run, name in enumerate(("one", "two", "one")):
        later = lakehouse.for_run(f"run-{run}", {})
        later.overwrite(s.SCENARIOS.name, rows(name), replace_where=f"scenario = '{name}'")
    found = lakehouse.read(s.SCENARIOS.name).orderBy("scenario").collect()
    assert [row["scenario"] for row in found] == ["one", "two"]


@pytest.mark.parametrize("name", ["panel", "silver.", "silver.a/../b", "silver.`x`"])
def test_odd_table_names_are_refused(lakehouse: Lakehouse, name: str) -> None:
    with pytest.raises(ConfigError, match="is no table name"):
        lakehouse.address(name)


def test_an_earlier_version_with_fewer_columns_is_read_by_number(lakehouse: Lakehouse) -> None:
    old = lakehouse.spark.createDataFrame([(["gin"], ["tonic"])], "antecedent array<string>, consequent array<string>")
    old.write.format("delta").save(lakehouse.address(s.RULES.name))
    lakehouse.overwrite(s.RULES.name, lakehouse.spark.createDataFrame([], s.RULES.ddl))
    assert lakehouse.read(s.RULES.name, 0).count() == 1
    assert lakehouse.read(s.RULES.name).columns == s.RULES.names
