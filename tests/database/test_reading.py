"""Tables of a real PostgreSQL server: every cell as it stands there, shared between tasks, taken in once."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import ValidationError
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark import sources
from dlmine_spark.config import Config, SourceConfig
from dlmine_spark.errors import ConfigError, EnvironmentProblem, SourceError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import batches
from tests.cleaning.deliveries import RECEIPTS, batches_in_bronze, quantities, run
from tests.database.conftest import PASSWORD, USER, Postgres

pytestmark = pytest.mark.spark

LINES = """
CREATE TABLE receipts (
  no bigint, at timestamp, article text, pieces numeric, price numeric(10, 2), changed timestamptz
);
INSERT INTO receipts VALUES
  (1, '2024-03-04 10:00', 'Tea', 2, 1.5, '2024-03-04 10:00:00.000001+00'),
  (1, '2024-03-04 10:00', 'milk', 1, 0.9, '2024-03-04 10:00:00.000002+00'),
  (2, '2024-03-04 11:00', 'tea', -3, 1.5, '2024-03-04 12:00:00+01');
"""


def declared(database: Postgres, table: str, settings: dict[str, Any] | None = None, **more: Any) -> SourceConfig:
    of_database = {"table": table, "credentials": "shop", **(settings or {})}
    base = {"kind": "table", "format": "jdbc", "path": database.address, "columns": {"id": None}}
    return SourceConfig.model_validate({**base, "database": of_database, **more})


def receipts(database: Postgres, **settings: Any) -> Config:
    of_database = {"table": "receipts", "credentials": "shop", "incremental_column": "changed", **settings}
    return Config.model_validate(
        {"sources": {"receipts": {**RECEIPTS, "format": "jdbc", "path": database.address, "database": of_database}}}
    )


def rows(spark: SparkSession, source: SourceConfig) -> list[dict[str, Any]]:
    frame = sources.read_source(spark, "t", source, "run-1")
    cells = [F.col(f"`{name}`") for name in frame.columns if name not in s.BRONZE_METADATA]
    return [row.asDict() for row in frame.select(*cells).collect()]


# What is read


def test_cells_keep_what_the_database_holds(spark: SparkSession, database: Postgres) -> None:
    database.run(
        """
        CREATE TABLE t (id int, exact numeric, wide numeric(60, 30), yes boolean, day date, clock timestamp,
                        instant timestamptz, words text[], "Größe %" text, nothing text);
        INSERT INTO t VALUES (1, 0.1000000000000000000000000000001, 123456789012345678901234567890.5, true,
          '2024-02-29', '2024-03-31 02:30:00.123456', '2024-03-31 02:30:00+02', '{a,"b c"}', 'é''"', NULL);
        """
    )
    (row,) = rows(spark, declared(database, "t"))

    assert row == {
        "id": "1",
        "exact": "0.1000000000000000000000000000001",
        "wide": "123456789012345678901234567890.500000000000000000000000000000",
        "yes": "true",
        "day": "2024-02-29",
        "clock": "2024-03-31 02:30:00.123456",
        "instant": "2024-03-31 00:30:00",
        "words": '["a","b c"]',
        "Größe_%": "é'\"",
        "nothing": None,
    }


def test_a_row_says_of_which_table_it_is(spark: SparkSession, database: Postgres) -> None:
    database.run("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
    frame = sources.read_source(spark, "t", declared(database, "t"), "run-1")
    (row,) = frame.select(sources.path_of(F.col(s.SOURCE_FILE)).alias("path"), s.SOURCE_BLOCK).collect()

    assert (row["path"], row[s.SOURCE_BLOCK]) == (f"{database.address}#t", 0)
    assert PASSWORD not in str(frame._jdf.queryExecution().toString())


@pytest.mark.parametrize("column", ["id", "amount", "day", "clock", "instant"])
def test_tasks_share_a_table_and_lose_no_row(spark: SparkSession, database: Postgres, column: str) -> None:
    database.run(
        """
        CREATE TABLE t (id int, amount numeric(9, 2), day date, clock timestamp, instant timestamptz);
        INSERT INTO t SELECT n, n / 3.0, '2024-01-01'::date + n, '2024-01-01'::timestamp + n * interval '1 hour',
          '2024-01-01'::timestamptz + n * interval '1 hour' FROM generate_series(1, 100) n;
        INSERT INTO t VALUES (NULL), (101);
        """
    )
    source = declared(database, "t", {"partition_column": column.upper(), "partitions": 4})
    frame = sources.read_source(spark, "t", source, "run-1")

    found = frame.withColumn("task", F.spark_partition_id()).groupBy("task").count().collect()
    assert sum(row["count"] for row in found) == 102
    assert len(found) == 4
    assert {row["id"] for row in frame.collect()} == {None, *map(str, range(1, 102))}


def test_a_query_and_an_empty_table_are_tables(spark: SparkSession, database: Postgres) -> None:
    database.run("CREATE TABLE t (id int, store text); INSERT INTO t VALUES (1, 'a'), (2, 'b')")

    assert rows(spark, declared(database, "(SELECT id FROM t WHERE store = 'b') AS b")) == [{"id": "2"}]
    empty = declared(database, "(SELECT id FROM t WHERE id > 5) AS b", {"partition_column": "id"})
    assert rows(spark, empty) == []


# Loading a table as a whole


def test_without_a_column_that_tells_a_table_is_read_by_every_run(spark: SparkSession, database: Postgres) -> None:
    database.run("CREATE TABLE t (id int, changed timestamptz); INSERT INTO t VALUES (1, now())")
    assert sources.contents(spark, "t", declared(database, "t")) is None

    source = declared(database, "t", {"incremental_column": "changed"})
    before = sources.contents(spark, "t", source)
    assert sources.contents(spark, "t", source) == before
    database.run("UPDATE t SET changed = now() + interval '1 second'")
    updated = sources.contents(spark, "t", source)
    database.run("INSERT INTO t VALUES (2, '2020-01-01')")
    assert len({before, updated, sources.contents(spark, "t", source)}) == 3


# Loading what is new


def test_each_run_takes_in_what_is_new_and_nothing_twice(lakehouse: Lakehouse, database: Postgres) -> None:
    database.run(LINES)
    config = receipts(database)
    run(config, lakehouse)
    assert quantities(lakehouse) == {("1", "tea"): 2.0, ("1", "milk"): 1.0}

    run(config, lakehouse)
    assert batches_in_bronze(lakehouse) == {1: 3}

    # A corrected line has a later time, a new one too.
    database.run(
        """
        UPDATE receipts SET pieces = 4, changed = '2024-03-05 09:00+00' WHERE article = 'milk';
        INSERT INTO receipts VALUES (3, '2024-03-05 10:00', 'tea', 7, 1.5, '2024-03-05 10:00+00');
        """
    )
    before = batches.fingerprint(lakehouse, "receipts", config.sources["receipts"])
    run(config, lakehouse)
    assert batches_in_bronze(lakehouse) == {1: 3, 2: 2}
    assert quantities(lakehouse) == {("1", "tea"): 2.0, ("1", "milk"): 4.0, ("3", "tea"): 7.0}
    assert batches.fingerprint(lakehouse, "receipts", config.sources["receipts"]) == before

    files = lakehouse.read(s.FILES.name).orderBy("batch").collect()
    assert [row["path"] for row in files] == [
        f"{database.address}#receipts changed up to 2024-03-04 11:00:00.000000+00:00",
        f"{database.address}#receipts changed above 2024-03-04 11:00:00.000000+00:00 "
        "up to 2024-03-05 10:00:00.000000+00:00",
    ]


def test_rows_that_come_late_are_found_by_looking_back(lakehouse: Lakehouse, database: Postgres) -> None:
    database.run(LINES)
    run(receipts(database), lakehouse)
    # A transaction that began earlier ends after the run.
    database.run("INSERT INTO receipts VALUES (4, '2024-03-04 10:30', 'tea', 1, 1.5, '2024-03-04 10:30+00')")
    run(receipts(database), lakehouse)
    assert ("4", "tea") not in quantities(lakehouse)

    config = receipts(database, lookback="1 hour")
    run(config, lakehouse)
    assert quantities(lakehouse)["4", "tea"] == 1.0
    taken = batches_in_bronze(lakehouse)
    run(config, lakehouse)
    assert batches_in_bronze(lakehouse) == taken


def test_a_run_that_was_killed_is_gone_on_with(lakehouse: Lakehouse, database: Postgres, monkeypatch: Any) -> None:
    database.run(LINES)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dlmine_spark.pipelines.clean.write_quality", killed)
        with pytest.raises(KeyboardInterrupt):
            run(receipts(database), lakehouse)
    database.run("INSERT INTO receipts VALUES (3, '2024-03-05 10:00', 'tea', 7, 1.5, '2024-03-05 10:00+00')")
    run(receipts(database), lakehouse)
    run(receipts(database), lakehouse)
    assert batches_in_bronze(lakehouse) == {1: 3, 2: 1}
    assert quantities(lakehouse) == {("1", "tea"): 2.0, ("1", "milk"): 1.0, ("3", "tea"): 7.0}


def test_rows_that_no_range_holds_are_told(lakehouse: Lakehouse, database: Postgres) -> None:
    database.run(LINES + "INSERT INTO receipts VALUES (5, '2024-03-04 10:30', 'tea', 1, 1.5, NULL)")
    with pytest.raises(SourceError, match=r"#receipts \(source receipts\): 1 rows have no changed, so they would"):
        run(receipts(database), lakehouse)


def test_a_lookback_that_does_not_fit_the_column_is_told(lakehouse: Lakehouse, database: Postgres) -> None:
    database.run(LINES)
    run(receipts(database), lakehouse)
    with pytest.raises(ConfigError, match=r"database\.lookback: '5' cannot be taken from '2024-03-04 11:00:00.*2 days"):
        run(receipts(database, lookback="5"), lakehouse)


# What goes wrong


def test_what_a_database_refuses_is_one_line(
    spark: SparkSession, database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.run("CREATE TABLE t (id int, name text)")

    def refused(source: SourceConfig) -> str:
        start = time.monotonic()
        with pytest.raises(SourceError) as caught:
            rows(spark, source)
        assert time.monotonic() - start < 40
        message = str(caught.value)
        assert message.startswith(source.path)
        assert PASSWORD not in message
        assert "\n" not in message
        return message

    assert refused(declared(database, "no_table")).endswith("does not exist; check sources.t.database.table")
    assert "has no column naem (sources.t.database.partition_column); did you mean name?" in refused(
        declared(database, "t", {"partition_column": "naem"})
    )
    assert "column name is of type string, sources.t.database.partition_column has to be a number" in refused(
        declared(database, "t", {"partition_column": "name"})
    )
    nobody = declared(database, "t").model_copy(update={"path": "jdbc:postgresql://127.0.0.1:1/postgres"})
    assert "Connection to 127.0.0.1:1 refused" in refused(nobody)
    other = declared(database, "t").model_copy(update={"path": database.address.replace("/postgres", "/no_such")})
    assert 'database "no_such" does not exist' in refused(other)
    monkeypatch.setenv("DLMINE_SHOP_PASSWORD", "wrong")
    assert refused(declared(database, "t")).endswith("; check DLMINE_SHOP_USER and DLMINE_SHOP_PASSWORD")


def test_a_driver_that_is_missing_is_told_with_its_coordinates(spark: SparkSession) -> None:
    source = SourceConfig.model_validate(
        {"kind": "table", "format": "jdbc", "path": "jdbc:mysql://db/shop", "database": {"table": "t"}}
    )
    with pytest.raises(EnvironmentProblem, match=r"no JDBC driver for jdbc:mysql: --set spark\.conf\.spark\.jars"):
        rows(spark, source)


def test_missing_variables_are_told_before_spark_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DLMINE_SHOP_PASSWORD", raising=False)
    monkeypatch.setenv("DLMINE_SHOP_USER", USER)
    source = SourceConfig.model_validate(
        {
            "kind": "table",
            "format": "jdbc",
            "path": "jdbc:postgresql://db/shop",
            "database": {"table": "t", "credentials": "shop"},
        }
    )
    with pytest.raises(EnvironmentProblem, match=r"credentials is shop: set .* variable DLMINE_SHOP_PASSWORD$"):
        sources.look_at("sales", source)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"path": "jdbc:postgresql://clerk:s3cret@db/shop"}, "path: holds a user or a password"),
        ({"path": "jdbc:postgresql://db/shop?ssl=true&password=s3cret"}, "path: holds a user or a password"),
        ({"path": "jdbc:oracle:thin:clerk/s3cret@//db/shop"}, "path: holds a user or a password"),
        ({"path": "postgresql://db/shop"}, "path: format jdbc needs an address like jdbc:postgresql://"),
        ({"database": None}, "database: format jdbc needs it"),
        ({"format": "csv"}, "database: is for format jdbc"),
        ({"format": "csv", "database": None}, "set format: jdbc"),
        ({"load": "merge", "key": ["id"]}, "needs database.incremental_column"),
        ({"database": {"table": "t", "lookback": "2 days"}}, "lookback: needs incremental_column"),
        (
            {"database": {"table": "t", "incremental_column": "c", "lookback": "soon"}},
            "'soon' is no number or time span",
        ),
    ],
)
def test_declarations_that_make_no_sense(settings: dict[str, Any], expected: str) -> None:
    base = {"kind": "table", "format": "jdbc", "path": "jdbc:postgresql://db/shop", "columns": {"id": None}}
    with pytest.raises(ValidationError) as caught:
        SourceConfig.model_validate({**base, "database": {"table": "t"}, **settings})
    messages = "; ".join(error["msg"] for error in caught.value.errors())
    assert expected in messages
    assert "s3cret" not in messages
