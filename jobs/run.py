"""spark-submit entry point of ``dlmine run``; takes the same arguments."""

import sys

from dlmine_spark.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
