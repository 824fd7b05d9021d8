"""Tables of the lakehouse as files and as tables of a real PostgreSQL server: all rows or none."""

from __future__ import annotations

import fcntl
import gzip
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import DataFrame

from dlmine_spark.config import Config
from dlmine_spark.errors import ConfigError, DlmineError, EnvironmentProblem, SourceError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import export
from dlmine_spark.pipelines.export import Selection, Target
from tests.database.conftest import Postgres

pytestmark = pytest.mark.spark

TABLE = "silver.shop"


@pytest.fixture
def shop(lakehouse: Lakehouse) -> Lakehouse:
    """Two versions of a table: one row, then three."""
    schema = "id int, name string, at timestamp, day date, share double, items array<string>"
    rows: Any = [
        "(1, 'plain', TIMESTAMP '2024-01-02 03:04:05.5', DATE '2024-01-02', 0.1, array('tea', 'mi\"lk'))",
        "(2, 'a,\"b\"\\n ü ', NULL, NULL, NULL, NULL)",
        "(3, '', NULL, NULL, double('NaN'), array())",
    ]

    def frame(*chosen: str) -> DataFrame:
        names = ", ".join(part.split()[0] for part in schema.split(", "))
        return lakehouse.spark.sql(f"SELECT * FROM VALUES {', '.join(chosen)} AS t({names})")

    lakehouse.overwrite(TABLE, frame(rows[0]))
    lakehouse.overwrite(TABLE, frame(*rows))
    return lakehouse


def target(place: Path | str, **settings: Any) -> Target:
    options = {"format_": None, "into": None, "credentials": None, "mode": "fail", **settings}
    return export.target_of(str(place), **options)


def into(database: Postgres, table: str = "shop", mode: str = "fail") -> Target:
    return target(database.address, into=table, credentials="shop", mode=mode)


# Files


def test_one_file_has_every_cell(shop: Lakehouse, tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "shop.csv"
    assert export.run(shop, Selection(TABLE), target(file)) == 3

    rows = pd.read_csv(file, keep_default_na=False, dtype=str).sort_values("id")
    assert rows["name"].tolist() == ["plain", 'a,"b"\n ü ', ""]
    assert rows["at"].tolist()[0] == "2024-01-02T03:04:05.500000Z"
    assert rows["items"].tolist() == ['["tea","mi\\"lk"]', "", "[]"]
    # A text of no letters is no missing one.
    assert ',"",' in file.read_text(encoding="utf-8")
    assert [path.name for path in file.parent.iterdir()] == ["shop.csv"]


def test_formats_by_their_endings(shop: Lakehouse, tmp_path: Path) -> None:
    for name in ("shop.parquet", "shop.jsonl", "shop.CSV.gz"):
        assert export.run(shop, Selection(TABLE), target(tmp_path / name)) == 3
    parquet = pd.read_parquet(tmp_path / "shop.parquet").sort_values("id")
    assert list(parquet["items"].iloc[0]) == ["tea", 'mi"lk']
    assert len(pd.read_json(tmp_path / "shop.jsonl", lines=True)) == 3
    assert gzip.decompress((tmp_path / "shop.CSV.gz").read_bytes()).startswith(b"id,name,at,day,share,items\n")
    assert export.run(shop, Selection(TABLE), target(tmp_path / "folder", format_="csv")) == 3
    assert (tmp_path / "folder" / "_SUCCESS").exists()


def test_some_rows_and_columns_of_an_earlier_version(shop: Lakehouse, tmp_path: Path) -> None:
    file = tmp_path / "shop.csv"
    assert export.run(shop, Selection(TABLE, "id > 1", ("name", "id")), target(file)) == 2
    assert file.read_text(encoding="utf-8").startswith("name,id\n")
    assert export.run(shop, Selection(TABLE, version=0), target(file, mode="replace")) == 1


def test_a_target_that_is_there_is_left_alone(shop: Lakehouse, tmp_path: Path) -> None:
    file = tmp_path / "shop.csv"
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"shop\.csv: is there already; .* --mode replace"):
        target(file)
    folder = tmp_path / "folder"
    chosen = target(folder, format_="csv")
    folder.mkdir()
    with pytest.raises(ConfigError, match=r"folder: is there already: --mode replace or --mode append"):
        target(folder, format_="csv")
    # It came to be there meanwhile.
    with pytest.raises(ConfigError, match=r"folder: is there already: --mode replace or --mode append"):
        export.run(shop, Selection(TABLE), chosen)
    (tmp_path / "plain").touch()
    with pytest.raises(ConfigError, match=r"plain: is a file, and --format csv writes a folder"):
        target(tmp_path / "plain", format_="csv")
    assert file.read_text(encoding="utf-8") == "mine"


def test_a_folder_is_replaced_as_a_whole_and_only_if_it_is_an_export(shop: Lakehouse, tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    export.run(shop, Selection(TABLE, version=0), target(folder, format_="csv"))
    fails = Selection(TABLE, "id > 0 AND raise_error('stop') IS NULL")
    with pytest.raises(Exception, match="stop"):
        export.run(shop, fails, target(folder, format_="csv", mode="replace"))
    assert len(pd.concat(map(pd.read_csv, folder.glob("part-*")))) == 1
    export.run(shop, Selection(TABLE), target(folder, format_="csv", mode="replace"))
    assert len(pd.concat(map(pd.read_csv, folder.glob("part-*")))) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lakehouse", "rows"]

    (folder / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"rows: --mode replace would remove thesis\.txt, which is no file of an export"
    ):
        target(folder, format_="csv", mode="replace")
    assert (folder / "thesis.txt").exists()


def test_a_folder_that_a_killed_export_left_can_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "rows" / "_temporary" / "0").mkdir(parents=True)
    assert target(tmp_path / "rows", format_="csv", mode="replace").mode == "replace"


def test_a_folder_that_another_export_made_meanwhile_is_left_alone(
    shop: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "rows"

    def write(rows: DataFrame, target: Target, place: str, mode: str, *, is_compressed: bool) -> None:
        for made in (folder, Path(place)):
            made.mkdir(parents=True)
            (made / f"part-of-{made.name}").touch()

    monkeypatch.setattr(export, "_write", write)
    with pytest.raises(ConfigError, match=r"rows: came to be there meanwhile"):
        export.run(shop, Selection(TABLE), target(folder, format_="csv"))
    assert [path.name for path in folder.iterdir()] == ["part-of-rows"]


def test_files_that_are_no_exports_are_seen_by_spark_too(
    shop: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "rows"
    export.run(shop, Selection(TABLE), target(folder, format_="csv"))
    # As if it were an address of an object store.
    monkeypatch.setattr(export, "local_path", lambda _: None)
    assert export._foreign_file(shop.spark, str(folder)) is None
    assert export._foreign_file(shop.spark, str(tmp_path / "nowhere")) is None
    (folder / "thesis.txt").write_text("mine", encoding="utf-8")
    assert export._foreign_file(shop.spark, str(folder)) == "thesis.txt"


def test_neither_tables_nor_sources_are_exported_over(tmp_path: Path) -> None:
    sources = {
        "sales": {"kind": "panel", "path": str(tmp_path / "raw" / "sales.csv"), "columns": {"ds": None, "y": None}}
    }
    config = Config.model_validate({"lakehouse": {"root": str(tmp_path / "lake")}, "sources": sources})
    own = {".": "lakehouse.root", "lake": "lakehouse.root", "lake/silver/x.csv": "lakehouse.root"}
    own |= {"raw": "sources.sales.path", "raw/sales.csv": "sources.sales.path"}
    for place, key in own.items():
        with pytest.raises(ConfigError, match=f"is where {key} is"):
            export.refuse_own_places(Target(str(tmp_path / place), "csv"), config)
    export.refuse_own_places(Target(str(tmp_path / "raw" / "other.csv")), config)
    export.refuse_own_places(Target(str(tmp_path / "lakeside"), "csv"), config)
    away = Config.model_validate({"lakehouse": {"root": "s3a://shop/house", "files": str(tmp_path)}})
    with pytest.raises(ConfigError, match=r"is where lakehouse\.root is"):
        export.refuse_own_places(Target("s3a://shop/house/silver", "csv"), away)
    export.refuse_own_places(Target("s3a://shop/houses", "csv"), away)


def test_a_write_that_fails_leaves_nothing(shop: Lakehouse, tmp_path: Path) -> None:
    file = tmp_path / "shop.csv"
    file.write_text("mine", encoding="utf-8")
    fails = Selection(TABLE, "id > 0 AND raise_error('stop') IS NULL")
    with pytest.raises(Exception, match="stop"):
        export.run(shop, fails, target(file, mode="replace"))
    assert [path.name for path in tmp_path.iterdir() if path.name != "lakehouse"] == ["shop.csv"]
    assert file.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("name", ["shop.csv", "shop"])
def test_what_killed_exports_left_goes_when_one_has_ended_well(shop: Lakehouse, tmp_path: Path, name: str) -> None:
    """Nothing that another export uses, nothing that may be in use in a moment, and nothing that is no export's."""
    for left in ("aaaaaaaa", "used_now", "just_now", "notes"):
        (tmp_path / f".{name}.{left}" / "old").mkdir(parents=True)
        if left != "just_now":
            os.utime(tmp_path / f".{name}.{left}", (0, 0))
    place = target(tmp_path / name, format_=None if name.endswith(".csv") else "csv")
    used = os.open(tmp_path / f".{name}.used_now", os.O_RDONLY)
    fcntl.flock(used, fcntl.LOCK_SH)

    assert export.run(shop, Selection(TABLE), place) == 3

    os.close(used)
    assert {file.name for file in tmp_path.glob(".shop*")} == {
        f".{name}.{one}" for one in ("used_now", "just_now", "notes")
    }


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection("gold.nothing"), r"gold\.nothing: there is no such table; there are silver\.shop"),
        (Selection(TABLE, columns=("nmae",)), r"has no column nmae; it has id, name"),
        (Selection(TABLE, "nmae = 1"), r"--where 'nmae = 1': .*nmae"),
        (Selection(TABLE, "id ="), r"--where 'id =': .*Syntax error"),
        (Selection(TABLE, version=9), r"silver\.shop.* 9"),
    ],
)
def test_selections_that_mean_nothing(shop: Lakehouse, tmp_path: Path, selection: Selection, expected: str) -> None:
    with pytest.raises(DlmineError, match=expected):
        export.run(shop, selection, target(tmp_path / "shop.csv"))
    assert not (tmp_path / "shop.csv").exists()


@pytest.mark.parametrize(
    ("place", "settings", "expected"),
    [
        ("out", {}, r"out: of what format\?"),
        ("s3a://bucket/out", {}, r"of what format\?"),
        ("out.csv", {"format_": "parquet"}, r"--format parquet and the name out\.csv contradict"),
        ("out.csv", {"format_": "excel"}, r"--format excel: is none of csv, parquet, json"),
        ("out.csv", {"mode": "append"}, r"one file, which is written as a whole"),
        ("out.csv", {"mode": "merge"}, r"--mode merge: is none of fail, replace, append"),
        (" ", {}, r"TARGET is empty"),
        ("OUT.CSV", {"format_": "parquet"}, r"--format parquet and the name OUT\.CSV contradict"),
        ("out.csv", {"into": "t"}, r"--into is for databases"),
        ("jdbc:postgresql://db/shop", {}, r"--into is missing"),
        ("jdbc:postgresql://db/shop", {"into": "t", "format_": "csv"}, r"--format is for files"),
        ("jdbc:postgresql://a:s3cret@db/shop", {"into": "t"}, r"^TARGET holds a user or a password"),
    ],
)
def test_targets_that_mean_nothing(place: str, settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        target(place, **settings)
    assert "s3cret" not in str(caught.value)


# Databases


def test_a_new_table_has_all_rows(shop: Lakehouse, database: Postgres) -> None:
    assert export.run(shop, Selection(TABLE), into(database, "public.shop")) == 3

    assert database.run(
        "SELECT id, name, at AT TIME ZONE 'UTC', day, share, items FROM shop WHERE id <> 2 ORDER BY id"
    ) == [
        ["1", "plain", "2024-01-02 03:04:05.5", "2024-01-02", "0.1", '["tea","mi\\"lk"]'],
        ["3", "", "", "", "NaN", "[]"],
    ]
    assert tables(database) == ["shop"]


def test_rows_are_replaced_or_added_and_the_table_stays(shop: Lakehouse, database: Postgres) -> None:
    database.run("CREATE TABLE shop (name text, id int PRIMARY KEY, noted timestamp DEFAULT now())")
    chosen = Selection(TABLE, columns=("id", "name"))
    with pytest.raises(ConfigError, match=r"#shop: is there already: --mode replace or --mode append"):
        export.run(shop, chosen, into(database))
    export.run(shop, chosen, into(database, mode="append"))
    export.run(shop, chosen, into(database, mode="replace"))

    assert database.run("SELECT count(*), count(noted) FROM shop") == [["3", "3"]]
    # What the table itself refuses is taken back as a whole.
    with pytest.raises(SourceError, match=r"#shop: duplicate key value violates unique constraint"):
        export.run(shop, chosen, into(database, mode="append"))
    with pytest.raises(SourceError, match=r'column "share" of relation "shop" does not exist'):
        export.run(shop, Selection(TABLE, columns=("id", "share")), into(database, mode="replace"))
    assert database.run("SELECT count(*) FROM shop") == [["3"]]
    assert tables(database) == ["shop"]


def test_one_export_at_a_time_writes_to_a_table(shop: Lakehouse, database: Postgres) -> None:
    with export._alone(shop.spark, export._database(into(database)), "public.shop"):
        with pytest.raises(DlmineError, match=r"#shop: another export is writing to it"):
            export.run(shop, Selection(TABLE), into(database))
        assert export.run(shop, Selection(TABLE), into(database, "other")) == 3
    assert export.run(shop, Selection(TABLE), into(database)) == 3


def test_what_a_killed_export_left_is_no_obstacle(shop: Lakehouse, database: Postgres) -> None:
    database.run(f"CREATE TABLE {export._staging('shop')} (half int)")
    assert export.run(shop, Selection(TABLE), into(database)) == 3
    assert tables(database) == ["shop"]


def test_a_name_as_long_as_names_may_be_is_not_taken_for_another(shop: Lakehouse, database: Postgres) -> None:
    name = "t" * 63
    database.run(f"CREATE TABLE {name} (id int); INSERT INTO {name} VALUES (7)")
    assert export.run(shop, Selection(TABLE, columns=("id",)), into(database, name, "append")) == 3
    assert database.run(f"SELECT count(*) FROM {name}") == [["4"]]
    assert tables(database) == [name]


def test_a_quoted_name_is_one(shop: Lakehouse, database: Postgres) -> None:
    assert export.run(shop, Selection(TABLE, columns=("id",)), into(database, 'public."Sales 2024.x"')) == 3
    assert tables(database) == ["Sales 2024.x"]


def test_a_wrong_password_is_told(shop: Lakehouse, database: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLMINE_SHOP_PASSWORD", "wrong word")
    with pytest.raises(SourceError, match=r"password authentication failed .*; check DLMINE_SHOP_USER") as caught:
        export.run(shop, Selection(TABLE), into(database))
    assert "wrong word" not in str(caught.value)
    monkeypatch.delenv("DLMINE_SHOP_PASSWORD")
    with pytest.raises(EnvironmentProblem, match=r"--credentials is shop: set .* DLMINE_SHOP_PASSWORD"):
        into(database)


def tables(database: Postgres) -> list[str]:
    return [row[0] for row in database.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
