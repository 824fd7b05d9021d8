"""Export: a table of the lakehouse as one file, a folder of files or a table of a database; all of it or nothing."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, ParseException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.utils import is_remote

from dlmine_spark.browsing import SparkBrowser, refuse_nothing
from dlmine_spark.config import Config, holds_credentials
from dlmine_spark.damage import damage_of_log, damaged_table, tables_below
from dlmine_spark.errors import ConfigError, DlmineError, EnvironmentProblem
from dlmine_spark.jdbc import Database
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.browse import full_name
from dlmine_spark.pipelines.files import refuse_overwriting, room_beside, written_whole
from dlmine_spark.places import local_path, root_of
from dlmine_spark.session import lack_of_s3
from dlmine_spark.slots import is_local
from dlmine_spark.stores import explained

log = logging.getLogger(__name__)

Mode = Literal["fail", "replace", "append"]
Format = Literal["csv", "parquet", "json"]

SUFFIXES: dict[str, Format] = {".csv": "csv", ".parquet": "parquet", ".json": "json", ".jsonl": "json"}
_COMPRESSED = ".gz"
_ROWS_A_TRIP = "10000"
_MOMENT = "yyyy-MM-dd'T'HH:mm:ss[.SSSSSS]"
_NO_TABLE = re.compile(r"relation \".*\" does not exist|Table .* doesn't exist|Invalid object name|ORA-00942")
_OF_AN_EXPORT = re.compile(r"\.?(part-.*|_SUCCESS)(\.crc)?|_temporary")
"""What an export leaves in a folder, also one that was killed."""
_LAST_NAME = re.compile(r'(?:^|\.)("[^"]*"|`[^`]*`|\[[^]]*\]|[^.]*)$')
"""What a table is called within its schema, maybe quoted, with the dot before it."""
_CAN_RENAME = ("postgresql", "mysql", "mariadb", "oracle")
"""Databases that rename a table by the same statement."""
_ALONE = {"postgresql": "SELECT pg_try_advisory_lock({})", "mysql": "SELECT GET_LOCK('dlmine_{}', 0)"}
_ALONE["mariadb"] = _ALONE["mysql"]
"""What asks for a lock that ends with its connection, however that ends."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where rows go to.

    Attributes:
        place: a file, a folder, an address of an object store, or ``jdbc:...``.
        format: of files; None: by the ending of ``place``.
        into: table of a database.
        credentials: name of the variables that hold its user and password.
        mode: what becomes of a target that is there: the export fails, its rows are replaced, or it gets more.
    """

    place: str
    format: Format | None = None
    into: str | None = None
    credentials: str | None = None
    mode: Mode = "fail"

    @property
    def is_database(self) -> bool:
        """Whether it is a table of a database."""
        return self.place.lower().startswith("jdbc:")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows and columns of a table, as of which version; None: all, the present one."""

    table: str
    where: str | None = None
    columns: tuple[str, ...] = ()
    version: int | None = None


def target_of(place: str, *, format_: str | None, into: str | None, credentials: str | None, mode: str) -> Target:
    """The target that options of the command mean, looked at before Spark is started.

    Raises:
        ConfigError: options that are none or do not fit each other, or a file that is there.
        EnvironmentProblem: variables of the credentials are not set.
    """
    for option, value, known in (("mode", mode, get_args(Mode)), ("format", format_, get_args(Format))):
        if value is not None and value not in known:
            raise ConfigError(f"--{option} {value}: is none of {', '.join(known)}")
    target = Target(place, cast("Format | None", format_), into, credentials, cast("Mode", mode))
    if not place.strip():
        raise ConfigError("TARGET is empty: name a file, a folder or address, or a database (jdbc:...)")
    if target.is_database:
        _check_database(target)
    else:
        _check_files(target)
    return target


def table_of(config: Config, table: str) -> str:
    """The full name of a table of the lakehouse, as ``dlmine show`` finds it, looked up before Spark is started.

    In a catalog or an object store only Spark knows the tables: there, the name comes back as it is.

    Raises:
        ConfigError: there is no such table, or several.
        DlmineError: there are no tables at all, or this one's log is damaged.
    """
    root = local_path(root_of(config.lakehouse)) if config.lakehouse.catalog is None else None
    if root is None:
        return table
    tables = tables_below(root)
    refuse_nothing(list(tables), str(root))
    name = full_name(table, sorted(tables))
    damage = damage_of_log(tables[name] / "_delta_log")
    if damage is not None:
        raise DlmineError(damaged_table(name, tables[name], damage))
    return name


def _check_database(target: Target) -> None:
    if holds_credentials(target.place):
        raise ConfigError("TARGET holds a user or a password: take it out, and name their variables by --credentials")
    if target.into is None:
        raise ConfigError("--into is missing: the table of the database that gets the rows")
    if target.format is not None:
        raise ConfigError("--format is for files, and TARGET is a database")
    _database(target).options()


def _check_files(target: Target) -> None:
    for option, value in (("--into", target.into), ("--credentials", target.credentials)):
        if value is not None:
            raise ConfigError(f"{option} is for databases, and {target.place} is none (jdbc:...)")
    file = _single_file(target)
    if file is None:
        if _format(target) is None:
            endings = ", ".join(SUFFIXES)
            raise ConfigError(f"{target.place}: of what format? Give a file an ending ({endings}), a folder --format")
        _check_folder(target)
        return
    if target.format not in (None, SUFFIXES[_ending(file.name)]):
        raise ConfigError(f"--format {target.format} and the name {file.name} contradict each other")
    if target.mode == "append":
        raise ConfigError(f"--mode append: {file} is one file, which is written as a whole: use replace")
    refuse_overwriting(file, option="TARGET", force=target.mode == "replace", replacing="--mode replace")


def _check_folder(target: Target) -> None:
    """Refuse a folder of this machine that is there, or of which more than an export would be replaced."""
    folder = local_path(target.place)
    if folder is None or not folder.exists():
        return
    if not folder.is_dir():
        raise ConfigError(f"{target.place}: is a file, and --format {target.format} writes a folder: name another one")
    if target.mode == "fail":
        raise _is_there_already(target)
    if target.mode == "replace":
        _refuse_foreign(target.place, _foreign_name(folder))


def _is_there_already(target: Target) -> ConfigError:
    return ConfigError(f"{target.place}: is there already: --mode replace or --mode append")


def refuse_own_places(target: Target, config: Config) -> None:
    """Refuse to write where the tables lie, or over a source.

    Raises:
        ConfigError: naming which of them.
    """
    if target.is_database:
        return
    own = {} if config.lakehouse.catalog is not None else {"lakehouse.root": config.lakehouse.root}
    if config.lakehouse.files is not None:
        own["lakehouse.files"] = config.lakehouse.files
    sources = {f"sources.{name}.path": str(source.path) for name, source in config.sources.items()}
    for key, place in {**own, **sources}.items():
        if _holds(place, target.place) or _holds(target.place, place):
            raise ConfigError(f"{target.place}: is where {key} is ({place}): export to a place of its own")


def _holds(place: str, other: str) -> bool:
    """Whether the other place is this one, or within it."""
    folder, file = local_path(place), local_path(other)
    if folder is not None and file is not None:
        return file.resolve().is_relative_to(folder.resolve())
    return f"{other.rstrip('/')}/".startswith(f"{place.rstrip('/')}/")


def run(lakehouse: Lakehouse, selection: Selection, target: Target) -> int:
    """Write the selected rows to the target.

    Returns:
        How many there are.

    Raises:
        ConfigError: no such table, column, version or condition; the target is there already.
        DlmineError: the target cannot be written; it is as it was before.
    """
    rows = _selected(lakehouse, selection)
    if target.is_database:
        return _to_database(rows, target)
    file = _single_file(target)
    with _writing(target):
        if file is not None:
            _to_file(rows, target, file)
        else:
            _to_folder(rows, target)
    return rows.count()


@contextmanager
def _writing(target: Target) -> Iterator[None]:
    """What errors of the storage mean, in one line."""
    try:
        yield
    except (PySparkException, Py4JJavaError, OSError) as error:
        text = str(error)
        reason = lack_of_s3(text) or explained(text, target.place, os.environ)
        if reason is None and "No space left on device" in text:
            reason = "no space left on device"
        if reason is None and "Permission denied" in text:
            reason = "permission denied"
        if reason is None:
            raise
        raise EnvironmentProblem(f"{target.place}: {reason}") from error


def _selected(lakehouse: Lakehouse, selection: Selection) -> DataFrame:
    if "." not in selection.table or lakehouse.version(selection.table) is None:
        names = lakehouse.local_tables() or SparkBrowser(lakehouse).tables()
        refuse_nothing(names, lakehouse.config.catalog or root_of(lakehouse.config))
        selection = replace(selection, table=full_name(selection.table, names))
    try:
        rows = lakehouse.read(selection.table, selection.version)
        unknown = [name for name in selection.columns if name not in rows.columns]
        if unknown:
            raise ConfigError(f"{selection.table} has no column {unknown[0]}; it has {', '.join(rows.columns)}")
        if selection.where is not None:
            rows = rows.where(selection.where)
        if selection.columns:
            rows = rows.select(*(f"`{name}`" for name in selection.columns))
        rows.schema  # noqa: B018  # Conditions are looked at here, also through Spark Connect.
    except (AnalysisException, ParseException) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigError(f"--where {selection.where!r}: {first.strip()}") from error
    return rows


def _texts_of_nested(rows: DataFrame) -> DataFrame:
    """Lists and the like as JSON, for targets that have cells only."""
    nested = (T.ArrayType, T.MapType, T.StructType, T.VariantType)
    return rows.select(
        *(
            F.to_json(F.col(f"`{field.name}`")).alias(field.name)
            if isinstance(field.dataType, nested)
            else F.col(f"`{field.name}`")
            for field in rows.schema
        )
    )


# Files


def _single_file(target: Target) -> Path | None:
    """The file of this machine that a target names by its ending; None for folders and object stores."""
    path = local_path(target.place)
    is_file = path is not None and _ending(path.name) in SUFFIXES
    return path.absolute() if is_file and path is not None and not path.is_dir() else None


def _format(target: Target) -> Format | None:
    return target.format or SUFFIXES.get(_ending(target.place))


def _ending(name: str) -> str:
    """The ending that tells a file's format, in small letters: ``.csv`` of ``OUT.CSV.gz``."""
    return Path(name.lower().removesuffix(_COMPRESSED)).suffix


def _to_file(rows: DataFrame, target: Target, file: Path) -> None:
    """One file: Spark writes it beside its place by one task, and it is put there at the end."""
    spark = rows.sparkSession
    if not is_local(spark):
        raise EnvironmentProblem(
            f"{target.place}: lies on this machine, and the executors are on others: export to a place that all reach "
            "(hdfs:, s3a:, a mounted folder with --format)"
        )
    with (
        written_whole(file, force=target.mode == "replace") as partial,
        room_beside(file) as room,
    ):
        folder = room / "rows"
        _write(rows.coalesce(1), target, str(folder), "error", is_compressed=file.suffix.lower() == _COMPRESSED)
        (part,) = folder.glob("part-*")
        shutil.move(part, partial)


def _to_folder(rows: DataFrame, target: Target) -> None:
    """A folder of files, as many as Spark has tasks; ``_SUCCESS`` in it says that it is whole.

    On a file system of this machine it is written beside its place first. In an object store nothing can be put in its
    place at once: there the old files are gone when the new ones begin to be written, and ``_SUCCESS`` comes last.
    """
    folder = local_path(target.place)
    if target.mode == "replace":
        _refuse_foreign(target.place, _foreign_file(rows.sparkSession, target.place))
    # Executors elsewhere may know another folder by this name, of HDFS, say; one that is there they share.
    if folder is not None and target.mode != "append" and (folder.is_dir() or is_local(rows.sparkSession)):
        _to_local_folder(rows, target, folder.absolute())
        return
    mode = {"fail": "error", "replace": "overwrite", "append": "append"}[target.mode]
    try:
        _write(rows, target, target.place, mode, is_compressed=False)
    except AnalysisException as error:
        if error.getCondition() != "PATH_ALREADY_EXISTS":
            raise
        raise _is_there_already(target) from error


def _to_local_folder(rows: DataFrame, target: Target, folder: Path) -> None:
    """A folder that is written beside its place, and put there when it is whole.

    Raises:
        ConfigError: it is there already, or came to be there meanwhile.
    """
    if target.mode == "fail" and folder.exists():
        raise _is_there_already(target)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with room_beside(folder) as room:
        new, old = room / "new", room / "old"
        _write(rows, target, str(new), "error", is_compressed=False)
        if target.mode == "replace":
            # Of two exports at once, the other may have taken it away.
            with suppress(FileNotFoundError):
                folder.replace(old)
        try:
            new.replace(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise ConfigError(f"{target.place}: came to be there meanwhile; nothing was replaced") from error


def _refuse_foreign(place: str, foreign: str | None) -> None:
    """Refuse to replace a folder that holds more than an export would, which is a file of this name."""
    if foreign is not None:
        raise ConfigError(
            f"{place}: --mode replace would remove {foreign}, which is no file of an export: name another folder"
        )


def _foreign_file(spark: SparkSession, place: str) -> str | None:
    folder = local_path(place)
    if folder is not None:
        return _foreign_name(folder)
    name = F.element_at(F.split("path", "/"), -1)
    try:
        files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(place)
        # A folder may hold very many: one that does not belong there is enough.
        found = files.where(~name.rlike(f"^(?:{_OF_AN_EXPORT.pattern})$")).select(name).limit(1).collect()
    except AnalysisException as error:
        if error.getCondition() != "PATH_NOT_FOUND":
            raise
        return None
    return str(found[0][0]) if found else None


def _foreign_name(folder: Path) -> str | None:
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return next((name for name in names if not _OF_AN_EXPORT.fullmatch(name)), None)


def _write(rows: DataFrame, target: Target, place: str, mode: str, *, is_compressed: bool) -> None:
    format_ = _format(target)
    options: dict[str, Any] = {"timestampFormat": _MOMENT + "XXX", "timestampNTZFormat": _MOMENT}
    if format_ == "csv":
        rows = _texts_of_nested(rows)
        # A quote inside quotes is doubled, as RFC 4180 has it; spaces are data.
        options |= {"header": "true", "escape": '"', "ignoreLeadingWhiteSpace": "false"}
        options |= {"ignoreTrailingWhiteSpace": "false"}
    if is_compressed:
        options["compression"] = "gzip"
    elif format_ != "parquet":
        options["compression"] = "none"
    writer = rows.write.mode(mode).format(str(format_))
    (writer if format_ == "parquet" else writer.options(**options)).save(place)


# Databases


def _database(target: Target) -> Database:
    keys = {"address": "TARGET", "table": "--into", "credentials": "--credentials", "driver": "TARGET"}
    return Database(target.place, f"{target.place}#{target.into}", target.credentials, None, keys)


def _to_database(rows: DataFrame, target: Target) -> int:
    """Rows go to a new table first, written by all tasks; one transaction makes them those of the target.

    A run that is killed leaves the new table behind, which the next one drops, and the target as it was.
    """
    spark, database, into = rows.sparkSession, _database(target), str(target.into)
    staging = _staging(into)
    rows = _texts_of_nested(rows)
    with database.asking(), _alone(spark, database, into):
        is_there = _is_there(spark, database, into)
        if is_there and target.mode == "fail":
            raise ConfigError(f"{database.where}: is there already: --mode replace or --mode append")
        if not is_there and database.product not in _CAN_RENAME:
            raise ConfigError(f"{database.where}: is not there: create the table first, with these columns")
        _execute(spark, database, [f"DROP TABLE IF EXISTS {staging}"])
        options = {**database.options(), "dbtable": staging, "batchsize": _ROWS_A_TRIP}
        with _dropped_on_failure(spark, database, staging):
            rows.write.format("jdbc").options(**options).mode("error").save()
            # Counted by the database: the rows need not travel back.
            asked = {**database.options(), "query": f"SELECT COUNT(*) AS n FROM {staging}"}
            written = int(spark.read.format("jdbc").options(**asked).load().collect()[0][0])
            _execute(spark, database, _swap(database, target, staging, rows.columns, is_there=is_there))
    return written


def _split(into: str) -> tuple[str, str]:
    """The schema that a table is in, with its dot, and the table's own name."""
    match = _LAST_NAME.search(into)
    name = match[1] if match is not None else into
    return into.removesuffix(name), name


def _staging(into: str) -> str:
    """A table of the same schema; its name is short, since databases cut long ones, and so would name the target."""
    schema, name = _split(into)
    return f"{schema}dlmine_new_{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _swap(database: Database, target: Target, staging: str, columns: Sequence[str], *, is_there: bool) -> list[str]:
    """The statements that make the rows of the staging table those of the target."""
    into = str(target.into)
    if not is_there:
        return [f"ALTER TABLE {staging} RENAME TO {_split(into)[1]}"]
    names = ", ".join(database.quoted(name) for name in columns)
    deleted = [f"DELETE FROM {into}"] if target.mode == "replace" else []
    return [*deleted, f"INSERT INTO {into} ({names}) SELECT {names} FROM {staging}", f"DROP TABLE {staging}"]


def _is_there(spark: SparkSession, database: Database, table: str) -> bool:
    try:
        spark.read.format("jdbc").options(**database.options(), dbtable=table).load()
    except Exception as error:
        if _NO_TABLE.search(str(error)):
            return False
        raise
    return True


@contextmanager
def _dropped_on_failure(spark: SparkSession, database: Database, staging: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        try:
            _execute(spark, database, [f"DROP TABLE IF EXISTS {staging}"])
        except Exception as second:
            # What went wrong first is what the user needs to know.
            log.warning("%s: %s could not be dropped: %s", database.where, staging, type(second).__name__)
        raise


def _execute(spark: SparkSession, database: Database, statements: Sequence[str]) -> None:
    """Run statements in one transaction, by the JVM's driver; what was not committed is undone."""
    with _connected(spark, database) as connection:
        connection.setAutoCommit(False)
        statement = connection.createStatement()
        for sql in statements:
            statement.execute(sql)
        connection.commit()


@contextmanager
def _alone(spark: SparkSession, database: Database, into: str) -> Iterator[None]:
    """Keep a second export out of a table, which would write to the same staging table; where the database can.

    Raises:
        DlmineError: another one is at work.
    """
    if database.product not in _ALONE:
        yield
        return
    # By the table's own name, as its staging table is.
    key = int.from_bytes(hashlib.sha256(_split(into)[1].encode()).digest()[:8], signed=True)
    with _connected(spark, database) as connection:
        answer = connection.createStatement().executeQuery(_ALONE[database.product].format(key))
        answer.next()
        # Of PostgreSQL a truth, of MySQL a number; both are 0 as a number where another one has the lock.
        if answer.getString(1) not in ("t", "1"):
            raise DlmineError(f"{database.where}: another export is writing to it: wait for that one, and run again")
        yield


@contextmanager
def _connected(spark: SparkSession, database: Database) -> Iterator[Any]:
    """A connection of the JVM's driver, which is closed at the end.

    Raises:
        EnvironmentProblem: through Spark Connect there is no such driver.
    """
    if is_remote():
        raise EnvironmentProblem(
            f"{database.where}: databases are written from the driver, which a session of Spark Connect has none of: "
            "use spark-submit or local mode, or export files"
        )
    java = cast("Any", spark._jvm)
    options = database.options()
    properties = java.java.util.Properties()
    for key, value in options.items():
        if key not in ("url", "driver"):
            properties.setProperty(key, value)
    connection = java.java.sql.DriverManager.getConnection(options["url"], properties)
    try:
        yield connection
    finally:
        connection.close()
