"""The files on disk: the same for the same seed, wrong where ``truth/errors.csv`` says so and nowhere else, whole."""

from __future__ import annotations

import csv
import json
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from dlmine_spark.config import Config, load_config
from dlmine_spark.datasets import simulate as module
from dlmine_spark.datasets.catalogue import CATEGORIES
from dlmine_spark.datasets.dirt import ERROR_COLUMNS
from dlmine_spark.datasets.simulate import SimulationReport, simulate
from dlmine_spark.datasets.world import HOLIDAYS, REGIONS
from dlmine_spark.errors import ConfigError

DELIMITERS = {"receipts": ";", "sales": ";", "calendar": ",", "stores": ","}
DEMO = Path(__file__).parents[2] / "conf" / "examples" / "demo.yaml"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "raw"
    simulate("tiny", 7, folder)
    return folder


@pytest.fixture(scope="module")
def demo() -> Config:
    return load_config([DEMO])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def raw_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.csv"))


def test_same_seed_same_bytes_other_seed_other_bytes(tiny: Path, tmp_path: Path) -> None:
    simulate("tiny", 7, tmp_path / "again")
    simulate("tiny", 8, tmp_path / "other")

    assert contents(tmp_path / "again") == contents(tiny)
    other = contents(tmp_path / "other")
    same = {name for name, content in contents(tiny).items() if other.get(name) == content}
    # What was planted in baskets does not depend on the seed.
    assert same == {"truth/promotions.csv", "truth/rules.csv", "truth/sequences.csv"}


def test_the_files_are_those_that_are_described(tiny: Path) -> None:
    assert {file.name for file in raw_files(tiny)} == {
        "calendar.csv", "receipts_0000.csv", "receipts_0001.csv", "receipts_0002.csv", "sales.csv", "stores.csv",
    }  # fmt: skip
    assert {file.name for file in (tiny / "truth" / "clean").iterdir()} == {file.name for file in raw_files(tiny)}
    assert {file.name for file in (tiny / "truth").glob("*.*")} == {
        "customers.csv", "errors.csv", "expected_sales.csv", "meta.json", "promotions.csv", "rules.csv",
        "sequences.csv", "stores.csv",
    }  # fmt: skip
    meta = json.loads((tiny / "truth" / "meta.json").read_text(encoding="utf-8"))
    assert (meta["size"], meta["seed"], meta["couplings"]) == ("tiny", 7, True)
    assert (meta["last_day"], meta["calendar_ends"]) == ("2024-06-16", "2024-08-15")


def test_the_raw_files_do_not_tell_the_store_types(tiny: Path) -> None:
    assert (tiny / "stores.csv").read_text(encoding="utf-8").splitlines()[0] == "store,region,size_m2,opened"


@pytest.mark.parametrize("kind", ["receipts", "sales", "calendar", "stores"])
def test_undoing_the_listed_errors_gives_the_clean_file(tiny: Path, kind: str) -> None:
    """So every error listed is there, and nothing else is wrong."""
    errors = pd.read_csv(tiny / "truth" / "errors.csv", dtype=str, keep_default_na=False)
    assert list(errors.columns) == list(ERROR_COLUMNS)
    for file in [one for one in raw_files(tiny) if one.name.startswith(kind)]:
        delimiter = DELIMITERS[kind]
        header, *lines = file.read_text(encoding="utf-8").splitlines()
        clean = (tiny / "truth" / "clean" / file.name).read_text(encoding="utf-8").splitlines()[1:]
        of_line = {int(error.line): error for error in errors[errors["file"] == file.name].itertuples()}
        restored = []
        for number, line in enumerate(lines, start=2):
            error = of_line.pop(number, None)
            if error is None:
                restored.append(line)
            elif error.kind == "duplicate":
                assert line == error.dirty == lines[number - 3]
            elif error.kind == "truncated":
                assert line == error.dirty
                assert error.clean.startswith(line)
                assert line.count(delimiter) < header.count(delimiter)
                restored.append(error.clean)
            else:
                cells = line.split(delimiter)
                position = header.split(delimiter).index(error.column)
                assert cells[position] == error.dirty != error.clean
                cells[position] = error.clean
                if error.kind == "superseded":
                    assert delimiter.join(cells) in lines[number:]
                else:
                    restored.append(delimiter.join(cells))
        assert sorted(restored) == sorted(clean)
        assert not of_line


def test_every_kind_of_error_occurs_at_a_realistic_rate(tiny: Path) -> None:
    errors = pd.read_csv(tiny / "truth" / "errors.csv", dtype=str, keep_default_na=False)

    assert set(errors["kind"]) == {
        "absurd", "capitals", "currency", "date_format", "decimal_comma", "duplicate", "missing", "mixed_type",
        "negative", "spaces", "superseded", "thousands", "truncated", "typo",
    }  # fmt: skip
    for file in raw_files(tiny):
        share = (errors["file"] == file.name).sum() / len(file.read_text(encoding="utf-8").splitlines())
        assert 0.008 < share < (0.05 if file.name != "stores.csv" else 0.5), file


def test_typing_errors_are_nearer_to_their_own_word(demo: Config) -> None:
    """Names at least four edits apart: one wrong letter leaves no doubt."""
    for names in (CATEGORIES, HOLIDAYS, REGIONS):
        assert min(edits(one, other) for one, other in combinations(names, 2)) >= 4
        assert min(len(name) for name in names) >= 6


def edits(one: str, other: str) -> int:
    """Levenshtein's distance."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        previous, row[0] = row[0], i
        for j, b in enumerate(other, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def test_the_demo_declares_what_there_is(demo: Config, tiny: Path) -> None:
    allowed = {
        column: spec.allowed for source in demo.sources.values() for column, spec in source.columns.items()
        if spec.allowed
    }  # fmt: skip
    assert allowed["category"] == tuple(CATEGORIES)
    assert set(allowed["holiday"]) == set(HOLIDAYS)
    assert set(allowed["region"]) == set(REGIONS)
    for source in demo.sources.values():
        (first, *_) = sorted(tiny.glob(Path(source.path).name))
        with first.open(encoding="utf-8") as stream:
            header = next(csv.reader(stream, delimiter=source.delimiter))
        assert {spec.source or column for column, spec in source.columns.items()} == set(header)


@pytest.mark.spark
def test_spark_writes_the_same_bytes_whatever_the_partitions(tiny: Path, tmp_path: Path, spark: SparkSession) -> None:
    for partitions in (1, 3):
        simulate("tiny", 7, tmp_path / f"by-{partitions}", spark, partitions=partitions)

        assert contents(tmp_path / f"by-{partitions}") == contents(tiny)


def test_without_couplings_the_baskets_of_a_world_still_hold_the_rules(tiny: Path, tmp_path: Path) -> None:
    simulate("tiny", 7, tmp_path / "raw", couplings=False)

    same, other = contents(tiny), contents(tmp_path / "raw")
    assert same["truth/rules.csv"] == other["truth/rules.csv"]
    assert same["truth/stores.csv"] == other["truth/stores.csv"]
    assert same["truth/expected_sales.csv"] != other["truth/expected_sales.csv"]
    assert json.loads(other["truth/meta.json"])["couplings"] is False


def test_the_report_counts_what_is_there(tmp_path: Path) -> None:
    report = simulate("tiny", 7, tmp_path / "raw")

    clean = [len(f.read_text(encoding="utf-8").splitlines()) - 1 for f in (tmp_path / "raw/truth/clean").iterdir()]
    errors = pd.read_csv(tmp_path / "raw" / "truth" / "errors.csv")
    receipts = pd.concat(pd.read_csv(f, sep=";") for f in (tmp_path / "raw/truth/clean").glob("receipts*"))
    assert (report.rows, report.errors, report.baskets) == (sum(clean), len(errors), receipts["receipt"].nunique())
    assert report.message.startswith("8 stores x 240 days, 3,")
    assert report.folder == tmp_path / "raw"
    assert 2_500 < report.baskets < 4_000


def test_an_unknown_size_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--size huge: no such size; expected tiny, small, medium, large"):
        simulate("huge", 7, tmp_path / "raw")
    with pytest.raises(ConfigError, match="--seed must be 0 or more, got -1"):
        simulate("tiny", -1, tmp_path / "raw")


def test_a_simulation_is_replaced_only_by_force_and_other_folders_never(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "raw"
    simulate("tiny", 8, out)
    with pytest.raises(ConfigError, match=r"raw: holds a simulation already; --force replaces it"):
        simulate("tiny", 7, out)
    simulate("tiny", 7, out, force=True)
    assert contents(out) == contents(tiny)

    precious = tmp_path / "photos"
    precious.mkdir()
    (precious / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(ConfigError, match="photos: holds files that are no simulation"):
        simulate("tiny", 7, precious, force=True)
    with pytest.raises(ConfigError, match=r"cat\.jpg: is a file, expected a folder"):
        simulate("tiny", 7, precious / "cat.jpg")
    assert (precious / "cat.jpg").read_bytes() == b"cat"


def test_an_interrupted_simulation_is_not_there(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(world: object) -> dict[str, pd.DataFrame]:
        raise KeyboardInterrupt

    out = tmp_path / "raw"
    with monkeypatch.context() as patch:
        patch.setattr(module, "truth_tables", interrupt)
        with pytest.raises(KeyboardInterrupt):
            simulate("tiny", 7, out)
    assert not out.exists()

    report = simulate("tiny", 7, out)
    assert isinstance(report, SimulationReport)
    assert contents(out) == contents(tiny)
    assert [file.name for file in tmp_path.iterdir()] == ["raw"]
