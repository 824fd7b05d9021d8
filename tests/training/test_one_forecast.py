"""One forecast as a function: the same as the panel's, and its contributions add up."""

from __future__ import annotations

import numpy as np
import pytest

from dlmine_spark.errors import TrainingError
from dlmine_spark.explain.attribution import TOLERANCE, attribute
from dlmine_spark.training.comm import SingleProcess
from dlmine_spark.training.job import LaunchRequest, train_cutoffs
from dlmine_spark.training.one_forecast import FUTURE, LAGS, PATH, OneForecast, load_one_forecast
from dlmine_spark.training.predict import cutoff_folder, predict_cutoff
from tests.training.panels import SMALL, small_request


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> LaunchRequest:
    request = small_request(tmp_path_factory.mktemp("one"), SMALL.model_copy(update={"members": 2, "epochs": 6}))
    train_cutoffs(request, SingleProcess())
    return request


def forecast_of(request: LaunchRequest, unique_id: str) -> OneForecast:
    return load_one_forecast(cutoff_folder(request.folder, request.final), request.source, request.final, unique_id)


def test_it_is_the_forecast_of_the_panel(trained: LaunchRequest) -> None:
    one = forecast_of(trained, "s2")
    (rows,) = predict_cutoff(cutoff_folder(trained.folder, trained.final), trained.source, trained.final)
    own = rows[rows["unique_id"] == "s2"]
    np.testing.assert_allclose(one.predict(one.inputs).detach().numpy()[0], own["y_hat"], rtol=1e-5)
    assert list(one.moments) == own["ds"].tolist()
    # s2 is closed on Sundays.
    assert [moment.weekday() for moment, is_open in zip(one.moments, one.is_open, strict=True) if not is_open] == [6]


def test_contributions_sum_to_the_difference_from_the_average(trained: LaunchRequest) -> None:
    one = forecast_of(trained, "s1")
    promo = one.covariates.index("kf_promo")
    by_promo: dict[bool, list[float]] = {True: [], False: []}
    for step in range(len(one.moments)):
        found = attribute(one.predict, one.inputs, one.average, step)
        total = sum(float(part.sum()) for part in found.contributions.values())
        assert total == pytest.approx(found.forecast - found.baseline, abs=TOLERANCE * found.forecast)
        assert {name: part.shape for name, part in found.contributions.items()} == {
            FUTURE: (7, 2),
            LAGS: (7, 5),
            PATH: (7,),
        }
        # What comes after a step tells nothing of it.
        assert not found.contributions[FUTURE][step + 1 :].any()
        promoted = bool(one.inputs[FUTURE][0, step, promo] > 0)
        by_promo[promoted].append(float(found.contributions[FUTURE][step, promo]))
    # Promotions raise sales by half.
    assert np.mean(by_promo[True]) > 0 > np.mean(by_promo[False])


def test_a_series_that_is_not_there_is_named_with_those_that_are_like_it(trained: LaunchRequest) -> None:
    with pytest.raises(TrainingError, match=r"has no series 's1x'; did you mean 's1'"):
        forecast_of(trained, "s1x")
