"""What files that nobody declared hold: guessed from a sample of their rows, in plain Python without Spark.

``samples`` reads the first, middle and last rows; ``columns`` tells what is in each column; ``tables`` takes them for
columns of ours; ``steps`` tells the step of time; ``together`` decides between files; ``settings`` makes the
configuration, and ``text`` writes it down with reasons.
"""
