"""One ARIMA model per series."""
