from __future__ import annotations

from typing import cast

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from dlmine_spark.caching import kept


def test_a_frame_is_kept_as_long_as_it_is_in_use(spark: SparkSession) -> None:
    with kept(spark.range(3)) as rows:
        assert rows.storageLevel.useMemory
        assert rows.count() == 3
    assert not rows.storageLevel.useMemory


class OnServerless:
    """A frame of a platform that keeps none."""

    def persist(self) -> DataFrame:
        raise PySparkException("[NOT_SUPPORTED_WITH_SERVERLESS] PERSIST TABLE is not supported on serverless compute")


def test_where_nothing_is_kept_the_frame_serves_as_it_is() -> None:
    frame = cast(DataFrame, OnServerless())
    with kept(frame) as rows:
        assert rows is frame
