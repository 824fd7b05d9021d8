"""dlmine-spark: data mining and deep learning fused, as Spark jobs over Delta tables.

Importing the package starts nothing and needs none of the heavy extras (no Spark session, no torch, no JVM).
"""

__version__ = "0.1.0"
