"""A global LSTM trained by ranks that read Delta without Spark."""
