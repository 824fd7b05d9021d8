"""Measure how well rules mined from the data find and repair errors that were put into clean tables, cell by cell.

    .venv/bin/python scripts/check_mined_rules.py [--rate 0.02] [--only NAME ...] [--largest] [--examples]

The tables are made here, with a fixed seed; public ones are added where DLMINE_DATA names their folder. Errors are put
into a share of all cells: slips of the keyboard, values of other rows, missing markers, other ways of writing. Public
tables hold errors of their own, which count against the precision shown. --largest adds a table of 100,000 rows.
"""

from __future__ import annotations

import argparse
import os
import random
import string
import time
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pyspark.sql import SparkSession

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.dependencies import Dependency
from dlmine_spark.cleaning.quality import mine_quality
from dlmine_spark.cleaning.texts import COLUMN, ROW_ID, row_id
from dlmine_spark.config import ColumnConfig, MinedRules, SourceConfig, SparkConfig
from dlmine_spark.session import open_session

KINDS = ("slip", "swap", "missing", "format")
MARKERS = ("", "N/A", "?", "empty", "unknown", "not available")
NULL_TOKENS = SourceConfig.model_fields["null_tokens"].default
SYLLABLES = ("ba", "cor", "den", "el", "fra", "gor", "hil", "is", "jo", "kra", "lum", "mor", "nev", "os", "pel", "qui")


@dataclass(frozen=True)
class Score:
    """Cells flagged and repaired, of those that are wrong."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Their harmonic mean."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def word(chance: random.Random, syllables: int) -> str:
    """A word that can be spoken."""
    return "".join(chance.choice(SYLLABLES) for _ in range(syllables)).capitalize()


# Tables


def clinics(chance: random.Random, rows: int, copies: int) -> pd.DataFrame:
    """Clinics with their address on every row, and a measure with its code: many dependencies, ``copies`` per key."""
    states = [word(chance, 2)[:2].upper() + str(place) for place in range(12)]
    towns = [(word(chance, 3), chance.choice(states)) for _ in range(60)]
    zips = {town: f"{chance.randrange(100_000):05d}" for town in towns}
    measures = [(f"M-{place:03d}", f"{word(chance, 2)} {word(chance, 3)} within {place} hours") for place in range(25)]
    found = []
    for place in range(max(1, rows // copies)):
        town = chance.choice(towns)
        phone = "".join(chance.choice(string.digits) for _ in range(10))
        name = f"{word(chance, 2)} {word(chance, 3)} clinic"
        street = f"{chance.randrange(1, 900)} {word(chance, 3)} street"
        for measure in chance.sample(measures, min(copies, len(measures))):
            score = f"{chance.randrange(101)}%"
            found.append((f"{10_000 + place}", name, street, *town, zips[town], phone, *measure, score))
    names = ["clinic", "name", "street", "town", "state", "zip", "phone", "code", "measure", "score"]
    return pd.DataFrame(found, columns=names)


def catalogue(chance: random.Random, rows: int) -> pd.DataFrame:
    """Articles with two to five rows each, prices with two decimals, dates in one format."""
    found = []
    brands = [word(chance, 2) for _ in range(30)]
    while len(found) < rows:
        code, brand = f"{chance.randrange(10_000, 99_999)}{chance.choice('ABC')}", chance.choice(brands)
        description = f"{word(chance, 2)} {word(chance, 2)} {chance.choice(('tin', 'bag', 'box'))}".upper()
        price = f"{chance.randrange(100, 5000) / 100:.2f}"
        for _ in range(chance.randrange(2, 6)):
            day = f"2024-{chance.randrange(1, 13):02d}-{chance.randrange(1, 29):02d}"
            found.append((code, description, brand, price, day, str(chance.randrange(1, 40))))
    return pd.DataFrame(found[:rows], columns=["code", "description", "brand", "price", "day", "pieces"])


def orders(chance: random.Random, rows: int) -> pd.DataFrame:
    """Order lines: a unique number, popular and rare articles, customers with a town, free text, measures."""
    articles = [(f"{place:06d}", f"{word(chance, 2)} {word(chance, 3)}") for place in range(400)]
    weights = [1 / (place + 1) for place in range(400)]
    customers = [(f"C{place:04d}", word(chance, 3), chance.choice(("north", "south", "west"))) for place in range(150)]
    found = []
    for place in range(rows):
        article, customer = chance.choices(articles, weights)[0], chance.choice(customers)
        note = " ".join(word(chance, 2).lower() for _ in range(chance.randrange(3, 9)))
        found.append((f"{place:08d}", *article, *customer, note, f"{chance.gauss(50, 9):.3f}"))
    return pd.DataFrame(found, columns=["line", "article", "text", "customer", "town", "region", "note", "weight"])


def reports(chance: random.Random, rows: int) -> pd.DataFrame:
    """Trains as twenty sources report them: every row says the same of the train, or is wrong."""
    found = []
    for place in range(max(1, rows // 20)):
        times = [f"{chance.randrange(1, 13)}:{chance.randrange(60):02d} {chance.choice('ap')}.m." for _ in range(4)]
        train = f"{chance.choice('ABCD')}{chance.choice('XYZ')}-{1000 + place}"
        found += [(f"source{number}", train, *times) for number in range(20)]
    return pd.DataFrame(found, columns=["source", "train", "leaves", "left", "due", "came"])


def records(chance: random.Random, rows: int) -> pd.DataFrame:
    """Single records without any dependency: only ways of writing and labels can tell what is wrong."""
    languages = ["english", "german", "french", "spanish", "italian"]
    found = []
    for place in range(rows):
        title = " ".join(word(chance, 2) for _ in range(chance.randrange(2, 7)))
        issue = f"{chance.randrange(10_000):04d}-{chance.randrange(10_000):04d}"
        day = f"{chance.randrange(1, 13)}/{chance.randrange(1, 29)}/{chance.randrange(70, 99)}"
        amount, pages = f"{chance.choice((12, 16, 24, 32))}", f"{chance.random() / 10:.3f}"
        language = chance.choices(languages, (70, 10, 8, 7, 5))[0]
        found.append((str(place + 1), title, issue, day, amount, pages, language))
    return pd.DataFrame(found, columns=["id", "title", "issue", "day", "ounces", "share", "language"])


def shops(chance: random.Random, rows: int) -> pd.DataFrame:
    """Shops of which single values say something of others, and no column of another as a whole."""
    towns = [word(chance, 3) for _ in range(12)]
    places = {"flagship": towns[:2], "kiosk": towns[3:6], "market": towns, "outlet": towns}
    hours = {"kiosk": ["late"], "flagship": ["early", "late"], "market": ["early", "day"], "outlet": ["early", "day"]}
    found = []
    for _ in range(rows):
        type_ = chance.choices(tuple(places), (2, 3, 8, 3))[0]
        town = chance.choice(places[type_])
        assortment = "full" if type_ == "flagship" else chance.choice(("full", "basic", "fresh"))
        parking = "no" if town == towns[0] else chance.choice(("no", "yes"))
        size = str(chance.randrange(40, 900))
        found.append((type_, town, chance.choice(hours[type_]), assortment, parking, size))
    return pd.DataFrame(found, columns=["type", "town", "hours", "assortment", "parking", "size"])


def public_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Samples of public tables, every cell as text."""

    def read(path: str) -> pd.DataFrame:
        return pd.read_csv(folder / path, dtype=str, keep_default_na=False)

    invoices = read("online_retail/online_retail_2010-12_to_2011-12.csv.gz").iloc[:40_000]
    with zipfile.ZipFile(folder / "diabetes130" / "dataset_diabetes.zip") as archive:
        diabetes = pd.read_csv(archive.open("dataset_diabetes/diabetic_data.csv"), dtype=str, keep_default_na=False)
    return {
        "products": read("completejourney/products.csv.gz").sample(20_000, random_state=7),
        "demographics": read("completejourney/demographics.csv.gz"),
        "online_retail": invoices,
        "aus_retail": read("aus_retail/aus_retail.csv.gz").sample(15_000, random_state=7),
        "diabetes": diabetes.sample(8_000, random_state=7),
    }


# Errors


def slip(chance: random.Random, text: str) -> str:
    """One or two letters replaced, left out or put in."""
    letters = list(text)
    for _ in range(chance.choice((1, 1, 2))):
        place, sign = chance.randrange(len(letters) + 1), chance.choice(string.ascii_lowercase)
        what = chance.choice(("replace", "leave", "put"))
        if what == "put" or not letters:
            letters.insert(place, sign)
        elif what == "leave" and len(letters) > 1:
            letters.pop(min(place, len(letters) - 1))
        else:
            letters[min(place, len(letters) - 1)] = sign
    return "".join(letters)


def reformat(chance: random.Random, text: str) -> str:
    """The same value in another way of writing, where there is one."""
    if text.isdigit():
        return (
            text.lstrip("0")
            if text.startswith("0") and text.strip("0")
            else chance.choice((f"{text}.0 oz", f"{text}.0"))
        )
    if text.replace(".", "", 1).isdigit():
        return text.rstrip("0") if text.endswith("0") else f"{text} kg"
    parts = text.split("-")
    if len(parts) == 3 and all(part.isdigit() for part in parts):
        return f"{parts[2]}.{parts[1]}.{parts[0]}"
    return text.lower() if text.isupper() else text.upper()


def dirty(clean: pd.DataFrame, rate: float, seed: int) -> tuple[pd.DataFrame, dict[tuple[int, str], str]]:
    """The table with errors, and the kind of every wrong cell."""
    chance = random.Random(seed)
    table = {name: clean[name].tolist() for name in clean.columns}
    kinds: dict[tuple[int, str], str] = {}
    for _ in range(int(rate * clean.size)):
        name, row = chance.choice(list(clean.columns)), chance.randrange(len(clean))
        text, kind = clean[name].iloc[row], chance.choice(KINDS)
        if (row, name) in kinds or text in NULL_TOKENS:
            continue
        wrong = {
            "slip": slip(chance, text),
            "swap": clean[name].iloc[chance.randrange(len(clean))],
            "missing": chance.choice(MARKERS),
            "format": reformat(chance, text),
        }[kind]
        if wrong != text:
            table[name][row] = wrong
            kinds[row, name] = kind
    return pd.DataFrame(table), kinds


# Figures


def measure(
    spark: SparkSession, name: str, clean: pd.DataFrame, rate: float, seed: int, *, examples: bool
) -> dict[str, object]:
    """Detection and repair of one table, as a row of the result."""
    clean = clean.reset_index(drop=True)
    clean.columns = [column.replace(" ", "_") for column in clean.columns]
    table, kinds = dirty(clean, rate, seed)
    known = table.where(~table.isin(NULL_TOKENS), None)
    placed = known.assign(**{s.BATCH: 0, s.SOURCE_FILE: name, s.SOURCE_BLOCK: 0, s.SOURCE_ROW: range(len(known))})
    types = ", ".join(f"`{column}` string" for column in clean.columns)
    start = time.monotonic()
    rows = spark.createDataFrame(
        placed.astype(object).where(placed.notna(), None).values.tolist(),
        f"{types}, {s.BATCH} bigint, {s.SOURCE_FILE} string, {s.SOURCE_BLOCK} bigint, {s.SOURCE_ROW} bigint",
    ).localCheckpoint()
    quality, suspicious = mine_quality(
        rows, {column: ColumnConfig(source=column, type="string") for column in clean.columns}, MinedRules()
    )
    names = rows.select(row_id(), s.SOURCE_ROW)
    found = suspicious.join(names, on=ROW_ID).toPandas()
    seconds = time.monotonic() - start
    columns = [facts.name for facts in quality.columns]
    flagged = {
        (int(row[s.SOURCE_ROW]), columns[int(row[COLUMN])]): (row["proposed"], row["rule"])
        for _, row in found.iterrows()
    }
    hits = flagged.keys() & kinds.keys()
    repaired = {cell: proposed for cell, (proposed, _) in flagged.items() if proposed is not None}
    right = sum(clean[column].iloc[row] == proposed for (row, column), proposed in repaired.items())
    detection = Score(len(hits) / max(1, len(flagged)), len(hits) / max(1, len(kinds)))
    repair = Score(right / max(1, len(repaired)), right / max(1, len(kinds)))
    by_kind = Counter(kinds.values())
    caught = Counter(kinds[cell] for cell in hits)
    if examples:
        show(clean, table, kinds, flagged, quality.dependencies)
    return {
        "table": name,
        "rows": len(clean),
        "errors": len(kinds),
        "P": detection.precision,
        "R": detection.recall,
        "F1": detection.f1,
        "repair P": repair.precision,
        "repair R": repair.recall,
        **{kind: caught[kind] / max(1, by_kind[kind]) for kind in KINDS},
        "s": seconds,
    }


def show(
    clean: pd.DataFrame,
    table: pd.DataFrame,
    kinds: dict[tuple[int, str], str],
    flagged: dict[tuple[int, str], tuple[str | None, str]],
    dependencies: Sequence[Dependency],
) -> None:
    """Examples of misses and false alarms."""
    print("\n".join(f"  {one} e={one.error:.3f} k={one.agreement:.2f} g={one.groups}" for one in dependencies))
    false = [cell for cell in flagged if cell not in kinds]
    missed = [cell for cell in kinds if cell not in flagged]
    print("  false alarms", Counter((column, flagged[row, column][1]) for row, column in false).most_common(14))
    for row, column in false[:12]:
        print("    ", column, repr(table[column].iloc[row]), flagged[row, column])
    print("  missed", Counter((column, kinds[row, column]) for row, column in missed).most_common(20))
    for row, column in missed[:12]:
        print("    ", column, kinds[row, column], repr(clean[column].iloc[row]), "->", repr(table[column].iloc[row]))


def main() -> None:
    """Print the figures of every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=0.02, help="share of cells that are made wrong")
    parser.add_argument("--only", nargs="*", default=[], help="tables to measure; default: all")
    parser.add_argument("--largest", action="store_true", help="add a table of 100,000 rows")
    parser.add_argument("--examples", action="store_true", help="show dependencies, false alarms and misses")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    tables = {
        "clinics x20": clinics(chance, 2_000, 20),
        "clinics x5": clinics(chance, 2_000, 5),
        "catalogue": catalogue(chance, 3_000),
        "orders": orders(chance, 5_000),
        "reports": reports(chance, 2_000),
        "records": records(chance, 2_000),
        "shops": shops(chance, 3_000),
    }
    if arguments.largest:
        tables["clinics large"] = clinics(chance, 100_000, 20)
    if os.environ.get("DLMINE_DATA"):
        tables |= public_tables(Path(os.environ["DLMINE_DATA"]))
    chosen = {name: table for name, table in tables.items() if not arguments.only or name in arguments.only}
    with open_session(SparkConfig(master="local[2]", shuffle_partitions=4, jvm="quick")) as spark:
        for place, (name, table) in enumerate(chosen.items()):
            row = measure(spark, name, table, arguments.rate, arguments.seed, examples=arguments.examples)
            if place == 0:
                print("| " + " | ".join(row) + " |\n|" + "---|" * len(row))
            shown = (f"{figure:.2f}" if isinstance(figure, float) else str(figure) for figure in row.values())
            print("| " + " | ".join(shown) + " |", flush=True)


if __name__ == "__main__":
    main()
