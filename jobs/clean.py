"""spark-submit entry point of ``dlmine clean``; takes the same arguments."""

import sys

from dlmine_spark.cli import main

if __name__ == "__main__":
    main(["clean", *sys.argv[1:]])
