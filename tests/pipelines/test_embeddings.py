"""What networks learned of series, as clusters, and how these compare with what is known of the series."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlmine_spark import schemas as s
from dlmine_spark.config import Config, SegmentationConfig
from dlmine_spark.errors import TableContractError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import embeddings, train
from dlmine_spark.pipelines.embeddings import cluster, compare
from tests.training.panels import FINAL, SMALL, panel_rows

RNG = np.random.default_rng(7)
KINDS = np.repeat([0, 1, 2], [30, 20, 10])


def states(kinds: np.ndarray = KINDS) -> np.ndarray:
    """Forty numbers a series, of which two tell its kind."""
    noise = RNG.normal(0, 0.02, (len(kinds), 40))
    noise[:, 3] += 0.5 * (kinds == 1)
    noise[:, 17] -= 0.5 * (kinds == 2)
    return noise


def sample(labels: np.ndarray, segments: np.ndarray, vectors: np.ndarray) -> pd.DataFrame:
    ids = [f"s{number}" for number in range(len(labels))]
    return pd.DataFrame({"unique_id": ids, "embedding": list(vectors), "cluster": labels, "segment": segments})


def test_kinds_are_found_with_and_without_their_number() -> None:
    vectors = states()
    for segments in (3, 1):
        labels = cluster(vectors, segments, SegmentationConfig()).labels(vectors)
        # The largest cluster is number 0.
        assert labels.tolist() == KINDS.tolist()


def test_embeddings_that_are_all_alike_are_one_cluster() -> None:
    alike = np.ones((10, 4))
    assert set(cluster(alike, 3, SegmentationConfig()).labels(alike)) == {0}


def test_the_comparison_tells_what_is_known_and_no_more() -> None:
    vectors = states()
    clustering = cluster(vectors, 3, SegmentationConfig())
    final = sample(KINDS, np.where(KINDS == 2, 1, KINDS), vectors)
    before = sample((KINDS + 1) % 3, KINDS, vectors)
    types = {f"s{number}": "xyz"[kind] for number, kind in enumerate(KINDS)}

    found = compare(final, before, clustering, types)

    assert found["clusters"] == 3
    assert found["agreement_of_cutoffs"] == found["truth_of_clusters"] == 1
    assert found["agreement_with_segments"] == found["truth_of_segments"]
    assert 0.5 < (found["agreement_with_segments"] or 0) < 1
    assert (found["silhouette_of_clusters"] or 0) > (found["silhouette_of_segments"] or 0)

    unknown = compare(final.assign(segment=None), before.iloc[:0], clustering, {})
    names = ("silhouette_of_segments", "agreement_with_segments", "agreement_of_cutoffs", "truth_of_clusters")
    assert [unknown[name] for name in names] == [None] * 4


@pytest.mark.spark
def test_every_series_of_two_cutoffs_has_an_embedding(lakehouse: Lakehouse, tmp_path: Path) -> None:
    backtest = FINAL - timedelta(days=7)
    panels = [
        rows.append_column(
            "sc_mined_segments", pa.array([1.0 + (name < "s5") for name in rows["unique_id"].to_pylist()])
        )
        for rows in (panel_rows(backtest, series=12), panel_rows(FINAL, series=12))
    ]
    pq.write_table(pa.concat_tables(panels), tmp_path / "panel.parquet")
    lakehouse.overwrite(s.TRAINING_PANEL.name, lakehouse.spark.read.parquet(str(tmp_path / "panel.parquet")))
    training = SMALL.model_dump() | {"epochs": 1, "samples_per_epoch": 64, "backend": "local", "members": 2}
    config = Config.model_validate({"evaluation": {"horizon": 7}, "cleaning": {"frequency": "D"}, "training": training})
    bound = lakehouse.for_run("train-1", {s.TRAINING_PANEL.name: 0})
    train.run(config, bound)

    line, compared = embeddings.run(config, bound)

    rows = bound.read(s.EMBEDDINGS.name).toPandas()
    assert rows.groupby("cutoff")["unique_id"].nunique().tolist() == [12, 12]
    assert {len(one) for one in rows["embedding"]} == {2 * SMALL.hidden}
    assert rows["embedding"].map(lambda one: float(np.abs(one).max())).between(0, 1).all()
    assert line == f"embeddings: 12 series as {2 * SMALL.hidden} numbers each at {FINAL}"
    assert compared.startswith("  2 clusters: silhouette ")
    scores = {row["measure"]: row["value"] for row in bound.read(s.EMBEDDING_SCORES.name).collect()}
    assert scores["truth_of_clusters"] is None
    assert scores["agreement_of_cutoffs"] is not None


@pytest.mark.spark
def test_too_few_series_are_told(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    pq_rows = panel_rows(FINAL, series=2)
    pq_rows = pa.concat_tables([panel_rows(FINAL - timedelta(days=7), series=2), pq_rows])
    lakehouse.overwrite(s.TRAINING_PANEL.name, lakehouse.spark.createDataFrame(pq_rows.to_pandas()))
    frame = lakehouse.spark.createDataFrame(
        [("a", FINAL, [0.1])], "unique_id string, cutoff date, embedding array<double>"
    )
    monkeypatch.setattr(embeddings, "_states", lambda *_: frame)
    with pytest.raises(TableContractError, match=r"1 series have an embedding at .*, at least 8 are needed"):
        embeddings.run(Config(), lakehouse)
