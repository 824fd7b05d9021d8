"""A model away from its lakehouse: the same forecasts from a frame, and words for frames that none can be made from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dlmine_spark.errors import TableContractError, TrainingError
from dlmine_spark.evaluation.conformal import FACTOR_COLUMNS
from dlmine_spark.scoring import Scorer, load_scorer, write_scorer
from dlmine_spark.training.comm import SingleProcess
from dlmine_spark.training.job import LaunchRequest, train_cutoffs
from dlmine_spark.training.predict import cutoff_folder, predict_cutoff
from tests.training.panels import FINAL, SMALL, panel_rows, small_request

FACTORS = pd.DataFrame([(None, 1, 7, 1.0, 1.0, 200), (0, 1, 7, 2.0, None, 200)], columns=list(FACTOR_COLUMNS))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> LaunchRequest:
    request = small_request(tmp_path_factory.mktemp("scoring"), SMALL.model_copy(update={"members": 2, "epochs": 1}))
    train_cutoffs(request, SingleProcess())
    return request


@pytest.fixture(scope="module")
def scorer(trained: LaunchRequest, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    target = tmp_path_factory.mktemp("model") / "scorer"
    return write_scorer(target, cutoff_folder(trained.folder, FINAL), "D", FACTORS, {"s1": 0})


@pytest.fixture
def rows() -> pd.DataFrame:
    """The panel of the final cutoff as a user has it: moments as pandas', nothing but what is needed."""
    frame = panel_rows(FINAL).to_pandas().drop(columns=["cutoff", "shard"])
    return frame.assign(ds=pd.to_datetime(frame["ds"]))


def test_a_frame_is_forecast_as_the_panel_is(trained: LaunchRequest, scorer: Scorer, rows: pd.DataFrame) -> None:
    (expected,) = predict_cutoff(cutoff_folder(trained.folder, FINAL), trained.source, FINAL)

    found = scorer.predict(rows)

    assert found.columns.tolist() == [column.name for column in scorer.outputs]
    assert found["ds"].dt.date.tolist() == expected["ds"].tolist()
    assert set(found["cutoff"]) == {pd.Timestamp(FINAL)}
    np.testing.assert_allclose(found["y_hat"], expected["y_hat"], rtol=1e-6)
    # s1 has a segment, whose intervals of 80 % are to be twice as wide.
    own = (found["unique_id"] == "s1").to_numpy()
    wider = (found["hi_80"] - found["y_hat"]) / (expected["hi_80"] - expected["y_hat"]).where(expected["hi_80"] > 0)
    np.testing.assert_allclose(wider[own], 2.0, rtol=1e-6)
    np.testing.assert_allclose(wider[~own].dropna(), 1.0, rtol=1e-6)


def test_values_of_the_horizon_are_not_read_and_blanks_of_covariates_are_their_mean(
    scorer: Scorer, rows: pd.DataFrame
) -> None:
    expected = scorer.predict(rows)
    future = rows["ds"] > pd.Timestamp(FINAL)
    seen = rows.assign(y=rows["y"].where(~future, 1e6), po_traffic=rows["po_traffic"].where(~future, 9.0))
    pd.testing.assert_frame_equal(scorer.predict(seen), expected)

    zero = scorer.predict(rows.assign(kf_promo=0.0))
    assert not np.allclose(zero["y_hat"], expected["y_hat"])
    pd.testing.assert_frame_equal(scorer.predict(rows.assign(kf_promo=np.nan)), zero)


def test_closed_days_and_uncounted_values_can_be_left_out_of_the_frame(scorer: Scorer, rows: pd.DataFrame) -> None:
    found = scorer.predict(rows.drop(columns=["open", "mask", "arima_path"]))
    closed = scorer.predict(rows).query("unique_id == 's0' and y_hat == 0")
    assert closed["ds"].dt.dayofweek.tolist() == [6]
    assert (found["y_hat"] > 0).all()


def test_counted_steps_are_forecast_from_where_each_series_ends(scorer: Scorer, rows: pd.DataFrame) -> None:
    counted = replace(
        scorer, model=replace(scorer.model, manifest={**scorer.model.manifest, "cutoff": "200"}), frequency="step"
    )
    own_steps = rows.sort_values("ds").groupby("unique_id").cumcount() + 1

    found = counted.predict(rows.assign(ds=own_steps))

    np.testing.assert_allclose(found["y_hat"], scorer.predict(rows)["y_hat"], rtol=1e-6)
    # Each series is three steps shorter than the one before; the longest tells the common cutoff.
    assert found.groupby("unique_id")["ds"].min().to_dict() == {"s0": 201, "s1": 198, "s2": 195, "s3": 192}
    assert set(found["cutoff"]) == {200}


def test_what_cannot_be_forecast_is_named(scorer: Scorer, rows: pd.DataFrame) -> None:
    def refused(frame: pd.DataFrame) -> str:
        with pytest.raises(TableContractError) as problem:
            scorer.predict(frame)
        return str(problem.value)

    last = rows["ds"].max()
    assert "lacks kf_promo, sn_size" in refused(rows.drop(columns=["kf_promo", "sn_size"]))
    assert "series 's2' ends earlier" in refused(rows[(rows["unique_id"] != "s2") | (rows["ds"] < last)])
    gap = (rows["unique_id"] == "s1") & (rows["ds"] == pd.Timestamp("2023-05-05"))
    assert "series 's1' has 203 rows" in refused(rows[~gap])
    assert "expected 204: one a day" in refused(rows[~gap])
    assert "series 's3' has 7 rows" in refused(rows[(rows["unique_id"] != "s3") | (rows["ds"] > pd.Timestamp(FINAL))])
    assert "no rows" in refused(rows.head(0))
    assert "has a time zone" in refused(rows.assign(ds=rows["ds"].dt.tz_localize("UTC")))


def test_a_model_is_whole_or_refused(scorer: Scorer, trained: LaunchRequest, tmp_path: Path) -> None:
    write_scorer(tmp_path / "whole", cutoff_folder(trained.folder, FINAL), "D", FACTORS, {})
    weights = tmp_path / "whole" / "member=2" / "model.ckpt"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(TrainingError, match=r"member=2/model.ckpt: is truncated or altered"):
        load_scorer(tmp_path / "whole")
    with pytest.raises(TrainingError, match=r"scoring.json: is no model"):
        load_scorer(tmp_path)
