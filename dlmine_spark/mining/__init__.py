"""Frequent itemsets, association rules and sequences.

``baskets`` makes baskets of lines and measures them, ``encode`` turns items into codes by frequency, ``groups`` spreads
the work over tasks, ``miner`` does it in plain numpy, ``apriori`` is the Spark around them. ``fpgrowth`` is MLlib's
engine for the same table, ``itemsets`` what both engines promise. ``rules`` splits itemsets,
``measures`` judges the rules. ``histories`` puts customers' baskets in order, ``prefixspan`` finds what comes one time
after another in plain numpy, ``sequences`` is the Spark around them, ``sequence_table`` what is promised of the result.
``recommend`` applies the rules, ``holdout`` scores that; ``drift`` compares two minings. ``taxonomy`` lets baskets hold
the categories of their items too.
"""
