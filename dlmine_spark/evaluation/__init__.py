"""Forecast origins, metrics and backtests."""
