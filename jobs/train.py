"""spark-submit entry point of ``dlmine train``; takes the same arguments."""

import sys

from dlmine_spark.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
