"""Segment models as rows of ``gold.segment_models``, and centres in MLlib's own format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.errors import TableContractError
from dlmine_spark.segmentation.features import Catalogue
from dlmine_spark.segmentation.scaling import Axis, Scaling
from dlmine_spark.segmentation.segments import SegmentModel


def to_row(model: SegmentModel, run_id: str, fitted_at: datetime) -> tuple[Any, ...]:
    """A row of ``gold.segment_models``."""
    axes = [tuple(asdict(axis).values()) for axis in model.scaling.axes]
    catalogue = model.catalogue
    return (
        catalogue.entity,
        list(catalogue.names),
        axes,
        model.centres.tolist(),
        list(model.limits),
        run_id,
        fitted_at,
    )


def from_row(row: Mapping[str, Any], catalogue: Catalogue) -> SegmentModel:
    """The model that a row holds.

    Raises:
        TableContractError: it was fitted on other features than there are now.
    """
    if list(row["features"]) != list(catalogue.names):
        differ = sorted(set(row["features"]) ^ set(catalogue.names)) or ["their order"]
        raise TableContractError(
            f"{s.SEGMENT_MODELS.name}: the segments of {catalogue.entity}s were fitted on other features "
            f"({', '.join(differ)}); fit them anew with segmentation.assign_only=false"
        )
    names = [field.name for field in fields(Axis)]
    axes = tuple(Axis(**{name: axis[name] for name in names}) for axis in row["axes"])
    # One segment of entities that do not differ has a centre without coordinates.
    centres = np.array(row["centres"], dtype=np.float64).reshape(len(row["centres"]), len(axes))
    return SegmentModel(catalogue, Scaling(axes), centres, tuple(row["limits"]))


def save_for_mllib(spark: SparkSession, centres: NDArray[np.float64], path: str) -> None:
    """Write centres as a model that ``pyspark.ml.clustering.KMeansModel.load`` reads.

    MLlib's own models can be made by its fit only; their files are plain ones. Predictions agree with ``assign`` for
    vectors in scaled units.

    Args:
        spark: the session.
        centres: one row a segment, by number.
        path: folder on a file system that Spark writes to; replaced if it is there.
    """
    numbered = [(number, centre) for number, centre in enumerate(centres.tolist())]
    data = spark.createDataFrame(numbered, "clusterIdx int, centre array<double>")
    data = data.select("clusterIdx", array_to_vector(F.col("centre")).alias("clusterCenter"))
    data.coalesce(1).write.mode("overwrite").parquet(f"{path}/data")
    metadata = {
        "class": "org.apache.spark.ml.clustering.KMeansModel",
        "timestamp": 0,
        "sparkVersion": spark.version,
        "uid": "KMeans_dlmine",
        "paramMap": {"k": len(centres)},
        "defaultParamMap": {
            "distanceMeasure": "euclidean",
            "featuresCol": "features",
            "predictionCol": "prediction",
            "k": 2,
        },
    }
    _text(spark, json.dumps(metadata)).coalesce(1).write.mode("overwrite").text(f"{path}/metadata")


def _text(spark: SparkSession, line: str) -> DataFrame:
    return spark.createDataFrame([(line,)], "value string")
