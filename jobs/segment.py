"""spark-submit entry point of ``dlmine segment``; takes the same arguments."""

import sys

from dlmine_spark.cli import main

if __name__ == "__main__":
    main(["segment", *sys.argv[1:]])
