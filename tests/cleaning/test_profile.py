"""Profiles: what is said of a table's columns, and a plan that loads and finds the table's errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from dlmine_spark.cleaning.dependencies import Dependency
from dlmine_spark.cleaning.profile import ColumnProfile, Profile, profile_table
from dlmine_spark.cleaning.profile_plan import plan_text, table_text
from dlmine_spark.cli import main
from dlmine_spark.config import Config, MinedRules, SourceConfig, load_config
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import clean
from dlmine_spark.pipelines import profile as profiling
from tests.cleaning.examples import bronze

TOWNS = ("Berlin", "Hamburg", "Koeln", "Muenchen")


def rows_of(count: int) -> list[tuple[str, ...]]:
    """Number, postcode, town, price, a day in each of two formats, whether paid."""
    return [
        (
            f"{place}",
            f"0{place % 4}115",
            TOWNS[place % 4],
            f"{place}.5",
            f"2024-03-{place % 28 + 1:02d}",
            f"{place % 28 + 1}/3/2024",
            "yes" if place % 3 else "no",
        )
        for place in range(count)
    ]


NAMES = ("no", "zip", "town", "price", "day", "billed", "paid")


@pytest.mark.spark
def test_types_are_guessed_only_where_nothing_is_lost(spark: SparkSession) -> None:
    rows = [list(row) for row in rows_of(40)]
    rows[7][2] = "n/a"
    rows[8][3] = "8,5 EUR"

    profile = profile_table(bronze(spark, NAMES, *rows), NAMES, ("", "n/a"), MinedRules())

    found = {one.name: one for one in profile.columns}
    assert {name: one.type for name, one in found.items()} == {
        "no": "integer",
        # A leading zero makes it a code; what is no number would get lost; yes would become 1.
        "zip": "string",
        "town": "string",
        "price": "string",
        "day": "date",
        "billed": "date",
        "paid": "string",
    }
    assert (found["day"].formats, found["billed"].formats) == (("yyyy-MM-dd",), ("d/M/yyyy",))
    assert found["price"].almost == ("double", 1.0)
    assert found["paid"].almost == ("boolean", 1.0)
    assert (found["no"].low, found["no"].high, found["no"].quantiles) == ("0", "39", (9.0, 19.0, 29.0))
    assert (found["town"].known, found["town"].nulls, found["town"].labels) == (39, ("n/a",), TOWNS)
    assert profile.keys == ("no", "price")
    assert {str(one) for one in profile.dependencies} >= {"zip->town", "town->zip"}


def profile_of(*columns: ColumnProfile) -> Profile:
    return Profile(50, columns, ("no",), (Dependency(("zip",), "town", 0.02, 0.97, 4, 50),), ("far_out",))


ODD_NAMES = (
    ColumnProfile("no", 50, 50, 50, "integer", low="1", high="50", quantiles=(13.0, 25.0, 38.0)),
    ColumnProfile("zip", 50, 50, 4, "string", top=(('"a"\n', 3),)),
    ColumnProfile("town", 50, 40, 4, "string", labels=("yes", "no: #1"), nulls=("n/a",), marked=10),
    ColumnProfile("_x", 50, 50, 9, "double", decimal=","),
    ColumnProfile("1", 50, 50, 9, "date", formats=("dd.MM.yyyy",)),
    ColumnProfile("true", 50, 50, 9, "string", almost=("double", 0.98)),
)


def test_the_plan_loads_whatever_columns_are_called_and_turns_mining_on(tmp_path: Path) -> None:
    source = SourceConfig.model_validate({"kind": "table", "path": "a b.csv", "delimiter": ";"})
    plan = tmp_path / "plan.yaml"
    plan.write_text(plan_text("lake: house", {"shops": (source, profile_of(*ODD_NAMES))}))

    config = load_config([plan])

    shops = config.sources["shops"]
    assert (config.lakehouse.root, shops.path, shops.delimiter) == ("lake: house", "a b.csv", ";")
    assert {name: (spec.source, spec.type, spec.formats) for name, spec in shops.columns.items()} == {
        "no": ("no", "integer", ()),
        "zip": ("zip", None, ()),
        "town": ("town", None, ()),
        "x": ("_x", "double", ()),
        "1": ("1", "date", ("dd.MM.yyyy",)),
        "true": ("true", None, ()),
    }
    assert shops.mining == MinedRules()

    # Every suggestion is a setting once its sign is taken away.
    text = plan.read_text()
    for suggestion in (
        'allowed: ["yes',
        "  apply_above:",
        "  quarantine_above:",
        "  dependencies:\n",
        "    - {from: [zip]",
    ):
        assert text.count(f"# {suggestion}") == 1
        text = text.replace(f"# {suggestion}", suggestion)
    plan.write_text(text)
    edited = load_config([plan]).sources["shops"]
    assert edited.mined is not None
    assert [(one.determinant, one.dependent) for one in edited.mined.dependencies] == [(("zip",), "town")]
    assert edited.mined.apply_above == 0.95
    assert edited.columns["town"].allowed == ("yes", "no: #1")


def test_a_declared_source_keeps_what_is_declared(tmp_path: Path) -> None:
    columns = {"unique_id": "zip", "ds": {"from": "1", "formats": ["dd.MM.yyyy"]}, "y": {"from": "_x", "min": 0}}
    source = SourceConfig.model_validate({"kind": "panel", "path": "p.csv", "columns": columns, "key": ["ds"]})
    plan = tmp_path / "plan.yaml"
    plan.write_text(plan_text("lake", {"sales": (source, profile_of(*ODD_NAMES))}))

    assert load_config([plan]).sources["sales"] == source
    assert "# town:" in plan.read_text()


def test_the_table_has_a_line_for_each_column() -> None:
    lines = table_text("shops", profile_of(*ODD_NAMES)).splitlines()

    assert lines[0] == "shops: 50 rows, 6 columns"
    assert lines[2].split() == ["no", "integer", "0.0%", "50", "1", "50"]
    assert lines[4].split()[:4] == ["town", "string", "20.0%", "4"]
    assert lines[-3:] == [
        "not profiled: 1 further columns",
        "candidate keys: no",
        "zip -> town: holds in 98.0% of 50 rows, 4 groups",
    ]


@pytest.mark.spark
def test_a_profile_and_the_run_of_its_plan_find_the_errors_of_a_bare_file(lakehouse: Lakehouse, tmp_path: Path) -> None:
    rows = [list(row) for row in rows_of(60)]
    rows[20][2], rows[33][2] = "Bxrlin", "Koeln"
    text = "\n".join(",".join(row) for row in [list(NAMES), *rows])
    (tmp_path / "shops.csv").write_text(text + "\n")
    settings = {"kind": "table", "path": str(tmp_path / "shops.csv")}
    bare = Config.model_validate({"sources": {"shops": settings}, "lakehouse": {"root": lakehouse.config.root}})
    plan = profiling.plan_path(bare, None)

    tables = profiling.run(bare, lakehouse, plan)

    assert plan == Path(lakehouse.config.root).parent / "profile.yaml"
    assert "zip -> town" in tables["shops"]
    assert not Path(lakehouse.config.root).exists()

    clean.run(load_config([plan], ["sources.shops.mined.apply_above=0.8"]), lakehouse)

    found = lakehouse.read("silver.suspicions").select("key", "column", "value", "proposed", "rule", "applied")
    assert sorted(tuple(row) for row in found.collect()) == [
        ("shops.csv:21", "town", "Bxrlin", "Berlin", "mined:zip->town", True),
        ("shops.csv:34", "town", "Koeln", "Hamburg", "mined:zip->town", True),
    ]
    repaired = lakehouse.read("silver.repairs").select("column", "old_value", "new_value", "rule").collect()
    assert sorted(tuple(row) for row in repaired) == [
        ("town", "Bxrlin", "Berlin", "mined:zip->town"),
        ("town", "Koeln", "Hamburg", "mined:zip->town"),
    ]
    assert lakehouse.read("silver.shops").where("town = 'Bxrlin'").count() == 0
    kept = lakehouse.read("silver.dependencies").where("dependent = 'town' and determinant = array('zip')").collect()
    assert [(row["source"], row["error"], row["rows"]) for row in kept] == [("shops", 2 / 60, 60)]


def test_a_plan_is_not_overwritten_and_options_that_contradict_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("mine")
    command = ["clean", "--set", "sources.x={kind: table, path: f.csv}"]

    for arguments, message in (
        ([*command, "--profile", "--plan", str(plan)], f"{plan}: is there already"),
        ([*command, "--plan", str(plan)], "--plan names what --profile writes"),
        ([*command, "--profile", "--plan", str(plan), "--force"], "f.csv: no such file"),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert message in capsys.readouterr().err
    assert plan.read_text() == "mine"
