"""Embeddings: what the networks learned of each series, as numbers that can be clustered, and whether that is news.

The state of a network's encoder at the end of a series' past is all that its decoder gets to know of that past. Those
states, clustered, are segments that nobody designed features for; here they are compared with the segments by
hand-made features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import Config, SegmentationConfig
from dlmine_spark.errors import TableContractError
from dlmine_spark.frequency import Moment, sql_literal
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.calibration import segments_as_of
from dlmine_spark.pipelines.forecast import newest_cutoffs
from dlmine_spark.pipelines.train import forecasts_in, panel_source, trained_models
from dlmine_spark.pipelines.truth import true_types
from dlmine_spark.segmentation.choice import adjusted_rand, assess, silhouette
from dlmine_spark.segmentation.lloyd import Floats, Labels, best_clusters, nearest
from dlmine_spark.training.predict import EMBEDDING, EMBEDDING_FILE, cutoff_folder, embed_cutoff, write_embeddings

SAMPLE = 2_000
"""Series that axes and centres are fitted on, by the hash of their ids."""
FEWEST = 8
VARIANCE, MOST_AXES = 0.9, 10
"""Share of the variance that the axes keep, and how many there are at most: in a hundred dimensions all are distant."""
STARTS = 10
CLUSTER, SEGMENT = "cluster", "segment"


@dataclass(frozen=True, slots=True)
class Clustering:
    """What gives an embedding its cluster.

    Attributes:
        mean: of the sample.
        axes: from embeddings to coordinates; numbers x axes.
        centres: clusters x axes, the largest cluster first.
    """

    mean: Floats
    axes: Floats
    centres: Floats

    def coordinates(self, embeddings: Floats) -> Floats:
        """Embeddings on the axes; series x axes."""
        placed: Floats = (embeddings - self.mean) @ self.axes
        return placed

    def labels(self, embeddings: Floats) -> Labels:
        """The cluster of each."""
        return nearest(self.coordinates(embeddings), self.centres)


def run(config: Config, lakehouse: Lakehouse) -> tuple[str, str]:
    """Write ``gold.embeddings`` of the newest backtest cutoff and the end of the data, and ``gold.embedding_scores``.

    Args:
        config: the whole configuration.
        lakehouse: the tables as the last run of explain saw them.

    Returns:
        One line on the embeddings, and the comparison as text.

    Raises:
        TableContractError: too few series have an embedding.
        TrainingError: there are no networks.
    """
    panel = lakehouse.read(s.TRAINING_PANEL.name)
    final, backtest = newest_cutoffs(lakehouse)
    frames, samples, clusterings = [], {}, {}
    for cutoff in (final, backtest):
        states = _states(config, lakehouse, cutoff)
        sample = states.orderBy(F.xxhash64(s.UNIQUE_ID), s.UNIQUE_ID).limit(SAMPLE).toPandas()
        if len(sample) < FEWEST:
            raise TableContractError(
                f"{len(sample)} series have an embedding at {cutoff}, at least {FEWEST} are needed"
            )
        segments = segments_as_of(panel, cutoff).toPandas().set_index(s.UNIQUE_ID)[SEGMENT]
        sample[SEGMENT] = sample[s.UNIQUE_ID].map(segments)
        clusterings[cutoff] = cluster(_matrix(sample), sample[SEGMENT].nunique(), config.segmentation)
        sample[CLUSTER] = clusterings[cutoff].labels(_matrix(sample))
        samples[cutoff] = sample
        frames.append(_with_clusters(states, clusterings[cutoff]))
    lakehouse.overwrite(s.EMBEDDINGS.name, frames[0].unionByName(frames[1]))
    scores = compare(samples[final], samples[backtest], clusterings[final], true_types(config))
    rows = [(lakehouse.run_id, measure, value) for measure, value in scores.items()]
    lakehouse.overwrite(s.EMBEDDING_SCORES.name, lakehouse.spark.createDataFrame(rows, s.EMBEDDING_SCORES.ddl))
    width = _matrix(samples[final]).shape[1]
    count = lakehouse.read(s.EMBEDDINGS.name).where(F.col(s.CUTOFF) == F.expr(sql_literal(final))).count()
    return f"embeddings: {count:,} series as {width} numbers each at {final}", _in_words(scores)


def _states(config: Config, lakehouse: Lakehouse, cutoff: Moment) -> DataFrame:
    """``unique_id``, ``cutoff``, ``embedding``; through a file, which Spark reads by itself."""
    models = trained_models(lakehouse)
    folder = cutoff_folder(models, cutoff)
    write_embeddings(embed_cutoff(folder, panel_source(config, lakehouse), cutoff), folder / EMBEDDING_FILE, cutoff)
    return forecasts_in(lakehouse, models, (cutoff,), EMBEDDING_FILE)


def cluster(embeddings: Floats, segments: int, config: SegmentationConfig) -> Clustering:
    """k-means of embeddings on their principal axes.

    Args:
        embeddings: of a sample; series x numbers.
        segments: how many clusters there are to be, as many as segments; below 2, as many as tell themselves apart
            best.
        config: numbers of clusters tried then, iterations and seed.
    """
    mean = embeddings.mean(axis=0)
    _, sizes, axes = np.linalg.svd(embeddings - mean, full_matrices=False)
    shares = np.cumsum(sizes**2) / max(float((sizes**2).sum()), 1e-12)
    used = min(MOST_AXES, len(sizes), int(np.searchsorted(shares, VARIANCE)) + 1)
    # The signs of axes are arbitrary; the largest part of each is positive here.
    kept = axes[:used] * np.sign(axes[np.arange(used), np.abs(axes[:used]).argmax(axis=1)])[:, None]
    points = (embeddings - mean) @ kept.T
    most = min(len(np.unique(points, axis=0)), len(points) - 1)
    k = min(segments, most)
    if k < 2:
        candidates = assess(points, range(2, min(config.k_max, most) + 1), config.max_iter, config.seed)
        k = max(candidates, key=lambda candidate: candidate.silhouette).k if candidates else 1
    found = best_clusters(points, k, STARTS, config.max_iter, np.random.default_rng([config.seed, k]))
    order = np.argsort(-np.bincount(found.labels, minlength=k), kind="stable")
    return Clustering(mean, kept.T, found.centres[order])


def compare(
    final: pd.DataFrame, backtest: pd.DataFrame, clustering: Clustering, types: dict[str, str]
) -> dict[str, float | None]:
    """Measures of clusters of embeddings beside segments by hand-made features.

    Args:
        final: a sample of series at the end of the data: ``unique_id``, ``embedding``, ``cluster``, ``segment`` (may be
            null).
        backtest: likewise, at the cutoff before; other networks.
        clustering: of ``final``.
        types: the true type of each series, where it is known.

    Returns:
        By measure, None where it cannot be told. Silhouettes are in the space of the embeddings, where clusters of
        embeddings have to win; agreements are adjusted Rand indices (Hubert and Arabie 1985).
    """
    points = clustering.coordinates(_matrix(final))
    of_segments = final[SEGMENT].notna().to_numpy()
    before = final[s.UNIQUE_ID].map(backtest.set_index(s.UNIQUE_ID)[CLUSTER])
    truth = final[s.UNIQUE_ID].map(types)
    return {
        "clusters": float(final[CLUSTER].nunique()),
        "silhouette_of_clusters": silhouette(points, _codes(final[CLUSTER])),
        "silhouette_of_segments": (
            silhouette(points[of_segments], _codes(final.loc[of_segments, SEGMENT])) if of_segments.any() else None
        ),
        "agreement_with_segments": _agreement(final[CLUSTER], final[SEGMENT]),
        "agreement_of_cutoffs": _agreement(final[CLUSTER], before),
        "truth_of_clusters": _agreement(final[CLUSTER], truth),
        "truth_of_segments": _agreement(final[SEGMENT], truth),
    }


def _agreement(one: pd.Series, other: pd.Series) -> float | None:
    """Adjusted Rand index over the series that are in both groupings."""
    is_in_both = one.notna() & other.notna()
    return adjusted_rand(_codes(one[is_in_both]), _codes(other[is_in_both])) if is_in_both.any() else None


def _codes(groups: pd.Series) -> Labels:
    return pd.factorize(groups)[0].astype(np.int64)


def _matrix(rows: pd.DataFrame) -> Floats:
    return np.stack(rows[EMBEDDING].to_list()).astype(np.float64)


def _with_clusters(states: DataFrame, clustering: Clustering) -> DataFrame:
    def label(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in frames:
            if len(frame):
                yield frame.assign(**{CLUSTER: clustering.labels(_matrix(frame)).astype(np.int32)})

    types = ", ".join(f"`{name}` {type_}" for name, type_ in (*states.dtypes, (CLUSTER, "int")))
    return states.mapInPandas(label, types)


def _in_words(scores: dict[str, float | None]) -> str:
    def told(measure: str) -> str:
        value = scores[measure]
        return "unknown" if value is None else f"{value:.2f}"

    lines = [
        f"  {told('clusters').partition('.')[0]} clusters: silhouette {told('silhouette_of_clusters')}, that of the "
        f"segments by hand-made features in the same space {told('silhouette_of_segments')}",
        f"  agreement (adjusted Rand index) with those segments {told('agreement_with_segments')}, with clusters at "
        f"the cutoff before {told('agreement_of_cutoffs')}",
    ]
    if scores["truth_of_clusters"] is not None:
        lines.append(
            f"  with the true types: clusters {told('truth_of_clusters')}, segments {told('truth_of_segments')}"
        )
    return "\n".join(lines)
