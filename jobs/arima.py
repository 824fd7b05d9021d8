"""spark-submit entry point of ``dlmine arima``; takes the same arguments."""

import sys

from dlmine_spark.cli import main

if __name__ == "__main__":
    main(["arima", *sys.argv[1:]])
