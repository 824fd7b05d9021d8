"""Arithmetic between columns: what a missing one must be, and whether it holds where none is missing."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F

from dlmine_spark.config import ColumnConfig, Equation

_NOISE = 1e-9
"""Of a sum or product of doubles, in units of its own size: 0.1 + 0.2 is 0.3."""


def solved(equation: Equation, columns: Mapping[str, ColumnConfig]) -> dict[str, Column]:
    """The value of each column of an equation: computed where it is the only one missing, else the one it has.

    Nothing is divided by zero, and what would be beyond a double stays blank; a whole number is computed only where
    the equation holds with it. With ``repair``, a result that does not hold becomes the right one.
    """
    values = {}
    for name in equation.columns:
        others = [other for other in equation.columns if other != name]
        is_only_one = _all_known(others)
        answer = _solution(equation, name)
        if columns[name].type == "integer":
            answer = _made_whole(answer, equation, name)
        is_finite = F.abs(answer) <= F.lit(sys.float_info.max)
        values[name] = F.coalesce(_value(name), F.when(is_only_one & is_finite, answer))
    if equation.action == "repair":
        right = _left(equation)
        if columns[equation.equals].type == "integer":
            right = _made_whole(right, equation, equation.equals)
        is_wrong = is_broken(equation) & right.isNotNull()
        values[equation.equals] = F.when(is_wrong, right).otherwise(values[equation.equals])
    return values


def is_broken(equation: Equation) -> Column:
    """Whether all columns are known and the equation does not hold; null where one is missing."""
    left, right = _left(equation), _value(equation.equals)
    slack = F.lit(equation.tolerance) + F.lit(_NOISE) * F.greatest(F.abs(left), F.abs(right))
    return F.abs(left - right) > slack


def message(equation: Equation) -> Column:
    """The equation with the numbers of a row: ``quantity * price = amount: 2.0 * 3.0 is not 7.0``."""
    sign = " * " if equation.product else " + "
    terms = F.concat_ws(sign, *(_value(name).cast("string") for name in equation.terms))
    names = f"{sign.join(equation.terms)} = {equation.equals}: "
    return F.concat(F.lit(names), terms, F.lit(" is not "), _value(equation.equals).cast("string"))


def _solution(equation: Equation, name: str) -> Column:
    if name == equation.equals:
        return _left(equation)
    others = [term for term in equation.terms if term != name]
    if equation.product:
        return F.try_divide(_value(equation.equals), _combined(others, is_product=True))
    return _value(equation.equals) - _combined(others, is_product=False)


def _left(equation: Equation) -> Column:
    return _combined(equation.terms, is_product=bool(equation.product))


def _combined(names: Sequence[str], *, is_product: bool) -> Column:
    values = [_value(name) for name in names]
    return reduce(lambda left, right: left * right if is_product else left + right, values)


def _made_whole(answer: Column, equation: Equation, name: str) -> Column:
    """The nearest whole number, if the equation holds with it: half a piece of a cent's price is no difference."""
    difference = F.abs(answer - F.round(answer))
    if equation.product and name != equation.equals:
        difference *= F.abs(_combined([term for term in equation.terms if term != name], is_product=True))
    return F.when(difference <= F.lit(equation.tolerance + _NOISE), F.round(answer))


def _all_known(names: Sequence[str]) -> Column:
    return reduce(lambda left, right: left & right, [_value(name).isNotNull() for name in names])


def _value(name: str) -> Column:
    return F.col(f"`{name}`")
