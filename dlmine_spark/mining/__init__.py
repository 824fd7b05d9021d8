"""Frequent itemsets and association rules.

``baskets`` makes baskets of lines and measures them, ``encode`` turns items into codes by frequency, ``groups`` spreads
the work over tasks, ``miner`` does it in plain numpy, ``apriori`` is the Spark around them. ``fpgrowth`` is MLlib's
engine for the same table, ``itemsets`` what both engines promise. ``rules`` splits itemsets,
``measures`` judges the rules. ``recommend`` applies them, ``holdout`` scores that;
``drift`` compares two minings. ``taxonomy`` lets baskets hold the categories of their items too.
"""
