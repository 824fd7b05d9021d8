"""Init: look at files that nobody declared, guess what they are, and write a configuration that runs as it is."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

from pydantic import ValidationError

from dlmine_spark.config import SourceConfig, SparkConfig, load_config
from dlmine_spark.errors import ConfigError, SourceError
from dlmine_spark.guessing import samples
from dlmine_spark.guessing.samples import ROWS, Sample, look_at, merged
from dlmine_spark.guessing.tables import TableFacts
from dlmine_spark.guessing.text import config_text, settings_of, table_text
from dlmine_spark.guessing.together import Source, decide
from dlmine_spark.guessing.wide import write_long
from dlmine_spark.pipelines.files import written_whole
from dlmine_spark.pipelines.graph import check_sources
from dlmine_spark.schemas import TABLES
from dlmine_spark.session import open_session
from dlmine_spark.sources import look_at as look_outside
from dlmine_spark.sources import reading
from dlmine_spark.sources.database import first_rows

_SUFFIXES = re.compile(r"(\.(csv|tsv|txt|dat|json|jsonl|ndjson|parquet|basket))?(\.(gz|bz2))?$", re.IGNORECASE)


def config_path(paths: Sequence[str], chosen: Path | None, table: str | None = None) -> Path:
    """Where the configuration is written: where the user says, else here, named for the first file or the table.

    Raises:
        ConfigError: the user names a folder.
    """
    if chosen is not None and chosen.is_dir():
        raise ConfigError(f"--out {chosen}: is a folder: name a file in it, {_name_of(table or paths[0])}.yaml, say")
    return chosen if chosen is not None else Path(f"{_name_of(table.rpartition('.')[2] if table else paths[0])}.yaml")


def of_database(address: str, table: str, credentials: str | None) -> Sample:
    """The first rows of a table of a database, by a local Spark session.

    Raises:
        ConfigError: the address is none, or holds a password.
        SourceError: the database cannot be asked, or the table is empty.
        EnvironmentProblem: the variables of the credentials, or the driver, are not there.
    """
    database = {"table": table} | ({} if credentials is None else {"credentials": credentials})
    try:
        source = SourceConfig.model_validate({"kind": "table", "format": "jdbc", "path": address, "database": database})
    except ValidationError as error:
        raise ConfigError("; ".join(one["msg"].removeprefix("Value error, ") for one in error.errors())) from error
    look_outside(table, source)
    with open_session(SparkConfig()) as spark, reading(table, source):
        rows = first_rows(spark, table, source, ROWS).toArrow()
    return samples.of_database(address, rows, database, is_whole=rows.num_rows < ROWS)


def run(paths: Sequence[str], out: Path, *, force: bool = False, table: Sample | None = None) -> str:
    """Guess from a sample of the files, and write the configuration once it has been read back.

    Args:
        paths: files, folders of files of one shape, Delta tables; files of one shape in one folder are one source.
        out: the configuration.
        force: whether an earlier one is replaced.
        table: rows of a database in the place of files.

    Returns:
        What was guessed and why, as tables to read.

    Raises:
        SourceError: a file cannot be read, or nothing says what to forecast or to mine; nothing is written then.
        ConfigError: the configuration cannot be written, or is there already.
    """
    if table is not None:
        tables = [TableFacts(_name_of(table.database["table"].rpartition(".")[2]), table)]
    else:
        tables = _tables([look_at(path) for path in dict.fromkeys(paths)])
    sources = _named(decide(tables))
    title = out.stem.replace("_", " ").capitalize()
    text = config_text(sources, f"build/{out.stem}/lakehouse", title, str(out))
    with written_whole(out, force=force) as partial:
        partial.write_text(text, encoding="utf-8")
        _check(partial, out, sources)
    return table_text(sources)


def reshape(path: str, out: Path, *, force: bool = False) -> str:
    """Write a file that has a column for each series (or date) anew, with a row for each series and date.

    Returns:
        What was written, in a line.

    Raises:
        SourceError: the file has no such columns, or cannot be read.
        ConfigError: the new file is there already, or cannot be written.
    """
    table = TableFacts(_name_of(path), look_at(path))
    with written_whole(out, force=force) as partial, partial.open("w", encoding="utf-8", newline="") as target:
        return write_long(table, target)


def _check(written: Path, out: Path, sources: Sequence[Source]) -> None:
    """Refuse a configuration that does not load to what was decided, or whose files are not as it says.

    Args:
        written: the configuration, not yet in its place.
        out: that place, for messages.
        sources: what was decided.

    Raises:
        ConfigError: naming the source.
        SourceError: naming the file.
    """
    try:
        config = load_config([written])
    except ConfigError as error:
        raise ConfigError(f"would not load, so it was not written: {error}".replace(str(written), str(out))) from error
    for source in sources:
        if config.sources[source.name] != SourceConfig.model_validate(settings_of(source)):
            raise ConfigError(
                f"{source.table.sample.path}: its names do not survive YAML, please report this; rename its columns"
            )
    check_sources(config)


def _tables(samples: Sequence[Sample]) -> list[TableFacts]:
    """The samples under names of sources, those of one shape in one folder as one."""
    groups: dict[tuple[object, ...], list[Sample]] = {}
    for one in samples:
        place = Path(one.path)
        alone = one.path if place.is_dir() or one.baskets is not None else str(place.parent)
        groups.setdefault((alone, *one.shape), []).append(one)
    tables: list[TableFacts] = []
    for group in groups.values():
        sample = group[0] if len(group) == 1 else _as_one(group)
        tables.append(TableFacts(_free_name(_name_of(sample.path), [one.name for one in tables]), sample))
    return tables


def _as_one(group: Sequence[Sample]) -> Sample:
    """Files of one shape as one source: by a pattern that matches these and no other.

    Raises:
        SourceError: there is none.
    """
    names = [Path(one.path).name for one in group]
    start = _shared_start(names)
    end = _shared_start([name[len(start) :][::-1] for name in names])[::-1]
    folder = Path(group[0].path).parent
    pattern = str(folder / f"{glob.escape(start)}*{glob.escape(end)}")
    if set(glob.glob(pattern)) != {str(Path(one.path)) for one in group}:
        raise SourceError(
            f"{', '.join(names)}: have the same columns, so they are one source, but {pattern} matches others, too: "
            "put them into a folder of their own, and name that"
        )
    return merged(group, pattern, len(group), sum(one.size for one in group), is_all=True)


def _shared_start(names: Sequence[str]) -> str:
    return "".join(signs[0] for signs in takewhile(lambda signs: len(set(signs)) == 1, zip(*names, strict=False)))


def _name_of(path: str) -> str:
    """The name of a source: of its file or folder, in small letters, digits and _."""
    stem = _SUFFIXES.sub("", Path(path.rstrip("/")).name)
    plain = re.sub(r"[\d_-]*[*?].*$", "", stem)
    name = re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")
    return name if name[:1].isalpha() else f"data_{name}".rstrip("_")


def _free_name(name: str, taken: Sequence[str]) -> str:
    while name in taken:
        name += "_2"
    return name


def _named(sources: Sequence[Source]) -> list[Source]:
    """The sources, tables among them under names that no table of silver has."""
    return [
        replace(one, name=f"{one.name}_data") if one.guess.kind == "table" and f"silver.{one.name}" in TABLES else one
        for one in sources
    ]
