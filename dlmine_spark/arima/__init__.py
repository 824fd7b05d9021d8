"""One ARIMA model per series: regression on calendar and covariates with ARMA errors.

``timeline`` reads one series, ``design`` makes its regressors, ``orders`` chooses differencing and orders, ``model``
fits and forecasts, ``fit`` runs all of it for one series and never loses one, ``per_series`` is the only line of Spark.
"""
