"""Text files of one basket a line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_SEPARATORS = (",", ";", "\t", "|")
_USUAL = 0.3
"""Share of lines that hold a separator, for it to be the one; baskets of one item have none."""
_LOOKED_AT = 5_000
_RETURN = 0.8
"""Different items over all: in baskets, items come back."""
_LONGEST_ITEM = 80
_NO_ITEM = re.compile(r"[+-]?\d+[.,]\d+|\d{4}-\d\d-\d\d.*|\d{1,2}[./]\d{1,2}[./]\d{2,4}.*|.*:.*")


@dataclass(frozen=True, slots=True)
class BasketLines:
    """How lines are split into items, and what was found so in the sample."""

    separator: str
    """A regular expression."""
    baskets: int
    items: int
    """Different ones."""
    examples: tuple[str, ...]


def as_baskets(lines: Sequence[str], *, is_table: bool) -> BasketLines | None:
    """How lines are read as baskets; None where they are none.

    Items are short texts without decimals, dates or times, few of them twice in a line, most of them in several lines.

    Args:
        lines: of a file without a header.
        is_table: whether all lines have as many cells; then only whole numbers are taken for items, since a table
            without a header looks the same otherwise.
    """
    looked_at = lines[:: max(1, len(lines) // _LOOKED_AT)]
    sign = max(_SEPARATORS, key=lambda one: sum(one in line for line in looked_at))
    if sum(sign in line for line in looked_at) < _USUAL * len(looked_at):
        sign = " "
    separator = r"\s+" if sign == " " else re.escape(sign) if sign != "\t" else r"\t"
    baskets = [[item.strip() for item in re.split(separator, line.strip()) if item.strip()] for line in looked_at]
    items = Counter(item for basket in baskets for item in basket)
    total = sum(items.values())
    are_several = sum(len(basket) > 1 for basket in baskets) >= _USUAL * len(baskets)
    are_items = all(len(item) <= _LONGEST_ITEM and not _NO_ITEM.fullmatch(item) for item, _ in items.most_common(200))
    are_distinct = sum(len(set(basket)) for basket in baskets) >= 0.95 * total
    come_back = len(items) <= _RETURN * total
    are_numbers = all(item.isdigit() for item, _ in items.most_common(200))
    if not (are_several and are_items and are_distinct and come_back) or (is_table and not are_numbers):
        return None
    examples = tuple(item for item, _ in items.most_common(3))
    return BasketLines(separator, len(lines), len(items), examples)
