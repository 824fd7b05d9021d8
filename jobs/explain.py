"""spark-submit entry point of ``dlmine explain``; takes the same arguments."""

import sys

from dlmine_spark.cli import main

if __name__ == "__main__":
    main(["explain", *sys.argv[1:]])
