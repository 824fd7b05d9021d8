"""spark-submit entry point of ``dlmine tune``; takes the same arguments."""

import sys

from dlmine_spark.cli import main

if __name__ == "__main__":
    main(["tune", *sys.argv[1:]])
