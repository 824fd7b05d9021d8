"""spark-submit entry point of ``dlmine forecast``; takes the same arguments."""

import sys

from dlmine_spark.cli import main

if __name__ == "__main__":
    main(["forecast", *sys.argv[1:]])
