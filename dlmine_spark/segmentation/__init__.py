"""Segments of stores and customers: features, scaling, k-means, profiles.

``shape`` describes one series and ``features`` names what is described; ``stores`` and ``customers`` compute it on
Spark; ``scaling`` makes features comparable; ``lloyd`` and ``choice`` find the number of segments on a bounded sample;
``kmeans`` fits all entities with MLlib; ``profiles`` says what sets segments apart; ``segments`` puts it together.
"""
