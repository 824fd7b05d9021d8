"""``python -m dlmine_spark``: the command line, where ``dlmine`` is not on the path."""

from dlmine_spark.cli import main

main()
