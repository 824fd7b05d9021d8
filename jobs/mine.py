"""spark-submit entry point of ``dlmine mine``; takes the same arguments."""

import sys

from dlmine_spark.cli import main

if __name__ == "__main__":
    main(["mine", *sys.argv[1:]])
