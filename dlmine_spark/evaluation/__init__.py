"""Forecasts compared with what happened.

``naive`` makes the forecast every model has to beat, ``metrics`` holds the arithmetic in plain pandas, ``compare``
brings forecasts and actuals together on Spark.
"""
