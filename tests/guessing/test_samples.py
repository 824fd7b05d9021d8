"""What is read of files: a bounded part, from their start, middle and end; and what is no table is refused."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlmine_spark.errors import ConfigError, EnvironmentProblem, SourceError
from dlmine_spark.guessing import samples
from tests.guessing import examples as x


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretches of a kilobyte, so that a small file is a large one."""
    monkeypatch.setattr(samples, "STRETCH", 1 << 10)
    monkeypatch.setattr(samples, "WHOLE", 4 << 10)
    monkeypatch.setattr(samples, "UNPACKED", 32 << 10)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["large.csv", "large.csv.gz"])
def test_of_a_large_file_start_and_end_are_read_in_whole_lines(tmp_path: Path, name: str) -> None:
    rows = [(day, place) for place, day in enumerate(x.days(1_800))]
    file = x.write(tmp_path / name, [("date", "sales"), *rows])

    sample = samples.look_at(str(file))

    assert not sample.is_whole
    assert len(sample.cells) < 500
    assert sample.odd_lines == 0
    assert sample.cells["date"].iloc[0] == "2024-01-01"
    assert sample.cells["date"].iloc[-1] == str(rows[-1][0])
    # Rows of two stretches are no neighbours.
    assert len(set(sample.parts)) == (2 if name.endswith("gz") else 3)


@pytest.mark.usefixtures("small")
def test_a_packed_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    file = x.write(tmp_path / "huge.csv.gz", [("date", "sales"), *((day, 1) for day in x.days(9_000))])

    sample = samples.look_at(str(file))

    assert sample.cells["date"].iloc[-1] < str(x.days(9_000)[4_000])


def test_the_frequency_is_told_from_neighbours_within_stretches(tmp_path: Path, small: None) -> None:
    rows = [(store, day, 5 + day.day) for store in ("A", "B", "C") for day in x.days(300)]
    config = x.configured(tmp_path, x.write(tmp_path / "large.csv", [("store", "date", "sales"), *rows]))

    assert config["sources"]["large"]["columns"]["unique_id"] == "store"
    assert config["evaluation"] == {"horizon": 28}


def test_quotes_delimiters_and_line_breaks_within_cells(tmp_path: Path) -> None:
    file = tmp_path / "quoted.csv"
    body = "".join(f'{day};"said ""no;"";\nthen yes";{place},5\n' for place, day in enumerate(x.days(40)))
    file.write_text("date;remark, if any;sales\n" + body)

    sample = samples.look_at(str(file))

    assert (sample.delimiter, sample.multiline) == (";", True)
    assert sample.cells["remark, if any"].iloc[0] == 'said "no;"; then yes'
    assert x.source_of(tmp_path, file)["columns"]["y"] == {"from": "sales", "decimal": ","}


def test_a_folder_of_files_with_values_in_the_names_of_its_folders(tmp_path: Path) -> None:
    for store in (1, 2):
        (tmp_path / "in" / f"store={store}").mkdir(parents=True)
        x.daily_sales(tmp_path / "in" / f"store={store}" / "part.csv")
    (tmp_path / "in" / "_SUCCESS").touch()

    source = x.source_of(tmp_path, tmp_path / "in")

    assert source["columns"] == {"ds": "date", "unique_id": "store", "y": "sales"}


def test_a_folder_of_several_formats_is_refused(tmp_path: Path) -> None:
    x.daily_sales(tmp_path / "a.csv")
    (tmp_path / "b.json").write_text('{"date": "2024-01-01"}\n')

    with pytest.raises(SourceError, match=r"several formats, 1 csv \(e\.g\. a\.csv\) and 1 json|1 csv .*, 1 json"):
        samples.look_at(str(tmp_path))


def test_a_folder_of_files_with_other_columns_is_refused(tmp_path: Path) -> None:
    x.daily_sales(tmp_path / "a.csv")
    x.monthly_patients(tmp_path / "b.csv")

    with pytest.raises(SourceError, match=r"a\.csv and .*b\.csv have other columns"):
        samples.look_at(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("empty.csv", b"", "empty"),
        ("blank.csv", b"\n \n", "blank lines only"),
        ("image.csv", bytes(range(256)) * 40, "binary file"),
        ("book.xlsx", b"PK\x03\x04" + bytes(100), "Excel"),
        ("packed.csv", gzip.compress(b"a,b\n1,2\n", mtime=0), "ends with .gz"),
        ("cut.csv.gz", gzip.compress(b"date,sales\n" * 9_000, mtime=0)[:60], "cannot be read"),
        ("nothing.csv.gz", gzip.compress(b"", mtime=0), "empty when it is unpacked"),
        ("packed.csv.zst", b"(\xb5/\xfd", "is not read; unpack it"),
        ("cut.parquet", b"PAR1" + bytes(50), "is cut off"),
        ("odd.parquet", b"PAR1" + bytes(50) + b"PAR1", "cannot be read as Parquet"),
    ],
)
def test_what_is_no_table_is_named(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(SourceError, match=name.replace(".", r"\.")) as raised:
        samples.look_at(str(tmp_path / name))

    assert problem in str(raised.value)


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("Europe/Berlin", "2024-03-01 00:00:00+01:00"),
        ("UTC", "2024-02-29 23:00:00"),
        ("-03:30", "2024-02-29 19:30:00-03:30"),
    ],
)
def test_instants_of_parquet_are_told_as_they_are_read(tmp_path: Path, zone: str, text: str) -> None:
    at = pa.array([1_709_247_600], pa.timestamp("s", zone))
    pq.write_table(pa.table({"at": at}), tmp_path / "p.parquet")

    assert samples.look_at(str(tmp_path / "p.parquet")).cells["at"].tolist() == [text]


def test_a_missing_file_and_an_address(tmp_path: Path) -> None:
    x.daily_sales(tmp_path / "sales.csv")
    with pytest.raises(SourceError, match=r"no such file, did you mean sales\.csv\?"):
        samples.look_at(str(tmp_path / "sale.csv"))
    with pytest.raises(ConfigError, match="local files"):
        samples.look_at("s3a://bucket/sales.csv")


def test_a_delta_folder_needs_deltalake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "table" / "_delta_log").mkdir(parents=True)
    monkeypatch.setitem(sys.modules, "deltalake", None)

    with pytest.raises(EnvironmentProblem, match="reads with deltalake: pip install"):
        samples.look_at(str(tmp_path / "table"))
