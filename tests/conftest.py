"""Fixtures of all tests: one lazily started Spark session a process, a fresh lakehouse, the public data's folder."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from pyspark.sql import SparkSession

from dlmine_spark.config import LakehouseConfig, SparkConfig
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.session import open_session

# A machine that does other work as well draws its examples slowly.
hypothesis.settings.register_profile("shared", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("shared")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest file, so that another process runs everything else beside it."""
    items.sort(key=lambda item: item.path.name != "test_jobs.py")


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A local session with two slots and Delta, started by the first test that asks for it.

    Expressions are interpreted, plans stay as they are and files have no statistics: compiling, planning anew after
    each step and measuring take longer than a few rows do. What users run, with all of that, is run by the tests of
    jobs.
    """
    config = SparkConfig(
        master="local[2]",
        driver_memory="1500m",
        jvm="quick",
        shuffle_partitions=2,
        conf={
            "spark.ui.enabled": "false",
            "spark.sql.warehouse.dir": "build/test-warehouse",
            "spark.sql.codegen.wholeStage": "false",
            "spark.sql.codegen.factoryMode": "NO_CODEGEN",
            "spark.sql.adaptive.enabled": "false",
            "spark.databricks.delta.stats.collect": "false",
            # Without them the log cannot answer a count, but is asked in a query of its own each time.
            "spark.databricks.delta.optimizeMetadataQuery.enabled": "false",
            # What is kept of past queries and tables grows with the number of tests, and filled the heap.
            "spark.databricks.delta.delta.log.cacheSize": "30",
            "spark.sql.ui.retainedExecutions": "10",
            "spark.ui.retainedJobs": "50",
            "spark.ui.retainedStages": "50",
            "spark.ui.retainedTasks": "1000",
        },
    )
    with open_session(config) as session:
        yield session


@pytest.fixture
def compiled(spark: SparkSession) -> Iterator[None]:
    """Expressions compiled and plans adapted, as users' are: for much data, or where the plan itself matters."""
    settings = {
        "spark.sql.codegen.wholeStage": "true",
        "spark.sql.codegen.factoryMode": "FALLBACK",
        "spark.sql.adaptive.enabled": "true",
    }
    before = {key: spark.conf.get(key) for key in settings}
    for key, value in settings.items():
        spark.conf.set(key, value)
    yield
    for key, value in before.items():
        spark.conf.set(key, str(value))


@pytest.fixture
def lakehouse(spark: SparkSession, tmp_path: Path) -> Lakehouse:
    """An empty lakehouse under the test's own folder."""
    return Lakehouse(spark, LakehouseConfig(root=str(tmp_path / "lakehouse")))


@pytest.fixture(scope="session")
def public_data() -> Path:
    """The folder of public data; tests that need it are skipped where ``DLMINE_DATA`` is unset."""
    folder = os.environ.get("DLMINE_DATA")
    if not folder:
        pytest.skip("DLMINE_DATA is not set: no public data to test with")
    return Path(folder)


@pytest.fixture
def silent_server() -> Iterator[int]:
    """The port of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield server.getsockname()[1]
