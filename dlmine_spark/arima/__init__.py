"""One ARIMA model per series: regression on calendar and covariates with ARMA errors.

Of one series, without Spark: ``timeline`` reads it, ``design`` makes its regressors, ``scales`` and ``orders`` choose
transformation, differencing and orders, ``likelihood`` estimates, ``model`` puts these together, ``forecast`` goes on
from there, ``stored`` makes a fit again from its row, ``chain`` falls back on simpler models, ``fit`` asks all of it of
one series and never loses one. With Spark: ``packing`` deals series out to tasks, ``per_series`` runs them.
"""
