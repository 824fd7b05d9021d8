"""``arima.engine=statsforecast``: refused where it is not installed, behind the same seam where it is."""

from __future__ import annotations

import importlib.util
from typing import cast

import numpy as np
import pytest

from dlmine_spark.arima.fit import fit_series
from dlmine_spark.arima.other_engine import require_statsforecast
from dlmine_spark.config import ArimaConfig, Config
from dlmine_spark.errors import EnvironmentProblem
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import predict
from dlmine_spark.pipelines.graph import check_engine
from tests.arima.examples import arma, plan, series

OTHER = ArimaConfig(engine="statsforecast", feature_origins=0)


def test_an_engine_that_is_not_installed_is_refused_with_the_setting_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match=r"pip install statsforecast .*arima.engine=statsmodels"):
        require_statsforecast(OTHER)
    require_statsforecast(ArimaConfig())

    # Before Spark is started, and before models are fitted anew.
    config = Config(arima=OTHER)
    check_engine(config, ["clean"])
    check_engine(Config(), ["report"])
    with pytest.raises(EnvironmentProblem, match=r"arima\.engine is statsforecast"):
        check_engine(config, ["report"])
    with pytest.raises(EnvironmentProblem, match=r"arima\.engine is statsforecast"):
        predict.run(config, cast(Lakehouse, None), "run")


def test_auto_arima_makes_the_same_rows() -> None:
    pytest.importorskip("statsforecast", reason="optional engine: pip install statsforecast")
    n, horizon = 100, 7
    promo = (np.arange(n + horizon) % 5 == 0).astype(float)
    is_open = (np.arange(n + horizon) % 7 != 6).astype(int)
    y = 40 + 20 * promo[:n] + arma(n, ar=0.5)
    rows = series(y, horizon, promo=promo, always=np.ones(n + horizon), open=is_open)
    row = fit_series(rows, OTHER, plan(n, horizon)).iloc[-1]
    assert (row["status"], row["model"], row["error"]) == ("ok", "arima", None)
    assert row["path"] == pytest.approx(np.where(is_open[n:] == 1, 40 + 20 * promo[n:], 0), abs=3)
    assert (np.array(row["lo_95"]) <= row["lo_80"]).all()
    assert row["p"] is not None
