"""Trees as MLlib writes them, as rules in words."""

from __future__ import annotations

import pytest

from dlmine_spark.errors import DlmineError
from dlmine_spark.explain.rules import Bound, Feature, Rule, in_words, rules_of

TREE = """DecisionTreeRegressionModel: uid=dtr, depth=3, numNodes=7, numFeatures=4
  If (feature 0 <= 0.5)
   If (feature 3 <= 7.5)
    Predict: 1.0
   Else (feature 3 > 7.5)
    Predict: 1.25
  Else (feature 0 > 0.5)
   If (feature 1 <= 1.0E-4)
    Predict: 0.5
   Else (feature 1 > 1.0E-4)
    Predict: 2.0
"""
FEATURES = (
    Feature("weekday", "Sunday"),
    Feature("weekday", "Monday"),
    Feature("promo"),
    Feature("steps ahead", None, 1, 28),
    Feature("price", None, 0.5, 9.75, is_whole=False),
)


def words(*bounds: tuple[int, float, bool]) -> tuple[str, ...]:
    return in_words(Rule(tuple(Bound(*bound) for bound in bounds), 1.0), FEATURES)


def test_every_leaf_is_a_rule_with_all_that_leads_to_it() -> None:
    assert rules_of(TREE) == [
        Rule((Bound(0, 0.5, False), Bound(3, 7.5, False)), 1.0),
        Rule((Bound(0, 0.5, False), Bound(3, 7.5, True)), 1.25),
        Rule((Bound(0, 0.5, True), Bound(1, 1e-4, False)), 0.5),
        Rule((Bound(0, 0.5, True), Bound(1, 1e-4, True)), 2.0),
    ]


def test_a_tree_of_one_leaf_asks_for_nothing_and_an_unknown_line_is_refused() -> None:
    assert rules_of("DecisionTreeRegressionModel: uid=dtr, depth=0\n  Predict: 1.5\n") == [Rule((), 1.5)]
    with pytest.raises(DlmineError, match=r"not understood: 'If \(feature 0 in \{1\.0\}\)'"):
        rules_of("model\n  If (feature 0 in {1.0})\n")


def test_conditions_are_told_as_people_would() -> None:
    above, below = True, False
    assert words((0, 0.5, above), (1, 0.5, below)) == ("weekday = Sunday",)
    assert words((0, 0.5, below), (1, 0.5, below)) == ("weekday is not Sunday", "weekday is not Monday")
    assert words((2, 0.5, above)) == ("promo = 1",)
    assert words((2, 0.5, below)) == ("promo = 0",)
    assert words((3, 7.5, below)) == ("steps ahead at most 7",)
    assert words((3, 7.5, above), (3, 14.5, below)) == ("steps ahead from 8 to 14",)
    # What was asked twice is told once, and a whole number on the bound itself is below it.
    assert words((3, 7.5, above), (3, 20.0, above)) == ("steps ahead at least 21",)
    assert words((4, 1.2345, above)) == ("price above 1.23",)
    assert words((4, 1.2345, above), (4, 2.5, below)) == ("price between 1.23 and 2.5",)
