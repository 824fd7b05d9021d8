"""Rules as a network: items are boxes, rules are arrows between them, laid out so that no label covers another.

The layout is that of Fruchterman and Reingold (1991): boxes repel, arrows pull. It starts from fixed places and has no
random part, so that the same rules give the same picture. Boxes that still overlap are then pushed apart.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dlmine_spark.report import text as t

Floats = NDArray[np.float64]

MOST_ITEMS = 30
"""Boxes beyond which a picture is no longer read."""
WIDE, NARROW = 860.0, 330.0
"""Widths in pixels of the two layouts: of a desk's page and of a phone's."""
LABEL_CHARACTERS = 20
BOX_HEIGHT, JOINT = 26.0, 9.0
GAP = 12.0
_CHARACTER, _WIDE_CHARACTER, _PADDING = 7.0, 13.0, 18.0


@dataclass(frozen=True, slots=True)
class Node:
    """An item, or (without a name) the joint where the items of one rule's side meet."""

    name: str

    @property
    def label(self) -> str:
        """What fits in a box."""
        return t.shorten(self.name, LABEL_CHARACTERS)

    @property
    def width(self) -> float:
        """Pixels of its box, for a font of 12.5 px, whatever the font."""
        if not self.name:
            return JOINT
        wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in self.label)
        return _PADDING + _WIDE_CHARACTER * wide + _CHARACTER * (len(self.label) - wide)

    @property
    def height(self) -> float:
        """Pixels of its box."""
        return BOX_HEIGHT if self.name else JOINT


@dataclass(frozen=True, slots=True)
class Edge:
    """From a node to another one; of a rule of several items some lead to its joint and have no head."""

    source: int
    target: int
    has_head: bool
    width: float
    tip: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Centre, width and height of every node's box in pixels, and the size of the picture."""

    width: float
    height: float
    boxes: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True, slots=True)
class Network:
    """Items and rules, laid out twice; ``rules`` of those that were given have a place in it."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    rules: int
    wide: Layout
    narrow: Layout


def rule_network(rules: pd.DataFrame) -> Network | None:
    """The network of the first rules, as many as ``MOST_ITEMS`` items allow; None where there is none.

    Args:
        rules: antecedent and consequent (lists of items), support, confidence, lift; the most telling first.
    """
    names: dict[str, int] = {}
    joints = 0
    shown = []
    for rule in rules.to_dict("records"):
        left, right = ([str(item) for item in rule[side]] for side in ("antecedent", "consequent"))
        new = dict.fromkeys(item for item in (*left, *right) if item not in names)
        if not left or not right or len(names) + len(new) > MOST_ITEMS:
            continue
        names |= {item: len(names) + place for place, item in enumerate(new)}
        shown.append((left, right, rule))
    edges: list[Edge] = []
    for left, right, rule in shown:
        tip = (
            f"{t.items(left)} → {t.items(right)}\nsupport {t.percent(rule['support'])}, "
            f"confidence {t.percent(rule['confidence'])}, lift {float(rule['lift']):.2f}"
        )
        width = round(0.7 + 2.3 * min(max(float(rule["confidence"]), 0.0), 1.0), 1)
        if len(left) == len(right) == 1:
            edges.append(Edge(names[left[0]], names[right[0]], True, width, tip))
            continue
        joint = len(names) + joints
        joints += 1
        edges += [Edge(names[item], joint, False, width, tip) for item in left]
        edges += [Edge(joint, names[item], True, width, tip) for item in right]
    if not edges:
        return None
    nodes = (*(Node(name) for name in names), *(Node("") for _ in range(joints)))
    return Network(nodes, tuple(edges), len(shown), lay_out(nodes, edges, WIDE), lay_out(nodes, edges, NARROW))


def lay_out(nodes: Sequence[Node], edges: Sequence[Edge], width: float) -> Layout:
    """Boxes within ``width`` that do not overlap; the picture is as high as they need."""
    sizes = np.array([(node.width, node.height) for node in nodes])
    sizes[:, 0] = np.minimum(sizes[:, 0], width - 2)
    # Room for the boxes, and about twice as much between them.
    area = 3.2 * float((sizes + GAP).prod(axis=1).sum())
    height = max(area / width, width * 0.42, 120.0)
    charges = np.array([1.0 if node.name else 0.3 for node in nodes])
    centres = _spring(charges, edges, width, height)
    centres = _apart(centres, sizes, width)
    top = float((centres[:, 1] - sizes[:, 1] / 2).min()) - 4
    bottom = float((centres[:, 1] + sizes[:, 1] / 2).max()) + 4
    boxes = tuple(
        (round(float(x), 1), round(float(y) - top, 1), round(float(w), 1), round(float(h), 1))
        for (x, y), (w, h) in zip(centres, sizes, strict=True)
    )
    return Layout(width, round(bottom - top, 1), boxes)


def _spring(charges: Floats, edges: Sequence[Edge], width: float, height: float, steps: int = 400) -> Floats:
    """Places by Fruchterman and Reingold in a box, from places on a sunflower's spiral; joints repel little."""
    count = len(charges)
    turn = np.arange(count) * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt((np.arange(count) + 0.5) / count) * 0.45
    box = np.array([width, height])
    places: Floats = box / 2 + np.column_stack([radius * np.cos(turn), radius * np.sin(turn)]) * box
    ideal = np.sqrt(width * height / count)
    ends = np.array([(edge.source, edge.target) for edge in edges])
    for step in range(steps):
        between = places[:, None, :] - places[None, :, :]
        distance = np.maximum(np.hypot(between[..., 0], between[..., 1]), 1.0)
        force: Floats = (between / distance[..., None] ** 2 * ideal**2 * charges[None, :, None]).sum(axis=1)
        pull = places[ends[:, 0]] - places[ends[:, 1]]
        strength = np.maximum(np.hypot(pull[:, 0], pull[:, 1]), 1.0)[:, None] / ideal * pull
        np.add.at(force, ends[:, 0], -strength)
        np.add.at(force, ends[:, 1], strength)
        # A slight pull to the middle keeps parts together that no rule connects.
        force += 0.25 * (box / 2 - places)
        most = 0.1 * min(width, height) * (1 - step / steps) + 0.5
        length = np.maximum(np.hypot(force[:, 0], force[:, 1]), 1e-9)[:, None]
        places = places + force / length * np.minimum(length, most)
    # What was free to spread is brought into the picture as a whole: walls would line boxes up along them.
    low, high = places.min(axis=0), places.max(axis=0)
    placed: Floats = (places - low) / np.maximum(high - low, 1.0) * box
    return placed


def _apart(centres: Floats, sizes: Floats, width: float, rounds: int = 2_000) -> Floats:
    """Push overlapping boxes apart along the shorter way; sideways never out of the picture."""
    places = centres.copy()
    half = sizes / 2
    for turn in range(rounds):
        places[:, 0] = np.clip(places[:, 0], half[:, 0] + 1, np.maximum(width - half[:, 0] - 1, half[:, 0] + 1))
        between = places[:, None, :] - places[None, :, :]
        overlap = half[:, None, :] + half[None, :, :] + GAP - np.abs(between)
        both = np.triu((overlap > 1e-6).all(axis=2), 1)
        pairs = np.argwhere(both)
        if not len(pairs):
            break
        for one, other in pairs:
            # In a narrow picture only up and down is left: after a while, boxes go nowhere else.
            axis = 1 if turn > rounds // 4 or overlap[one, other, 1] <= overlap[one, other, 0] else 0
            sign = 1.0 if between[one, other, axis] > 0 or (between[one, other, axis] == 0 and one > other) else -1.0
            move = sign * (overlap[one, other, axis] / 2 + 0.1)
            places[one, axis] += move
            places[other, axis] -= move
    return places
