"""spark-submit entry point of ``dlmine backtest``; takes the same arguments."""

import sys

from dlmine_spark.cli import main

if __name__ == "__main__":
    main(["backtest", *sys.argv[1:]])
