"""A lakehouse of its own beside the tables, for work that must leave them as they are."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession

from dlmine_spark.config import LakehouseConfig
from dlmine_spark.errors import ConfigError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.places import local_path, root_of


@contextmanager
def scratch_lakehouse(spark: SparkSession, config: LakehouseConfig, purpose: str) -> Iterator[Lakehouse]:
    """An empty lakehouse on the disk that has room for the tables; removed at the end.

    Args:
        spark: the session.
        config: where the tables lie.
        purpose: the option that it is for, without its dashes.

    Raises:
        ConfigError: the tables lie where no scratch folder can be made and removed.
    """
    root = local_path(root_of(config)) if config.catalog is None else None
    if root is None:
        raise ConfigError(
            f"--{purpose} needs a local or mounted folder to work in: add --set lakehouse.root=FOLDER "
            "--set lakehouse.catalog=null; the tables there are then what it compares with"
        )
    folder = root.parent / f".{root.name}-{purpose}-{uuid.uuid4().hex[:8]}"
    try:
        yield Lakehouse(spark, LakehouseConfig(root=str(folder)), run_id=purpose, pinned={})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
