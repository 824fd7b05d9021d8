"""References: what a source names has to be there in the other one."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from dlmine_spark.cleaning.plan import REASONS, REPAIRS, WARNINGS
from dlmine_spark.cleaning.references import referred_keys, treat_references
from dlmine_spark.config import Config, Reference, load_config
from dlmine_spark.errors import ConfigError, SourceError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import clean, judging
from tests.cleaning.examples import entries, good, values

SALES: list[tuple[int, str | None, str | None]] = [
    (1, "S1", "tea"),
    (2, "S9", "tea"),
    (3, None, "tea"),
    (4, "S1", "milk"),
]


def reference(*columns: str, action: str = "quarantine") -> Reference:
    return Reference.model_validate({"columns": columns, "source": "stores", "action": action})


@pytest.mark.spark
def test_a_value_that_nothing_has_is_refused_blanked_or_warned_of(spark: SparkSession) -> None:
    sales = good(spark, "_source_row int, store_id string, item string", *SALES)
    # Found twice is found; a blank is no value that could be meant.
    stores = spark.createDataFrame([("S1",), ("S1",), (None,), ("S2",)], "unique_id string")
    keys = referred_keys(stores, ("unique_id",))

    refused = treat_references(sales, [(reference("store_id"), keys)])
    blanked = treat_references(sales, [(reference("store_id", action="null"), keys)])
    doubted = treat_references(sales, [(reference("store_id", action="warn"), keys)])

    message = "is no unique_id of stores: S9"
    assert entries(refused, REASONS) == [[], [("unknown_reference", "store_id", message)], [], []]
    assert values(blanked, "store_id") == ["S1", None, None, "S1"]
    assert entries(blanked, REPAIRS) == [[], [("store_id", "S9", None, "unknown_reference")], [], []]
    assert values(doubted, WARNINGS) == [[], ["unknown_reference:store_id"], [], []]
    assert refused.columns == blanked.columns == doubted.columns == sales.columns


@pytest.mark.spark
def test_all_references_are_asked_of_the_row_as_it_came(spark: SparkSession) -> None:
    sales = good(spark, "_source_row int, store_id string, item string", *SALES)
    stores = spark.createDataFrame([("S1",)], "unique_id string")
    # The same names as on the other side, in another order and case.
    offers = spark.createDataFrame([("tea", "S1"), ("milk", "S9"), ("milk", None)], "Item string, store_id string")

    treated = treat_references(
        sales,
        [
            (reference("store_id", action="null"), referred_keys(stores, ("unique_id",))),
            (reference("item", "store_id"), referred_keys(offers, ("Item", "store_id"))),
        ],
    )

    # The second row's store was blanked by the first reference, and is still what the second one speaks of.
    assert values(treated, "store_id") == ["S1", None, None, "S1"]
    assert [[message for *_, message in found] for found in entries(treated, REASONS)] == [
        [],
        ["is no Item, store_id of stores: tea, S9"],
        [],
        ["is no Item, store_id of stores: milk, S1"],
    ]


@pytest.mark.spark
@pytest.mark.parametrize(("rows", "found"), [([], 1), ([(1, "S1", "tea")], 0)])
def test_where_nothing_is_there_nothing_is_found(spark: SparkSession, rows: list[Any], found: int) -> None:
    sales = good(spark, "_source_row int, store_id string, item string", SALES[0])
    others = spark.createDataFrame([store for _, store, _ in rows], "string").toDF("unique_id")

    treated = treat_references(sales, [(reference("store_id"), referred_keys(others, ("unique_id",)))])

    assert [len(reasons) for reasons in values(treated, REASONS)] == [found]


# The whole stage


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.spark
def test_what_is_refused_in_one_source_can_be_referred_to_no_more(
    lakehouse: Lakehouse, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    regions = write(tmp_path / "g.csv", "region\nN\nS\n")
    stores = write(tmp_path / "t.csv", "store,region,size\nS1,N,3\nS2,X,3\nS3,S,-1\n")
    sales = write(tmp_path / "s.csv", "store,date,sales\n" + "".join(f"S{n},2024-03-01,{n}\n" for n in (1, 1, 2, 3, 4)))
    to_stores = {"columns": "store", "source": "shops"}
    declared = {
        # In this order nothing could be judged by what comes before it.
        "sales": {
            "kind": "table",
            "path": sales,
            "columns": {"store": {"fill": "constant", "fill_value": "other"}, "date": {"type": "date"}, "sales": None},
            "references": [{**to_stores, "to": "unique_id", "action": "null"}],
        },
        "visits": {
            "kind": "table",
            "path": sales,
            "columns": {"store": None, "sales": {"type": "double", "outliers": {"action": "flag"}}},
            "references": [to_stores],
        },
        "clicks": {
            "kind": "table",
            "path": sales,
            "columns": {"store": None},
            "references": [{**to_stores, "action": "warn"}],
        },
        "shops": {
            "kind": "statics",
            "path": stores,
            "columns": {"unique_id": "store", "region": None, "size": {"type": "double", "min": 0}},
            "references": [{"columns": ["region"], "source": "regions", "action": "error"}],
        },
        "regions": {"kind": "table", "path": regions, "columns": {"region": None}, "key": ["region"]},
    }
    settings = Config.model_validate({"sources": declared, "cleaning": {"max_rejected": 0.8}})

    with caplog.at_level(logging.INFO):
        report = clean.run(settings, lakehouse)

    fates = {one.source: (one.rows_in, one.accepted, one.quarantined, one.duplicates) for one in report.sources}
    assert fates == {
        "sales": (5, 4, 0, 1),
        "visits": (5, 1, 3, 1),
        "clicks": (5, 4, 0, 1),
        "shops": (3, 1, 2, 0),
        "regions": (2, 2, 0, 0),
    }
    quarantine = lakehouse.read("silver.quarantine").where("source <> 'sales'").orderBy("source", "row")
    shown = [
        (source, json.loads(row)["store"], reasons[0]["rule"], reasons[0]["message"])
        for source, row, reasons in values(quarantine, "source", "row", "reasons")
    ]
    assert shown == [
        ("shops", "S2", "unknown_reference", "is no region of regions: X"),
        ("shops", "S3", "out_of_range", "is not at least 0: -1"),
        ("visits", "S2", "unknown_reference", "is no unique_id of shops: S2"),
        ("visits", "S3", "unknown_reference", "is no unique_id of shops: S3"),
        ("visits", "S4", "unknown_reference", "is no unique_id of shops: S4"),
    ]
    # A fill applies to what was blanked, and both are on record.
    silver = lakehouse.read("silver.sales").orderBy("sales")
    assert values(silver, "store", "store_imputed") == [("S1", False), *[("other", True)] * 3]
    repairs = lakehouse.read("silver.repairs").where("source = 'sales'").groupBy("rule").count().orderBy("rule")
    assert values(repairs, "rule", "count") == [("fill_constant", 3), ("unknown_reference", 3)]
    assert "source clicks: 3 rows are kept in spite of unknown_reference:store (3)" in caplog.text
    # Each source is told of once, with its last counts.
    assert [line.getMessage() for line in caplog.records if "rows in =" in line.getMessage()][1] == (
        "source visits: 5 rows in = 1 accepted + 3 quarantined + 1 duplicates + 0 superseded"
    )
    metrics = lakehouse.read("ops.quality").where("rule = 'unknown_reference'").orderBy("source", "outcome")
    assert values(metrics, "source", "outcome", "column", "count") == [
        ("clicks", "warning", "store", 3),
        ("sales", "repair", "store", 3),
        ("shops", "quarantine", "region", 1),
        ("visits", "quarantine", "store", 3),
    ]


@pytest.mark.spark
def test_a_source_may_refer_to_itself(lakehouse: Lakehouse, tmp_path: Path) -> None:
    # 3 hangs on 2, which hangs on nothing that is there; 5 is its own parent.
    people = write(tmp_path / "p.csv", "id,boss\n1,\n2,9\n3,2\n4,1\n5,5\n")
    table = {
        "kind": "table",
        "path": people,
        "columns": {"id": None, "boss": None},
        "key": ["id"],
        "references": [{"columns": ["boss"], "source": "people"}],
    }

    clean.run(Config.model_validate({"sources": {"people": table}}), lakehouse)

    assert sorted(values(lakehouse.read("silver.people"), "id")) == ["1", "4", "5"]


@pytest.mark.slow
@pytest.mark.spark
def test_a_large_source_is_looked_through_whole(
    lakehouse: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both rows of stores but the last are plain, and stay in bronze.
    monkeypatch.setattr(judging, "TWO_LANES_FROM_BYTES", 0)
    declared = {
        "stores": {
            "kind": "statics",
            "path": write(tmp_path / "t.csv", "store\nS1\nS2\n S3\n"),
            "columns": {"unique_id": "store"},
        },
        "sales": {
            "kind": "table",
            "path": write(tmp_path / "s.csv", "store\nS1\nS2\nS3\nS4\n"),
            "columns": {"store": None},
            "references": [{"columns": ["store"], "source": "stores"}],
        },
    }

    clean.run(Config.model_validate({"sources": declared}), lakehouse)

    assert sorted(values(lakehouse.read("silver.sales"), "store")) == ["S1", "S2", "S3"]
    assert lakehouse.read("staging.stores").count() == 1


@pytest.mark.spark
def test_references_count_towards_what_may_be_refused(lakehouse: Lakehouse, tmp_path: Path) -> None:
    declared = {
        "stores": {"kind": "statics", "path": write(tmp_path / "t.csv", "s\nS1\n"), "columns": {"unique_id": "s"}},
        "sales": {
            "kind": "table",
            "path": write(tmp_path / "s.csv", "s\nS1\nS2\nS3\n"),
            "columns": {"s": None},
            "references": [{"columns": ["s"], "source": "stores"}],
        },
    }

    with pytest.raises(SourceError, match=r"source sales.*2 of 3 rows.*unknown_reference s \(2 rows, e.g. is no uniq"):
        clean.run(Config.model_validate({"sources": declared}), lakehouse)
    assert not list((tmp_path / "lakehouse").glob("silver/*"))


# What cannot be

STORES = "sources.stores={kind: statics, path: f, columns: {unique_id: s, size: {type: double}}}"


def sales_config(*references: str, columns: str = "store: null, day: {type: date}, n: {type: integer}") -> list[str]:
    return [
        STORES,
        f"sources.sales={{kind: table, path: f, columns: {{{columns}}}, references: [{', '.join(references)}]}}",
    ]


@pytest.mark.parametrize(
    ("references", "messages"),
    [
        (
            ["{columns: Stor, source: stores}", "{columns: store, source: stores, to: UniqueID}"],
            ["references.0.columns: no column Stor is mapped, did you mean store?"],
        ),
        # All at once, each with its key.
        (
            [
                "{columns: store, source: Store}",
                "{columns: [store, n], source: stores}",
                "{columns: store, source: stores, to: UNIQUE_ID}",
                "{columns: day, source: stores}",
                "{columns: store, source: stores, to: size}",
                "{columns: store, source: sales}",
            ],
            [
                "sources.sales.references.0.source: there is no source Store, did you mean stores?",
                "references.1: (store, n) cannot refer to (unique_id) of source stores: as many columns are needed",
                "references.2.to: source stores has no column UNIQUE_ID, did you mean unique_id?",
                "references.3.to: unique_id of source stores is of type string, day is of type date",
                "references.4.to: size of source stores is of type double, store is of type string",
                "references.5.to: is needed, since source sales has no key",
            ],
        ),
        (["{columns: [store, store], source: stores}"], ["references.0.columns: store is there twice"]),
        (["{columns: [], source: stores}"], ["references.0.columns: "]),
        (["{columns: store, source: stores, action: repair}"], ["references.0.action: "]),
    ],
)
def test_a_reference_that_can_find_nothing_is_refused(references: list[str], messages: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config((), sales_config(*references))

    for message in messages:
        assert message in str(caught.value)


def test_a_name_in_another_case_is_recognised() -> None:
    with pytest.raises(ConfigError, match=r"no column SHOP is mapped, did you mean Shop\?"):
        load_config((), sales_config("{columns: SHOP, source: stores}", columns="Shop: null"))


def test_numbers_of_both_types_may_be_equal() -> None:
    load_config((), sales_config("{columns: n, source: stores, to: size}"))


def test_a_reference_that_blanks_what_is_required_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"references\.0: store is required, and action: null would blank it"):
        load_config(
            (),
            sales_config("{columns: store, source: stores, action: null}", columns="store: {required: true}"),
        )


def test_references_in_a_circle_are_refused() -> None:
    table = "sources.{0}={{kind: table, path: f, columns: {{id: null}}, key: id, references: [{1}]}}"
    to = "{columns: id, source: %s}"
    sources = [table.format("a", to % "b"), table.format("b", to % "c"), table.format("c", f"{to % 'a'}, {to % 'c'}")]

    with pytest.raises(ConfigError, match=r"references go in a circle, (a -> b -> c|b -> c -> a|c -> a -> b)"):
        load_config((), sources)
    # A source that refers to itself is none.
    assert load_config((), [table.format("a", to % "a")]).sources["a"].references[0].source == "a"
