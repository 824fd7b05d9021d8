"""The only reader of source files: every cell as a string, with where it came from.

Files are looked at before Spark is: a missing, empty or wrongly delimited file is one clear error, not a failed job.
"""

from dlmine_spark.sources.files import SourceFile, first_changed, is_local, size_of, spark_path
from dlmine_spark.sources.reader import (
    TEXT_COLUMN,
    are_there,
    contents,
    list_files,
    look_at,
    path_of,
    read_source,
    reading,
)

__all__ = [
    "TEXT_COLUMN",
    "SourceFile",
    "are_there",
    "contents",
    "first_changed",
    "is_local",
    "list_files",
    "look_at",
    "path_of",
    "read_source",
    "reading",
    "size_of",
    "spark_path",
]
