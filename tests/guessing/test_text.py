"""The configuration as text: names of any kind survive, comments change nothing, nothing is replaced unasked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from dlmine_spark.config import load_config
from dlmine_spark.errors import ConfigError, SourceError
from dlmine_spark.pipelines import init
from tests.guessing import examples as x


@pytest.mark.parametrize(
    "name",
    ["yes", "null", "2016", "1e3", "# sales", "a: b", "'quoted'", "a\tb", "- y", "{x}", "[1]", "*ref", "&a", "Größe %",
     "销售额", "x" * 200, "on", "!tag", "a\\nb", "\u2028line", "~", "0x1F", "=", "a, b"],
)  # fmt: skip
def test_a_column_of_any_name_is_found_again(tmp_path: Path, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    rows = [(day, 3 + day.day) for day in x.days(30)]
    file = x.write(tmp_path / "odd #1.csv", [("date", quoted), *rows])

    init.run([str(file)], tmp_path / "o.yaml")
    source = load_config([tmp_path / "o.yaml"]).sources["odd_1"]

    assert source.columns["y"].source == name.strip()
    assert source.path == str(file)


def test_a_line_break_in_a_name_ends_no_comment(tmp_path: Path) -> None:
    name = "sold\nreport: {title: taken over}\n#"
    records = [{"date": f"{day}", name: day.day} for day in x.days(20)]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, records)))

    init.run([str(tmp_path / "s.jsonl")], tmp_path / "s.yaml")

    config = load_config([tmp_path / "s.yaml"])
    assert config.sources["s"].columns["y"].source == name
    assert config.report.title == "S"


def test_covariates_get_names_that_tables_can_have(tmp_path: Path) -> None:
    header = ("date", "sales", "Größe %", "größe (%)", "Temp. (°C)", "天气", "x_imputed", "2nd")
    rows = [(day, place, *(place * step % 17 for step in range(3, 9))) for place, day in enumerate(x.days(40))]

    columns = x.source_of(tmp_path, x.write(tmp_path / "c.csv", [header, *rows]))["columns"]

    assert list(columns) == ["ds", "y", "groesse", "groesse_", "temp_c", "天气", "x_imputed_", "c_2nd"]


def test_comments_say_why_and_what_else(tmp_path: Path) -> None:
    rows = [(f"{day:%d/%m/%Y}", day.day, 2 * day.day) for day in x.days(10)]
    init.run([str(x.write(tmp_path / "s.csv", [("date", "sales", "units"), *rows]))], tmp_path / "s.yaml")

    text = (tmp_path / "s.yaml").read_text()

    assert "# date: the dates, as dd/MM/yyyy; could also be MM/dd/yyyy: day and month exchanged" in text
    assert "# sales: sounds like what is forecast; the value could also be units" in text
    assert "# days to forecast, and to hold out once for the test; the history has 10 in the sample" in text


def test_the_table_says_what_each_column_is_taken_for(tmp_path: Path) -> None:
    told = init.run([str(x.daily_sales(tmp_path / "s.csv"))], tmp_path / "s.yaml")

    assert [line.split() for line in told.splitlines()[1:4]] == [
        ["column", "taken", "as", "because"],
        ["date", "ds", "the", "dates,", "as", "yyyy-MM-dd"],
        ["sales", "y", "sounds", "like", "what", "is", "forecast"],
    ]
    assert "from 2024-01-01 to 2024-02-29, a row each day" in told
    assert "guessed from all 60 rows" in told


def test_nothing_is_replaced_unless_it_is_asked_for(tmp_path: Path) -> None:
    file, out = x.daily_sales(tmp_path / "s.csv"), tmp_path / "s.yaml"
    out.write_text("mine: 1")

    with pytest.raises(ConfigError, match=r"s\.yaml: came to be there meanwhile"):
        init.run([str(file)], out)
    assert out.read_text() == "mine: 1"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["s.csv", "s.yaml"]

    init.run([str(file)], out, force=True)
    assert yaml.safe_load(out.read_text())["sources"]["s"]["kind"] == "panel"


def test_what_does_not_load_is_not_put_in_place(tmp_path: Path) -> None:
    file = x.write(tmp_path / "s.csv", [("date", "sales ${HOME}"), *((day, day.day) for day in x.days(20))])

    with pytest.raises(ConfigError, match="HOME is not set"):
        init.run([str(file)], tmp_path / "s.yaml")

    assert [one.name for one in tmp_path.iterdir()] == ["s.csv"]


def test_a_wide_file_is_written_long(tmp_path: Path) -> None:
    header = ("month", *(f"T{unit}" for unit in range(1, 7)))
    rows = [(month, *(f"{unit},{place % 10}" for unit in range(6))) for place, month in enumerate(x.months(24))]
    file = x.write(tmp_path / "wide.csv", [header, *rows], delimiter=";")

    told = init.reshape(str(file), tmp_path / "long.csv")

    assert told == "144 rows, one for each date and series"
    assert (tmp_path / "long.csv").read_text().splitlines()[:2] == ["ds,unique_id,y", '2020-01,T1,"0,0"']
    columns = x.source_of(tmp_path, tmp_path / "long.csv")["columns"]
    assert columns["unique_id"] == "unique_id"
    assert columns["y"] == {"from": "y", "decimal": ","}


def test_a_file_with_a_column_for_each_date_is_written_long(tmp_path: Path) -> None:
    rows = [(shop, *(place + 7 for place in range(24))) for shop in ("A", "B")]
    file = x.write(tmp_path / "wide.csv", [("shop", *x.months(24)), *rows])

    init.reshape(str(file), tmp_path / "long.csv")

    assert (tmp_path / "long.csv").read_text().splitlines()[:3] == ["unique_id,ds,y", "A,2020-01,7", "B,2020-01,7"]


def test_only_wide_files_are_written_long(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="--long takes one CSV file"):
        init.reshape(str(x.daily_sales(tmp_path / "s.csv")), tmp_path / "long.csv")
    assert not (tmp_path / "long.csv").exists()
