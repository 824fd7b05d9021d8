"""The only place that builds a Spark session: local mode, spark-submit, Spark Connect or a platform's own.

A session that was already there (Databricks, a notebook, a test) is used as it is and never stopped.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

import pyspark
from py4j.protocol import Py4JError, Py4JJavaError
from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from dlmine_spark.clusters import cause, first_line, require_answer, require_executors
from dlmine_spark.config import SparkConfig
from dlmine_spark.errors import ConfigError, EnvironmentProblem
from dlmine_spark.redaction import without_credentials
from dlmine_spark.slots import is_local
from dlmine_spark.stores import endpoint_of, region_of

log = logging.getLogger(__name__)

DELTA_EXTENSION = "io.delta.sql.DeltaSparkSessionExtension"
DELTA_VERSION = "4.4.0"
"""The one that this program is made for (pyproject.toml), where none is installed as a package."""
HADOOP_VERSION = "3.5.0"
"""Spark 4.2's."""
PACKAGES = "spark.jars.packages"
_NO_S3 = re.compile(r"Class org\.apache\.hadoop\.fs\.s3a\.S3AFileSystem not found|No FileSystem for scheme \"s3")
DELTA_CATALOG = "org.apache.spark.sql.delta.catalog.DeltaCatalog"
_SETTINGS = {
    "spark.sql.extensions": DELTA_EXTENSION,
    "spark.sql.catalog.spark_catalog": DELTA_CATALOG,
    # Dates and times mean the same on every machine.
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.ui.showConsoleProgress": "false",
    # One small file per task is what ruins later reads; let Spark choose by size.
    "spark.sql.adaptive.enabled": "true",
    # What Spark takes for small, and copies to every task, it judges by the size of files: three million rows of a
    # panel were 7 MB there, and ended a driver with a heap of 1 GB.
    "spark.sql.sources.fileCompressionFactor": "10",
    "spark.sql.debug.maxToStringFields": "200",
    # Noting the Python line of every expression, for errors that name ours anyway, takes longer than making it.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
    # Java never compiles a method of more than 8,000 bytes; beyond, Spark's split code is several times faster.
    "spark.sql.codegen.hugeMethodLimit": "8000",
    # A pipeline has more generated classes than Spark's 100, and would compile them again and again.
    "spark.sql.codegen.cache.maxEntries": "1000",
}

S3_SETTINGS = {
    # A store that is gone is told of within a minute; Hadoop's own patience is of ten.
    "spark.hadoop.fs.s3a.connection.establish.timeout": "15s",
    "spark.hadoop.fs.s3a.connection.timeout": "30s",
    "spark.hadoop.fs.s3a.attempts.maximum": "2",
    "spark.hadoop.fs.s3a.retry.limit": "3",
    "spark.hadoop.fs.s3a.retry.interval": "500ms",
}
"""For addresses that begin with s3a; without effect on others."""

_SETTINGS_OF_REMOTE_SESSION = ("spark.sql.session.timeZone", "spark.sql.sources.fileCompressionFactor")
"""What a server that others have started is asked for."""

CLASS_ARCHIVE = "dlmine-classes.jsa"
"""Spark's and Delta's classes as Java keeps them ready to use (made by set-up, beside Spark's jars): loading them from
four hundred jars takes half of a session's start."""
QUICK_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ReservedCodeCacheSize=240m -XX:+UseTransparentHugePages"
"""Compiles fast instead of well. Without its second compiler Java would reserve 48 MB for compiled code, which Spark
fills within minutes; Java then spends its time throwing code away. Virtual machines look up pages of 4 kB slowly,
some of them very (docs/benchmarks.md)."""
THROUGHPUT_GC = "-XX:+UseParallelGC"
"""Java's own choice keeps pauses short, which nobody waits for here, at a fifth of the work (docs/benchmarks.md)."""
DEEP_STACK = "-Xss16m"
"""MLlib sends the trees of FP-growth through Java's serializer, which recurses an item at a time: with Java's 1 MB a
basket of some hundred frequent items ends the JVM."""
_NO_DELTA = re.compile(
    r"ClassNotFoundException: (org\.apache\.spark\.sql\.delta|io\.delta)|cannot assign instance of \S*SerializedLambda"
)
"""What Java says of a task that needs Delta where there is none; of a function among its arguments, the latter."""
_OUT_OF_MEMORY = 52  # Spark's exit code for an executor, here the local one, without memory


@contextmanager
def open_session(config: SparkConfig) -> Iterator[SparkSession]:
    """A session with Delta Lake, built if there is none; stopped at the end only if it was built here.

    Raises:
        EnvironmentProblem: no Java, no Delta jars, no cluster at the address, no executors or such as cannot run our
            code; or the JVM ended while it was in use.
    """
    existing = SparkSession.getActiveSession()
    if existing is not None:
        _check_delta(existing)
        yield existing
        return
    spark = _build(config)
    try:
        if config.remote is None and not on_databricks() and not is_local(spark):
            require_executors(spark, config.executor_timeout)
        _check_delta(spark)
        yield spark
    except KeyboardInterrupt:
        # What Spark says of the jobs that end with it is no news to who ended them.
        with suppress(Exception):
            spark.sparkContext.setLogLevel("OFF")
        raise
    except (Py4JError, ConnectionError) as error:
        reason = _end_of_jvm(config) or _lack_of_executors(error)
        if reason is None:
            raise
        raise EnvironmentProblem(reason) from error
    finally:
        # A JVM that died under us (kill -9) must not hide the error that ended the job.
        with suppress(Exception):
            if not on_databricks():
                spark.stop()


def _end_of_jvm(config: SparkConfig) -> str | None:
    """Why nobody answers at the other end: what became of the JVM that this program started; None if it still runs."""
    process = getattr(SparkContext._gateway, "proc", None)
    if process is None:
        return None
    try:
        # The connection breaks a moment before the process is gone.
        code = process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        return None
    more = f"raise spark.driver_memory (now {config.driver_memory}) or give Spark less at a time"
    reason = {
        _OUT_OF_MEMORY: f"it ran out of memory: {more}",
        -signal.SIGKILL: f"it was killed, by the system for want of memory or by hand: {more}",
    }.get(code, f"exit code {code}; if memory was short, {more}")
    return f"Spark's JVM ended while it worked ({reason}); run the same command again to go on from here"


def delta_coordinates() -> str:
    """Maven coordinates of the Delta jar that fits the installed pyspark and delta-spark."""
    try:
        delta_version = version("delta-spark")
    except PackageNotFoundError:
        # A cluster's own Spark, or a packed environment, which has no packages that only bring jars.
        delta_version = DELTA_VERSION
    # Of the Spark that is in use; a cluster's own is no installed package.
    return f"io.delta:delta-spark_{'.'.join(pyspark.__version__.split('.')[:2])}_2.13:{delta_version}"


def s3_coordinates() -> str:
    """Maven coordinates of Hadoop's S3 client that fits Spark's Hadoop; Amazon's own classes come with it."""
    found = sorted((spark_home() / "jars").glob("hadoop-client-api-*.jar"))
    version = found[-1].stem.removeprefix("hadoop-client-api-") if found else HADOOP_VERSION
    return f"org.apache.hadoop:hadoop-aws:{version}"


def s3_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Settings of Hadoop's S3 client by what the environment says of the server; credentials it finds there itself."""
    settings = dict(S3_SETTINGS)
    endpoint, region = endpoint_of(environment), region_of(environment)
    if endpoint is not None and without_credentials(endpoint) == endpoint:
        # Names of buckets as names of hosts are Amazon's own.
        settings |= {"spark.hadoop.fs.s3a.endpoint": endpoint, "spark.hadoop.fs.s3a.path.style.access": "true"}
    if region is not None:
        settings["spark.hadoop.fs.s3a.endpoint.region"] = region
    return settings


def lack_of_s3(message: str) -> str | None:
    """What an error says of a Spark that has no client for S3, in our words; None if it is something else."""
    if not _NO_S3.search(message):
        return None
    coordinates = s3_coordinates()
    return (
        f"Spark lacks the jars for S3: 'make s3' puts {coordinates} and what it needs beside Spark's (about 600 MB to "
        f"fetch), or --set spark.conf.{PACKAGES}={coordinates} has each start look for them (spark-submit: --packages)"
    )


def spark_home() -> Path:
    """Folder of the Spark installation whose jars this interpreter's sessions use."""
    if "SPARK_HOME" in os.environ:
        return Path(os.environ["SPARK_HOME"])
    found = importlib.util.find_spec("pyspark")
    if found is None or found.origin is None:
        raise EnvironmentProblem("pyspark is not installed: pip install 'dlmine-spark[spark]'")
    return Path(found.origin).parent


def cores_of_master(master: str) -> int | None:
    """Cores of ``local[N]`` and ``local[*]``; None for a cluster."""
    if master == "local":
        return 1
    if not master.startswith("local["):
        return None
    inside = master[len("local[") :].split("]")[0].split(",")[0]
    return (os.cpu_count() or 1) if inside == "*" else int(inside)


def _build(config: SparkConfig) -> SparkSession:
    # Executors run the interpreter this program runs in, else they may lack its packages.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(config.app_name)
    ours: str | None = None
    if config.remote is not None:
        _refuse_other_addresses(config.remote)
        require_answer(_place(config))
        builder = builder.remote(config.remote)
    elif not on_databricks():
        if not os.environ.get("JAVA_HOME") and shutil.which("java") is None:
            raise EnvironmentProblem("Java is not installed: install a JDK 17 or newer, or set JAVA_HOME")
        require_answer(config.master or _submitted_settings().get("spark.master", ""))
        _tell_of_contradictions(config)
        settings = {**_SETTINGS, **s3_settings(os.environ), **_master_settings(config)}
        for key, value in settings.items():
            builder = builder.config(key, value)
        ours = settings.get(PACKAGES)
    for key, setting in config.conf.items():
        builder = builder.config(key, f"{ours},{setting}" if key == PACKAGES and ours else setting)
    try:
        with _interrupts_held_back():
            spark = builder.getOrCreate()
    except Exception as error:
        # The launcher raises whatever it met: a Py4J error, a PySparkException, an OSError.
        raise EnvironmentProblem(
            f"Spark did not start ({_place(config)}): {first_line(error)}; run 'dlmine doctor'"
        ) from error
    if on_databricks():
        return spark
    if config.remote is None:
        spark.sparkContext.setLogLevel("ERROR")
        for key, value in _partition_settings(config, spark.sparkContext.master or "").items():
            # Asked of the running session, since spark-submit knows a master that this program was not told.
            if not spark.sparkContext.getConf().contains(key):
                spark.conf.set(key, value)
    else:
        for key in _SETTINGS_OF_REMOTE_SESSION:
            spark.conf.set(key, _SETTINGS[key])
    return spark


def on_databricks() -> bool:
    """Whether this process runs on the platform, which has a session for it and settings of its own."""
    return "DATABRICKS_RUNTIME_VERSION" in os.environ


def _place(config: SparkConfig) -> str:
    """Where the session runs, without the token that the address of a server may hold."""
    if config.remote is not None:
        return config.remote.partition(";")[0].rpartition("@")[2]
    return config.master or "default master"


def _refuse_other_addresses(remote: str) -> None:
    """Refuse an address that is none of Spark Connect's, and to go on without its packages.

    Raises:
        ConfigError: without the address, which may hold a token.
        EnvironmentProblem: the packages are not installed.
    """
    address = urlsplit(remote.partition(";")[0])
    if address.scheme != "sc" or not address.hostname:
        raise ConfigError("spark.remote is no address of a server: expected sc://host:port")
    if importlib.util.find_spec("grpc") is None:
        raise EnvironmentProblem(
            "spark.remote needs the packages of Spark Connect: pip install 'dlmine-spark[connect]'"
        )


def _submitted_settings() -> dict[str, str]:
    """What spark-submit was told, by options and by the cluster's own defaults; nothing where it was not used."""
    if not _is_submitted():
        return {}
    SparkContext._ensure_initialized()
    return dict(SparkConf(loadDefaults=True).getAll())


def _is_submitted() -> bool:
    """Whether spark-submit started this program, and the JVM before it."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def _tell_of_contradictions(config: SparkConfig) -> None:
    """What a program sets counts more for Spark than an option of spark-submit, which users may not expect."""
    submitted = _submitted_settings()
    for key, value in config.conf.items():
        if submitted.get(key, _plain(value)) != _plain(value):
            log.warning(
                "%s: the configuration's %s counts, not %s, which spark-submit was told (--set spark.conf.%s=%s)",
                *(key, value, submitted[key], key, submitted[key]),
            )


def _plain(value: str | int | float | bool) -> str:
    """A setting as Spark writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _lack_of_executors(error: BaseException) -> str | None:
    """What executors turned out to lack in the midst of the work, in our words; None if it is something else."""
    if not isinstance(error, Py4JJavaError) or not _NO_DELTA.search(str(error)):
        return None
    return (
        "the executors lack classes that the driver has, Delta's most likely: put its jars beside Spark's on every "
        f"machine, or give spark-submit --packages {delta_coordinates()}; both need the same version of Spark, too "
        f"({cause(str(error))})"
    )


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let Ctrl-C wait until the JVM that is being started knows us: before, it would stay behind as an orphan."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupts: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    ours = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        # Spark may have put its own in the place of ours, which also stops its jobs.
        if signal.getsignal(signal.SIGINT) is ours:
            signal.signal(signal.SIGINT, handler)
    if interrupts:
        raise KeyboardInterrupt


def _master_settings(config: SparkConfig) -> dict[str, str]:
    """Settings that depend on where the session runs."""
    settings: dict[str, str] = {}
    # spark-submit has chosen a master and started the JVM already; both must stay as they are.
    submitted = _is_submitted()
    master = config.master or (None if submitted else "local[*]")
    if master is not None:
        settings["spark.master"] = master
    if not submitted:
        settings["spark.driver.memory"] = config.driver_memory
        # IPv4 loopback by name avoids a lookup of a host name that laptops and containers often lack.
        if master and master.startswith("local"):
            settings["spark.driver.host"] = "localhost"
            settings["spark.driver.bindAddress"] = "127.0.0.1"
        settings["spark.driver.extraJavaOptions"] = " ".join(java_options(config))
        settings["spark.executor.extraJavaOptions"] = DEEP_STACK
        if not any((spark_home() / "jars").glob("delta-spark_*.jar")):
            log.info("Delta's jars are not beside Spark's: resolving %s", delta_coordinates())
            settings[PACKAGES] = delta_coordinates()
    return settings


def _partition_settings(config: SparkConfig, master: str) -> dict[str, str]:
    """Tasks per step: as declared; in local mode a few, where a task more is a delay more."""
    cores = cores_of_master(master)
    settings = {}
    if config.shuffle_partitions or cores:
        settings["spark.sql.shuffle.partitions"] = str(config.shuffle_partitions or 2 * (cores or 1))
    if cores:
        # Delta replays its log in 50 tasks by default.
        settings["spark.databricks.delta.snapshotPartitions"] = "1"
    return settings


def java_options(config: SparkConfig) -> list[str]:
    """Options of the JVM that this program starts; whoever starts one by spark-submit may give it the same."""
    options = [f"-Dlog4j2.configurationFile={Path(__file__).with_name('log4j2.properties').as_uri()}", DEEP_STACK]
    archive = spark_home() / CLASS_ARCHIVE
    if archive.exists():
        # An archive of another Java is passed over, without a word.
        options += [f'"-XX:SharedArchiveFile={archive}"', "-Xshare:auto", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
    options.append(QUICK_JVM if config.jvm == "quick" else THROUGHPUT_GC)
    return options


def _check_delta(spark: SparkSession) -> None:
    """Fail now, with the way out, rather than at the first write; what lacks the catalog only is told there."""
    try:
        spark.sql("DESCRIBE HISTORY delta.`/nonexistent-dlmine-probe`")
    except Exception as error:
        if not _told_by_delta(str(error)):
            raise EnvironmentProblem(
                "this Spark session has no Delta Lake: start it with "
                f"--packages {delta_coordinates()} --conf spark.sql.extensions={DELTA_EXTENSION} "
                f"--conf spark.sql.catalog.spark_catalog={DELTA_CATALOG} ({first_line(error)})"
            ) from error


def _told_by_delta(message: str) -> bool:
    """Whether an error is one of Delta's own, such as [DELTA_TABLE_ONLY_OPERATION]; others name its classes, too."""
    return re.search(r"\bDELTA_[A-Z]", message) is not None
