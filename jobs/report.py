"""spark-submit entry point of ``dlmine report``; takes the same arguments."""

import sys

from dlmine_spark.cli import main

if __name__ == "__main__":
    main(["report", *sys.argv[1:]])
