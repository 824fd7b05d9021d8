"""What the simulated shops sell, and what was planted in their baskets: associations in one, sequences over several.

Items are bought independently of each other unless a rule or a sequence below says otherwise, whoever the customer is:
so every association beyond chance that a miner finds was planted here (or follows from what was).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CATEGORIES: Mapping[str, str] = {
    "bakery": "wholegrain bread, baguette, croissants, bagels, muffins, pretzels, ciabatta, rye bread, brioche, "
    "pita bread, burger buns, tortilla wraps",
    "beverages": "ground coffee, green tea, orange juice, sparkling water, cola, lemonade, red wine, white wine, "
    "lager beer, tonic water, gin, oat drink",
    "dairy products": "whole milk, butter, plain yoghurt, mozzarella, cheddar, feta, cream cheese, whipping cream, "
    "parmesan, eggs, sour cream, cottage cheese",
    "fresh produce": "bananas, apples, tomatoes, basil, lemons, limes, avocados, potatoes, onions, garlic, "
    "strawberries, mixed salad",
    "cupboard": "spaghetti, tomato sauce, rice, coconut milk, curry paste, flour, sugar, baking powder, olive oil, "
    "black beans, salsa, muesli",
    "meat and fish": "minced beef, chicken breast, bacon, smoked salmon, sausages, cooked ham, salami, trout, prawns, "
    "turkey slices, meatballs, tuna",
    "household": "washing powder, fabric softener, dish soap, bin bags, paper towels, candles, light bulbs, batteries, "
    "sponges, glass cleaner, napkins, charcoal",
    "personal care": "shampoo, conditioner, toothpaste, toothbrush, razors, shaving foam, aftershave, deodorant, "
    "nappies, baby wipes, sun cream, after sun",
}
"""Category: its items. Names of categories are so far apart that a typing error cannot turn one into another."""

CATEGORY_PRICE: Mapping[str, float] = {
    "bakery": 2.4,
    "beverages": 4.2,
    "dairy products": 2.2,
    "fresh produce": 2.3,
    "cupboard": 2.6,
    "meat and fish": 6.2,
    "household": 4.6,
    "personal care": 4.3,
}
"""What an item of a category costs, about."""

ITEMS: tuple[str, ...] = tuple(item for names in CATEGORIES.values() for item in names.split(", "))
CATEGORY_OF: tuple[str, ...] = tuple(name for name, items in CATEGORIES.items() for _ in items.split(", "))
INDEX: Mapping[str, int] = {item: position for position, item in enumerate(ITEMS)}

COMMON, USUAL, RARE, SELDOM = 0.18, 0.07, 0.03, 0.012
"""Shares of baskets that an item with a part in a rule or a sequence is in, before it is pulled."""


@dataclass(frozen=True, slots=True)
class PlantedRule:
    """Who buys all of ``antecedent`` also buys ``consequent``, with this probability all in all."""

    antecedent: tuple[str, ...]
    consequent: str
    confidence: float


@dataclass(frozen=True, slots=True)
class PlantedSequence:
    """Who buys an item also buys the one after it in the next basket, with this probability (unless by chance too)."""

    items: tuple[str, ...]
    probability: float


RULES: tuple[PlantedRule, ...] = (
    PlantedRule(("gin",), "tonic water", 0.75),
    PlantedRule(("gin",), "limes", 0.55),
    PlantedRule(("spaghetti",), "tomato sauce", 0.70),
    PlantedRule(("spaghetti",), "parmesan", 0.45),
    PlantedRule(("flour",), "sugar", 0.50),
    PlantedRule(("flour",), "baking powder", 0.40),
    PlantedRule(("nappies",), "baby wipes", 0.80),
    PlantedRule(("charcoal",), "sausages", 0.65),
    PlantedRule(("shampoo",), "conditioner", 0.60),
    PlantedRule(("minced beef",), "burger buns", 0.55),
    PlantedRule(("strawberries",), "whipping cream", 0.45),
    PlantedRule(("chicken breast",), "curry paste", 0.40),
    PlantedRule(("tomatoes", "mozzarella"), "basil", 0.75),
    PlantedRule(("cream cheese", "smoked salmon"), "bagels", 0.65),
)
"""No consequent belongs to two rules or starts one: so each confidence is what was planted and nothing else."""

SEQUENCES: tuple[PlantedSequence, ...] = (
    PlantedSequence(("washing powder", "fabric softener"), 0.55),
    PlantedSequence(("sun cream", "after sun"), 0.60),
    PlantedSequence(("razors", "shaving foam", "aftershave"), 0.60),
)

PROMOTABLE: tuple[str, ...] = (
    *dict.fromkeys(rule.antecedent[0] for rule in RULES if len(rule.antecedent) == 1),
    *("bananas", "apples", "potatoes", "butter", "cola", "lager beer", "orange juice", "toothpaste", "rice", "candles"),
    *("olive oil", "dish soap"),
)
"""Items that promotions name: every antecedent of a single-item rule, and as many that pull nothing."""


def popularity(rng: np.random.Generator) -> NDArray[np.float64]:
    """The share of baskets that hold each item of ``ITEMS`` before anything is pulled; background items by chance."""
    shares = np.exp(rng.uniform(np.log(0.02), np.log(0.12), len(ITEMS)))
    for item in PROMOTABLE:
        shares[INDEX[item]] = USUAL
    for rule in RULES:
        shares[[INDEX[item] for item in rule.antecedent]] = USUAL if len(rule.antecedent) == 1 else COMMON
        shares[INDEX[rule.consequent]] = RARE
    for sequence in SEQUENCES:
        shares[INDEX[sequence.items[0]]] = RARE
        shares[[INDEX[item] for item in sequence.items[1:]]] = SELDOM
    return shares


def pull_probability(rule: PlantedRule, shares: NDArray[np.float64]) -> float:
    """Chance that the antecedent adds the consequent, so that with what comes by chance the confidence is right."""
    base = float(shares[INDEX[rule.consequent]])
    return (rule.confidence - base) / (1 - base)


def rule_measures(rule: PlantedRule, shares: NDArray[np.float64]) -> dict[str, float]:
    """Support, confidence and lift that a rule is expected to have (promotions raise the supports a little)."""
    antecedent = float(np.prod(shares[[INDEX[item] for item in rule.antecedent]]))
    base = float(shares[INDEX[rule.consequent]])
    consequent = base + (1 - base) * antecedent * pull_probability(rule, shares)
    return {
        "antecedent_support": antecedent,
        "consequent_support": consequent,
        "support": antecedent * rule.confidence,
        "confidence": rule.confidence,
        "lift": rule.confidence / consequent,
    }


def pull_of_items(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Extra items that each item of ``ITEMS`` brings into a basket: its rules' confidence beyond chance, summed up."""
    pulls = np.zeros(len(ITEMS))
    for rule in RULES:
        if len(rule.antecedent) == 1:
            measures = rule_measures(rule, shares)
            pulls[INDEX[rule.antecedent[0]]] += measures["confidence"] - measures["consequent_support"]
    return pulls
