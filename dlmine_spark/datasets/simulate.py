"""``dlmine simulate``: the raw files of a retail world that is known through and through, and the truth about them.

The folder is written under another name and renamed at the end, so what is there under its own name is complete. The
same size, seed and couplings give the same bytes, whether one process writes the receipts or many Spark tasks.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dlmine_spark.datasets import files
from dlmine_spark.datasets.baskets import CUSTOMER_KINDS, block_lines, make_customers
from dlmine_spark.datasets.catalogue import ITEMS, RULES, SEQUENCES, pull_of_items, rule_measures
from dlmine_spark.datasets.dirt import ERROR_COLUMNS, Texts, as_lines, spoil_file
from dlmine_spark.datasets.sizes import Stream, random_numbers, size_of
from dlmine_spark.datasets.world import DAYS_AHEAD, NOISE_AUTOCORRELATION, STORE_TYPES, World, make_world
from dlmine_spark.errors import ConfigError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

TRUTH = "truth"
META = "meta.json"
_MOST_TASKS = 64
_COUNTS = ("block", "baskets", "lines", "errors")
_ERROR_PARTS = "errors.parts"


@dataclass(frozen=True, kw_only=True)
class SimulationReport:
    """What was written: numbers of stores, days, baskets, clean rows of all files and injected errors."""

    folder: Path
    stores: int
    days: int
    baskets: int
    lines: int
    rows: int
    errors: int

    @property
    def message(self) -> str:
        """One line for people."""
        return (
            f"{self.stores:,} stores x {self.days:,} days, {self.baskets:,} baskets with {self.lines:,} lines; "
            f"{self.errors:,} errors in {self.rows:,} rows ({self.errors / self.rows:.1%}), all of them in {TRUTH}/"
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What a process needs to know to write its part: a world and a folder."""

    size: str
    seed: int
    couplings: bool
    folder: str

    @property
    def world(self) -> World:
        """The world, made once a process."""
        return make_world(self.size, self.seed, self.couplings)


def simulate(
    size: str,
    seed: int,
    out: Path,
    spark: SparkSession | None = None,
    *,
    couplings: bool = True,
    force: bool = False,
    partitions: int | None = None,
) -> SimulationReport:
    """Write a world into a folder: the raw, dirty files, and ``truth/``.

    Args:
        size: one of ``sizes.SIZES``.
        seed: same seed, same bytes.
        out: the folder; its parent is made if it is not there.
        spark: writes the receipts with Spark tasks, which must see the folder; None: this process writes them.
        couplings: whether a promoted item's pull and the store type matter for sales.
        force: replace an earlier simulation.
        partitions: Spark tasks; no file depends on it.

    Raises:
        ConfigError: no such size, a negative seed, or a folder that must not be replaced.
    """
    extent = size_of(size)
    if seed < 0:
        raise ConfigError(f"--seed must be 0 or more, got {seed}")
    _check_target(out, force)
    target = out.absolute()
    part = target.with_name(f".{target.name}.partial")
    try:
        shutil.rmtree(part, ignore_errors=True)
        (part / TRUTH / "clean").mkdir(parents=True)
        (part / TRUTH / _ERROR_PARTS).mkdir()
        report = _write(Plan(size, seed, couplings, str(part)), range(extent.blocks), spark, partitions)
        _put_in_place(part, target)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written: {error.strerror or error}") from error
    return replace(report, folder=target)


def _check_target(out: Path, force: bool) -> None:
    """Refuse to touch what is no simulation, and to replace one unasked."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: is a file, expected a folder")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / TRUTH / META).is_file():
        raise ConfigError(f"--out {out}: holds files that are no simulation; give an empty or a new folder")
    if not force:
        raise ConfigError(f"--out {out}: holds a simulation already; --force replaces it")


def _put_in_place(part: Path, out: Path) -> None:
    if out.is_dir():
        shutil.rmtree(out)
    os.replace(part, out)


def _write(plan: Plan, blocks: Sequence[int], spark: SparkSession | None, partitions: int | None) -> SimulationReport:
    world, folder = plan.world, Path(plan.folder)
    rows, errors = 0, []
    for number, (name, texts, file_format) in enumerate(
        (
            ("sales.csv", files.sales_texts(world), files.SALES),
            ("calendar.csv", files.calendar_texts(world), files.CALENDAR),
            ("stores.csv", files.store_texts(world), files.STORES),
        )
    ):
        errors.append(_write_file(plan, name, texts, file_format, block=-1 - number))
        rows += len(texts["store"])
    counts = _write_receipts(plan, blocks, spark, partitions)
    for name, table in truth_tables(world).items():
        table.to_csv(folder / TRUTH / f"{name}.csv", index=False)
    found = _write_errors(folder, errors, blocks)
    report = SimulationReport(
        folder=folder,
        stores=world.size.stores,
        days=world.size.days,
        baskets=int(counts["baskets"].sum()),
        lines=int(counts["lines"].sum()),
        rows=rows + int(counts["lines"].sum()),
        errors=found,
    )
    meta = json.dumps(_meta(plan, world, report), indent=2)
    (folder / TRUTH / META).write_text(f"{meta}\n", encoding="utf-8")
    return report


def _write_file(plan: Plan, name: str, texts: Texts, file_format: files.FileFormat, block: int) -> pd.DataFrame:
    """Write a file dirty and, under ``truth/clean``, as it should have been; returns its errors.

    Negative blocks are files that are not receipts.
    """
    rng = random_numbers(plan.seed, Stream.DIRT, 2 * block if block >= 0 else -2 * block - 1)
    header = file_format.delimiter.join(texts)
    spoiled = spoil_file(name, texts, file_format.key, file_format.dirt, rng, file_format.delimiter)
    clean = as_lines(texts, file_format.delimiter)
    for path, lines in ((Path(plan.folder) / name, spoiled.lines), (Path(plan.folder) / TRUTH / "clean" / name, clean)):
        path.write_text("\n".join([header, *lines, ""]), encoding="utf-8", newline="\n")
    return spoiled.errors


def _write_receipts(
    plan: Plan, blocks: Sequence[int], spark: SparkSession | None, partitions: int | None
) -> pd.DataFrame:
    """Write every file of receipts; returns one row of counts per file."""
    if spark is None:
        return pd.DataFrame([_write_block(plan, block) for block in blocks], columns=list(_COUNTS))
    tasks = partitions or min(len(blocks), _MOST_TASKS)
    ids = spark.range(blocks[0], blocks[-1] + 1, 1, numPartitions=tasks)

    def write(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            yield pd.DataFrame([_write_block(plan, int(block)) for block in batch["id"]], columns=list(_COUNTS))

    schema = ", ".join(f"{name} bigint" for name in _COUNTS)
    return ids.mapInPandas(write, schema=schema).toPandas().sort_values("block", ignore_index=True)


def _write_block(plan: Plan, block: int) -> tuple[int, int, int, int]:
    """Write the receipts of one block of customers; a task that runs twice writes the same bytes twice."""
    world = plan.world
    customers = make_customers(world)
    lines = block_lines(world, customers, block)
    texts = files.receipt_texts(world, customers, lines, block)
    errors = _write_file(plan, f"receipts_{block:04d}.csv", texts, files.RECEIPTS, block)
    errors.to_csv(_error_part(Path(plan.folder), block), index=False)
    return block, int(lines["receipt"].max()) + 1, len(lines), len(errors)


def _error_part(folder: Path, block: int) -> Path:
    return folder / TRUTH / _ERROR_PARTS / f"{block:04d}.csv"


def _write_errors(folder: Path, errors: Sequence[pd.DataFrame], blocks: Sequence[int]) -> int:
    """Collect the errors of all files in ``truth/errors.csv``, file after file; returns how many there are."""
    count = sum(len(part) for part in errors)
    target = folder / TRUTH / "errors.csv"
    pd.concat(errors).to_csv(target, index=False, columns=list(ERROR_COLUMNS))
    for block in blocks:
        part = pd.read_csv(_error_part(folder, block), dtype=str, keep_default_na=False)
        part.to_csv(target, index=False, header=False, mode="a")
        count += len(part)
    shutil.rmtree(folder / TRUTH / _ERROR_PARTS)
    return count


def truth_tables(world: World) -> dict[str, pd.DataFrame]:
    """What is true of a world, as small tables by name; ``docs/simulator.md`` says what they hold."""
    customers = make_customers(world)
    stores = world.stores["store"].to_numpy(object)
    days = np.datetime_as_string(world.days).astype(object)
    return {
        "expected_sales": pd.DataFrame(
            {
                "store": np.repeat(stores, len(days)),
                "date": np.tile(days, len(stores)),
                "open": world.is_open.astype(int).ravel(),
                "expected": world.expected.round(2).ravel(),
            }
        ),
        "stores": _store_truth(world.stores),
        "customers": pd.DataFrame(
            {
                "customer": customers["customer"],
                "kind": [CUSTOMER_KINDS[kind].name for kind in customers["kind"]],
                "store": stores[customers["store"]],
                "last_day": days[customers["last_day"]],
            }
        ),
        "rules": pd.DataFrame(
            [
                {"antecedent": "|".join(rule.antecedent), "consequent": rule.consequent}
                | {name: round(value, 6) for name, value in rule_measures(rule, world.popularity).items()}
                for rule in RULES
            ]
        ),
        "sequences": pd.DataFrame(
            [{"items": "|".join(one.items), "next_basket_probability": one.probability} for one in SEQUENCES]
        ),
        "promotions": _promotions(world),
    }


def _store_truth(stores: pd.DataFrame) -> pd.DataFrame:
    """What the file of stores does not say."""
    named = stores.assign(
        type=[STORE_TYPES[one].name for one in stores["type"]],
        competitor_effect=stores["competitor_effect"].where(stores["competitor_opens"].notna()),
    )
    return named[
        ["store", "type", "level", "trend", "competitor_opens", "competitor_effect", "renovation_starts"]
    ].round(6)


def _promotions(world: World) -> pd.DataFrame:
    """One row per promoted item: how many extra items it pulls into a basket."""
    pulls = pull_of_items(world.popularity)
    used = np.unique(world.promoted[world.promoted >= 0])
    return pd.DataFrame({"item": [ITEMS[item] for item in used], "pull": pulls[used].round(6)})


def _meta(plan: Plan, world: World, report: SimulationReport) -> dict[str, Any]:
    """Parameters and counts, for programs and the curious."""
    counts = asdict(report)
    del counts["folder"]
    return {
        "size": plan.size,
        "seed": plan.seed,
        "couplings": plan.couplings,
        "first_day": str(world.days[0]),
        "last_day": str(world.days[world.size.days - 1]),
        "calendar_ends": str(world.days[-1]),
        "days_ahead": DAYS_AHEAD,
        "counts": counts,
        "noise": {"autocorrelation": NOISE_AUTOCORRELATION, "sigma": {one.name: one.sigma for one in STORE_TYPES}},
        "error_shares": {
            name: {f"{blemish.column}: {blemish.kind}": blemish.share for blemish in one.dirt.cells}
            | ({f"{one.dirt.late.column}: {one.dirt.late.kind}": one.dirt.late.share} if one.dirt.late else {})
            | {"duplicate": one.dirt.duplicated, "truncated": one.dirt.truncated}
            for name, one in (
                ("receipts", files.RECEIPTS),
                ("sales", files.SALES),
                ("calendar", files.CALENDAR),
                ("stores", files.STORES),
            )
        },
    }
