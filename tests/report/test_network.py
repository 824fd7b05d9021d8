from __future__ import annotations

import pandas as pd

from dlmine_spark.report.network import GAP, MOST_ITEMS, NARROW, WIDE, Layout, rule_network


def rules(*sides: tuple[list[str], list[str]]) -> pd.DataFrame:
    return pd.DataFrame(
        [(left, right, 0.1, 0.5, 2.0) for left, right in sides],
        columns=["antecedent", "consequent", "support", "confidence", "lift"],
    )


MANY = rules(*(([f"a fairly long item {number}"], [f"item {number % 5}"]) for number in range(25)))


def overlapping(layout: Layout) -> list[tuple[int, int]]:
    boxes = layout.boxes
    return [
        (i, j)
        for i, (x, y, w, h) in enumerate(boxes)
        for j, (u, v, p, q) in enumerate(boxes[:i])
        if abs(x - u) < (w + p) / 2 + GAP / 2 and abs(y - v) < (h + q) / 2 + GAP / 2
    ]


def test_a_rule_is_an_arrow_and_several_items_meet_in_a_joint() -> None:
    network = rule_network(rules((["beer"], ["crisps"]), (["bread", "jam"], ["butter"])))
    assert network is not None
    assert [node.name for node in network.nodes] == ["beer", "crisps", "bread", "jam", "butter", ""]
    assert [(edge.source, edge.target, edge.has_head) for edge in network.edges] == [
        (0, 1, True),
        (2, 5, False),
        (3, 5, False),
        (5, 4, True),
    ]
    assert network.edges[0].tip.startswith("beer → crisps\nsupport 10.0 %, confidence 50.0 %, lift 2.00")


def test_no_label_covers_another_on_a_desk_or_on_a_phone() -> None:
    network = rule_network(MANY)
    assert network is not None
    for layout, width in ((network.wide, WIDE), (network.narrow, NARROW)):
        assert overlapping(layout) == []
        assert all(w / 2 <= x <= width - w / 2 and 0 < y < layout.height for x, y, w, _ in layout.boxes)


def test_the_same_rules_give_the_same_picture() -> None:
    assert rule_network(MANY) == rule_network(MANY.copy())


def test_what_is_connected_is_near() -> None:
    network = rule_network(rules((["a"], ["b"]), (["b"], ["c"]), (["c"], ["a"]), (["x"], ["y"]), (["y"], ["z"])))
    assert network is not None

    def apart(one: int, other: int) -> float:
        (x, y, *_), (u, v, *_) = network.wide.boxes[one], network.wide.boxes[other]
        return float(((x - u) ** 2 + (y - v) ** 2) ** 0.5)

    within = [apart(0, 1), apart(1, 2), apart(0, 2), apart(3, 4), apart(4, 5)]
    between = [apart(one, other) for one in (0, 1, 2) for other in (3, 4, 5)]
    assert sum(within) / 5 < 0.7 * sum(between) / 9


def test_rules_beyond_the_most_items_are_left_out() -> None:
    network = rule_network(rules(*(([f"a{number}"], [f"b{number}"]) for number in range(40))))
    assert network is not None
    assert len(network.nodes) == MOST_ITEMS
    assert network.rules == MOST_ITEMS // 2
    assert rule_network(MANY.head(0)) is None


def test_letters_as_wide_as_high_have_wider_boxes() -> None:
    network = rule_network(rules((["啤酒啤酒"], ["beer"])))
    assert network is not None
    assert network.nodes[0].width > network.nodes[1].width
