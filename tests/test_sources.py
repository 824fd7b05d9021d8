"""Reading source files: every cell as it stands there, nothing lost, and one clear line about a file that is no use."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark import sources
from dlmine_spark.config import SourceConfig
from dlmine_spark.errors import ConfigError, SourceError
from dlmine_spark.sources.files import fingerprint, first_changed, list_local

pytestmark = pytest.mark.spark

HEADER, LINE = "date,sales\n", "2024-03-01,12\n"


def source(path: Path | str, **settings: Any) -> SourceConfig:
    return SourceConfig.model_validate(
        {"kind": "table", "path": str(path), "columns": {"ds": "date", "y": "sales"}, **settings}
    )


def rows(spark: SparkSession, declaration: SourceConfig, *names: str) -> list[Any]:
    """Cells and ``_raw`` of all rows, in the order of file and line."""
    frame = sources.read_source(spark, "sales", declaration, "run-1")
    cells = names or [name for name in frame.columns if name not in s.BRONZE_METADATA or name == s.RAW_LINE]
    ordered = frame.orderBy(s.SOURCE_FILE, s.SOURCE_BLOCK, s.SOURCE_ROW)
    return [tuple(row) for row in ordered.select(*(F.col(f"`{cell}`") for cell in cells)).collect()]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# What is read


def test_a_file_that_somebody_writes_is_told(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("x\n1\n", encoding="utf-8")
    declaration = SourceConfig.model_validate(
        {"kind": "table", "path": str(tmp_path / ".." / tmp_path.name), "columns": {"x": None}}
    )
    files = list_local("t", declaration)

    assert [one.path for one in files] == [str(file)]
    assert first_changed(files) is None
    file.write_text("x\n1\n2\n", encoding="utf-8")
    assert first_changed(files) == str(file)
    file.unlink()
    assert (first_changed(files), first_changed(files, may_be_gone=True)) == (str(file), None)


def test_a_csv_file_gives_its_cells_as_text_with_their_place(spark: SparkSession, tmp_path: Path) -> None:
    file = write(tmp_path / "a b.csv", "date,sales\r\n2024-03-01, 1.50\r\n\r\n2024-03-02,\r\n")

    frame = sources.read_source(spark, "sales", source(file), "run-1")

    assert frame.columns == ["date", "sales", *s.BRONZE_METADATA]
    cells = frame.select("date", "sales", s.SOURCE_BLOCK, s.SOURCE_ROW, s.BRONZE_RUN_ID, s.RAW_LINE)
    assert [tuple(row) for row in cells.collect()] == [
        ("2024-03-01", " 1.50", 0, 0, "run-1", None),
        ("2024-03-02", None, 0, 1, "run-1", None),
    ]
    assert frame.select(s.SOURCE_FILE).distinct().collect()[0][0].endswith("/a%20b.csv")


def test_lines_are_split_as_written_or_kept_whole(spark: SparkSession, tmp_path: Path) -> None:
    lines = {
        '1,"a,b"': ("1", "a,b", None),
        '2,"said ""hi"""': ("2", 'said "hi"', None),
        '3,6" nails': ("3", '6" nails', None),
        '4,""': ("4", None, None),
        "\x005,n\x00ul": ("\x005", "n\x00ul", None),
        "#6,no comment": ("#6", "no comment", None),
        # Too few cells, too many, and quotes that are left open: by Spark's reader 9 would be "cut".
        "7": ("7", None, "7"),
        "8,x,": ("8", "x", "8,x,"),
        '9,"cut': ("9", "cut", '9,"cut'),
        'off"': ('off"', None, 'off"'),
        '"10,x': ("10,x", None, '"10,x'),
    }
    file = write(tmp_path / "s.csv", "date,sales\n" + "\n".join(lines))

    assert rows(spark, source(file)) == list(lines.values())


def test_a_repeated_header_is_no_row(spark: SparkSession, tmp_path: Path) -> None:
    file = write(tmp_path / "s.csv", f"\n{HEADER}{LINE}{HEADER}{LINE}")

    assert len(rows(spark, source(file))) == 2


def test_cells_hold_line_breaks_where_declared(spark: SparkSession, tmp_path: Path) -> None:
    content = 'date,"daily\nsales"\n1,"two\nlines"\n2,"a ""word"""\n3\n'
    columns = {"ds": "date", "y": "daily_sales"}
    file = write(tmp_path / "s.csv", content)

    assert rows(spark, source(file, multiline=True, columns=columns)) == [
        ("1", "two\nlines", None),
        ("2", 'a "word"', None),
        ("3", None, "3"),
    ]
    with pytest.raises(SourceError, match=r"quote that is not closed in its line.*multiline=true"):
        rows(spark, source(file, columns=columns))


def test_a_quote_that_goes_wrong_is_on_record_where_line_breaks_are_read(spark: SparkSession, tmp_path: Path) -> None:
    file = write(tmp_path / "s.csv", 'date,sales\n1,"a "b" c\n2,x\n3,"y"z"\n4,w\n')

    found = rows(spark, source(file, multiline=True))

    assert [raw is not None for *_, raw in found][-1] is False
    text = "".join(str(cell) for row in found for cell in row)
    assert all(digit in text for digit in "1234")


def test_a_quote_that_is_closed_by_another_ones_does_not_pass_for_a_cell(spark: SparkSession, tmp_path: Path) -> None:
    file = write(tmp_path / "s.csv", 'date,sales\n1,"open\n2,x\n3,mid"quote\n4,w\n5,"""Hi,"" she said\nand left"\n')

    found = rows(spark, source(file, multiline=True))

    assert [raw is not None for *_, raw in found] == [True, False, False]
    assert found[-1][1] == '"Hi," she said\nand left'


def test_a_quote_never_closed_does_not_swallow_the_file(spark: SparkSession, tmp_path: Path) -> None:
    file = write(tmp_path / "s.csv", 'date,sales\n1,"open\n2,x\n3,y\n')

    with pytest.raises(SourceError, match=r"s\.csv: opens a quote that is never closed.*multiline=false"):
        rows(spark, source(file, multiline=True))
    assert rows(spark, source(file)) == [("1", "open", '1,"open'), ("2", "x", None), ("3", "y", None)]


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("utf-8-sig", "UTF-8"),
        ("latin-1", "latin-1"),
        ("cp1252", "windows-1252"),
        ("cp1250", "cp1250"),
        ("mac-roman", "mac-roman"),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "utf-16-le"),
    ],
)
def test_encodings_are_read(spark: SparkSession, tmp_path: Path, encoding: str, declared: str) -> None:
    sign = "ü" if encoding == "latin-1" else "€"
    file = write(tmp_path / "s.csv", f"Größe,sales\r\n1{sign},M\u00fcnchen\r\n".encode(encoding, errors="replace"))
    declaration = source(file, encoding=declared, columns={"y": "sales", "size": "Größe"})

    assert rows(spark, declaration) == [(f"1{sign}", "München", None)]


def test_bytes_that_are_none_in_the_encoding_keep_their_line_whole(spark: SparkSession, tmp_path: Path) -> None:
    lines = ["1,Zoë".encode(), "2,München".encode("latin-1"), "3,\ufffd".encode()]
    file = write(tmp_path / "s.csv", b"date,sales\n" + b"\n".join(lines))

    assert rows(spark, source(file)) == [
        ("1", "Zoë", None),
        ("2", "M\ufffdnchen", "2,M\ufffdnchen"),
        ("3", "\ufffd", None),
    ]


def test_files_are_read_by_their_own_header(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "d" / "1.csv", "date,sales\n1,10\n")
    write(tmp_path / "d" / "2.csv", "Sales,note,Date\n20,x,2\n")
    write(tmp_path / "d" / "3.csv", "date,sales\n")

    assert rows(spark, source(tmp_path / "d"), "date", "sales", "note") == [("1", "10", None), ("2", "20", "x")]


def test_compressed_files_folders_and_globs(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "d" / "1.csv.gz", gzip.compress(f"{HEADER}1,10\n".encode(), mtime=0))
    write(tmp_path / "d" / "2.csv.bz2", bz2.compress(f"{HEADER}2,20\n".encode()))
    write(tmp_path / "d" / "deep" / "3.csv", f"{HEADER}3,30\n")
    for hidden in ("_SUCCESS", ".1.csv.crc", ".hidden/4.csv", "_temporary/5.csv"):
        write(tmp_path / "d" / hidden, "none of it")

    assert rows(spark, source(tmp_path / "d"), "date") == [("1",), ("2",), ("3",)]
    assert rows(spark, source(tmp_path / "d" / "*.csv.*"), "date") == [("1",), ("2",)]
    assert rows(spark, source(tmp_path / "d" / "**" / "*.csv"), "date") == [("3",)]


@pytest.mark.parametrize("name", ["a[1].csv", "b{x,y}.csv", "c?*.csv", "d\\e.csv", "f g%20h#i.csv", "ü+ö.csv"])
def test_signs_in_names_are_taken_literally(spark: SparkSession, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "g[1] {z}"
    write(folder / name, HEADER + LINE)
    write(folder / "a1.csv", "something,else\n1,2\n")

    assert len(rows(spark, source(folder / name))) == 1


def test_folders_named_after_a_column_give_it(spark: SparkSession, tmp_path: Path) -> None:
    for store, day in (("007", "1"), ("a+b c/d", "2"), (None, "3")):
        frame = spark.createDataFrame([(day, 1.5, store)], "date string, sales double, store string")
        frame.write.partitionBy("store").mode("append").parquet(str(tmp_path / "p"))
    write(tmp_path / "c" / "store=9" / "x.csv", HEADER + LINE)
    columns = {"ds": "date", "y": "sales", "shop": "store"}

    found = rows(spark, source(tmp_path / "p", format="parquet", columns=columns), "date", "sales", "store")

    assert sorted(found) == [("1", "1.5", "007"), ("2", "1.5", "a+b c/d"), ("3", "1.5", None)]
    assert rows(spark, source(tmp_path / "c", columns=columns), "store") == [("9",)]


def test_json_keeps_digits_nests_as_text_and_broken_records_whole(spark: SparkSession, tmp_path: Path) -> None:
    file = write(
        tmp_path / "s.json",
        '{"date":"1","sales":1.50,"Items":["a",{"b":2}]}\n{"date":"2","sales":1e5}\n\n{"date":"3"\n',
    )

    assert rows(spark, source(file, format="json"), "date", "sales", "Items", s.RAW_LINE) == [
        ("1", "1.50", '["a","{\\"b\\":2}"]', None),
        ("2", "1e5", None, None),
        (None, None, None, '{"date":"3"'),
    ]


def test_json_over_several_lines(spark: SparkSession, tmp_path: Path) -> None:
    file = write(tmp_path / "s.json", '[\n{"date":\n"1","sales":2}\n]')

    assert rows(spark, source(file, format="json", multiline=True), "date", "sales") == [("1", "2")]
    with pytest.raises(SourceError, match=r"(?s)s\.json.*multiline=true"):
        rows(spark, source(file, format="json"))


def test_parquet_times_in_nanoseconds_are_read_to_the_microsecond(spark: SparkSession, tmp_path: Path) -> None:
    # As doubles, the first of each are a microsecond less.
    clock = pa.array([1_709_263_800_250_000_000, -1_500, None], pa.timestamp("ns"))
    utc = pa.array([1_709_263_800_250_000_000, 1_709_254_861_123_456_789, None], pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table({"date": clock, "sales": utc, "n": [1, 2, 3]}), tmp_path / "p.parquet")

    found = rows(spark, source(tmp_path / "p.parquet", format="parquet"), "date", "sales", "n")

    assert found == [
        ("2024-03-01 03:30:00.25", "2024-03-01 03:30:00.25", "1"),
        ("1969-12-31 23:59:59.999998", "2024-03-01 01:01:01.123456", "2"),
        (None, None, "3"),
    ]


def test_parquet_times_of_a_zone_are_told_with_their_offset(spark: SparkSession, tmp_path: Path) -> None:
    # Midnights of 1 March and 1 July.
    berlin = pa.array([1_709_247_600, 1_719_784_800, None], pa.timestamp("s", "Europe/Berlin"))
    st_johns = pa.array([1_709_263_800_250_000_000, None, None], pa.timestamp("ns", "America/St_Johns"))
    fixed = pa.array([1_709_247_600, 0, None], pa.timestamp("s", "-03:30"))
    pq.write_table(pa.table({"date": berlin, "sales": st_johns, "n": fixed}), tmp_path / "p.parquet")

    found = rows(spark, source(tmp_path / "p.parquet", format="parquet"), "date", "sales", "n")

    assert found == [
        ("2024-03-01 00:00:00+01:00", "2024-03-01 00:00:00.25-03:30", "2024-02-29 19:30:00-03:30"),
        ("2024-07-01 00:00:00+02:00", None, "1969-12-31 20:30:00-03:30"),
        (None, None, None),
    ]


def test_each_file_of_parquet_has_its_own_zone(spark: SparkSession, tmp_path: Path) -> None:
    """Also one that lacks the column, or a zone; Spark looks at the columns of all of them."""
    midnight = [1_709_247_600]
    for name, column in {
        "a 1": pa.array(midnight, pa.timestamp("s", "Europe/Berlin")),
        "b": pa.array(midnight, pa.timestamp("s", "UTC")),
        "c": pa.array(midnight, pa.timestamp("s", "-03:30")),
    }.items():
        pq.write_table(pa.table({"date": column, "sales": [1]}), tmp_path / f"{name}.parquet")
    pq.write_table(pa.table({"sales": [2]}), tmp_path / "d.parquet")

    found = rows(spark, source(tmp_path, format="parquet"), "date", "sales")

    assert found == [
        ("2024-03-01 00:00:00+01:00", "1"),
        ("2024-02-29 23:00:00+00:00", "1"),
        ("2024-02-29 19:30:00-03:30", "1"),
        (None, "2"),
    ]


def test_a_zone_of_days_is_one_of_instants(spark: SparkSession, tmp_path: Path) -> None:
    """It is asked for when the days are read; what a clock showed is left as it is."""
    table = spark.sql("SELECT timestamp'2024-07-02 00:30:00Z' AS date, timestamp_ntz'2024-07-02 00:30:00' AS sales")
    table.write.format("delta").save(str(tmp_path / "t"))
    day = {"type": "date", "time_zone": "America/New_York"}

    found = rows(spark, source(tmp_path / "t", format="delta", columns={"date": day, "sales": {}}), "date", "sales")

    assert found == [("2024-07-02 00:30:00", "2024-07-02 00:30:00")]
    with pytest.raises(ConfigError, match=r"sources\.sales\.columns: sales has a time_zone, .* but timestamp_ntz"):
        rows(spark, source(tmp_path / "t", format="delta", columns={"sales": day}), "sales")


@pytest.mark.parametrize("kind", ["parquet", "delta"])
def test_tables_bring_their_columns(spark: SparkSession, tmp_path: Path, kind: str) -> None:
    table = spark.sql(
        "select date'2024-03-01' as `date`, 1.5D as sales, timestamp'2024-03-01 10:00:00.25' as `At Time`, "
        "array(1, 2) as list, struct(1 as a) as _raw"
    ).withColumnRenamed("At Time", "at")
    table.write.format(kind).save(str(tmp_path / "t"))

    assert rows(spark, source(tmp_path / "t", format=kind)) == [
        ("2024-03-01", "1.5", "2024-03-01 10:00:00.25", "[1,2]", '{"a":1}', None)
    ]


def test_lines_of_text(spark: SparkSession, tmp_path: Path) -> None:
    file = write(tmp_path / "b.txt", "10 12\n\nM\u00fcsli 12".encode("cp1252"))
    declaration = SourceConfig.model_validate(
        {"kind": "baskets", "path": str(file), "format": "text", "encoding": "cp1252"}
    )

    assert rows(spark, declaration) == [("10 12", None), ("", None), ("Müsli 12", None)]


def test_addresses_that_python_cannot_list_are_read_by_their_headers(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "d" / "1 [a].csv", "\ufeffdate,sales\n1,10\n")
    write(tmp_path / "d" / "2.csv", "sales,date\n20,2\n")
    monkeypatch.setattr("dlmine_spark.sources.reader.is_local", lambda path: False)

    assert rows(spark, source(f"{tmp_path / 'd'}/*.csv"), "date", "sales") == [("1", "10"), ("2", "20")]
    with pytest.raises(SourceError, match="column turnover"):
        rows(spark, source(f"{tmp_path / 'd'}/*.csv", columns={"y": "turnover"}))
    with pytest.raises(SourceError, match=r"nothing\.csv"):
        rows(spark, source(tmp_path / "nothing.csv"))


# What is refused


BAD_FILES: list[tuple[str, str | bytes | None, dict[str, Any], Sequence[str]]] = [
    ("sales.csv", None, {}, ["no such file", "did you mean sale.csv?"]),
    ("nofolder/s.csv", None, {}, ["nor a folder", "nofolder"]),
    ("*.tsv", None, {}, ["no file matches"]),
    ("s.csv", "", {}, ["is empty"]),
    ("s.csv", "\n  \n", {}, ["blank lines only"]),
    ("s.csv", HEADER, {}, ["a header and no rows"]),
    ("s.csv", "date;sales\n1;2\n", {}, ["delimiter is not ','", "sources.sales.delimiter=';'"]),
    ("s.csv", "date\tsales\n1\t2\n", {}, ['sources.sales.delimiter="\\t"']),
    ("s.csv", "date,sale\n1,2\n", {}, ["column sales (for y, did you mean sale?) is missing", "columns.y"]),
    (
        "s.csv",
        "day,sale\n1,2\n",
        {},
        ["columns date (for ds, did you mean day?), sales (for y, did you mean sale?) are missing", "columns.ds, "],
    ),
    ("s.csv", ",".join(f"c{i}" for i in range(5000)) + "\n1\n", {}, ["and 4,980 more"]),
    ("s.csv", "date,sales,Sales\n1,2,3\n", {}, ["columns sales, Sales", "rename"]),
    ("s.csv", "date,sales,unit price,unit.price\n1,2,3,4\n", {}, ["columns unit_price, unit_price", "rename"]),
    ("s.csv", "date,sales\n1,Zürich\n".encode("latin-1"), {}, ["is not UTF-8", "sources.sales.encoding", "latin-1"]),
    ("s.csv", (HEADER + LINE).encode("utf-16"), {}, ["is UTF-16", "sources.sales.encoding=UTF-16"]),
    ("s.csv", (HEADER + LINE).encode("utf-16-le"), {}, ["every other byte is zero", "UTF-16LE"]),
    ("s.csv", HEADER + LINE, {"encoding": "utf9"}, ["sources.sales.encoding: 'utf9' is not known"]),
    ("s.csv", HEADER + LINE, {"encoding": "shift_jis"}, ["sources.sales.encoding", "convert the file to UTF-8"]),
    ("s.json", "{}", {"encoding": "latin-1", "format": "json"}, ["sources.sales.encoding", "always UTF-8"]),
    ("s.csv", gzip.compress(HEADER.encode(), mtime=0), {}, ["compressed", ".gz"]),
    ("s.csv", b"PK\x03\x04rest", {}, ["Excel"]),
    ("s.csv", b"PAR1rest", {}, ["sources.sales.format=parquet"]),
    ("s.csv.gz", (HEADER + LINE).encode(), {}, ["s.csv.gz: cannot be read"]),
    ("s.csv.gz", gzip.compress((HEADER + LINE).encode(), mtime=0)[:20], {}, ["s.csv.gz: cannot be read"]),
    ("s.csv.zst", HEADER + LINE, {}, [".zst is not read"]),
    ("a:b.csv", HEADER + LINE, {}, ["colon"]),
    ("s.csv", "x" * (5 << 20), {}, ["no line break in its first 4 MB"]),
    ("s.parquet", b"PAR1 cut", {"format": "parquet"}, ["s.parquet: is cut off"]),
    ("s.parquet", HEADER, {"format": "parquet"}, ["s.parquet: is no Parquet file"]),
    ("s.parquet", b"PAR1 but not really PAR1", {"format": "parquet"}, ["s.parquet: cannot be read"]),
    ("s.json", "no\njson", {"format": "json"}, ["no JSON record", "multiline"]),
    ("s.json", '{"a":1,"A":2}', {"format": "json"}, ["s.json", "already exists"]),
    ("s.json", '{"date":1,"turnover":2}', {"format": "json"}, ["column sales (for y) is missing"]),
    ("s.csv", HEADER + LINE, {"format": "delta"}, ["no Delta table"]),
]


@pytest.mark.parametrize(("name", "content", "settings", "words"), BAD_FILES)
def test_a_file_that_is_no_use_is_named_with_the_way_out(
    spark: SparkSession,
    tmp_path: Path,
    name: str,
    content: str | bytes | None,
    settings: dict[str, Any],
    words: Sequence[str],
) -> None:
    write(tmp_path / "sale.csv", HEADER + LINE)
    if content is not None:
        write(tmp_path / name, content)

    with pytest.raises((SourceError, ConfigError)) as raised:
        sources.read_source(spark, "sales", source(tmp_path / name, **settings), "run-1")

    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600
    for word in words:
        assert word in str(raised.value)


def test_a_folder_without_files_is_no_source(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()

    with pytest.raises(SourceError, match="no file in this folder"):
        sources.read_source(spark, "sales", source(tmp_path / "d"), "run-1")


def test_what_goes_wrong_while_reading_names_the_file(spark: SparkSession, tmp_path: Path) -> None:
    whole = gzip.compress((HEADER + "2024-03-01,12\n" * 50_000).encode())
    cut = write(tmp_path / "cut.csv.gz", whole[: len(whole) // 2])
    gone = write(tmp_path / "gone.csv", HEADER + LINE)
    for file, words in ((cut, "cut.csv.gz: cannot be read"), (gone, "gone.csv: vanished while it was read")):
        declaration = source(file)
        frame = sources.read_source(spark, "sales", declaration, "run-1")
        if file == gone:
            gone.unlink()

        with pytest.raises(SourceError, match=words), sources.reading("sales", declaration):
            frame.write.format("noop").mode("overwrite").save()


def test_errors_that_are_not_about_files_are_left_alone(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), sources.reading("sales", source(tmp_path)):
        raise ZeroDivisionError


def test_a_fingerprint_follows_content_and_files(tmp_path: Path) -> None:
    file = write(tmp_path / "d" / "1.csv", HEADER + LINE)
    declaration = source(tmp_path / "d")
    first = fingerprint(declaration)

    assert fingerprint(declaration) == first
    write(tmp_path / "d" / "2.csv", HEADER + LINE)
    second = fingerprint(declaration)
    write(file, HEADER + LINE + LINE)
    assert len({first, second, fingerprint(declaration)}) == 3


def test_ten_megabytes_in_a_cell_and_five_thousand_columns(spark: SparkSession, tmp_path: Path) -> None:
    big = write(tmp_path / "big.csv", f"{HEADER}1,{'x' * 10_000_000}\n2,y\n")
    wide = write(
        tmp_path / "wide.csv",
        "date,sales," + ",".join(f"c{i}" for i in range(5000)) + "\n" + ",".join(str(i) for i in range(5002)) + "\n",
    )

    frame = sources.read_source(spark, "sales", source(big), "run-1")
    assert [row[0] for row in frame.orderBy("date").select(F.length("sales")).collect()] == [10_000_000, 1]
    assert rows(spark, source(wide), "date", "c4999") == [("0", "5001")]
