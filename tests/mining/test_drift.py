"""Rules of two minings side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import Row, SparkSession
from scipy.stats import false_discovery_control, fisher_exact

from dlmine_spark.config import Config, LakehouseConfig
from dlmine_spark.errors import TableContractError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.mining.significance import log_same_share
from dlmine_spark.pipelines import drift, mine
from dlmine_spark.runs import Ledger, Run
from tests.copies import copy_of
from tests.mining.examples import basket_frame, brute_force

pytestmark = pytest.mark.spark


def config(**mining: object) -> Config:
    settings = {"min_support": 0.05, "min_confidence": 0.5, "min_lift": 0, **mining}
    source = {"kind": "baskets", "path": "baskets.txt", "format": "text"}
    return Config.model_validate({"sources": {"baskets": source}, "mining": settings})


def mined(lakehouse: Lakehouse, baskets: Sequence[Sequence[str]], settings: Config) -> Run:
    """Mine as the stage does, with its row in the ledger."""
    version = lakehouse.overwrite("silver.baskets", basket_frame(lakehouse.spark, baskets))
    ledger = Ledger(lakehouse)
    begun = ledger.begin("mine", settings.digest("mining"), {"table silver.baskets": str(version)})
    bound = lakehouse.for_run(begun.run_id, {"silver.baskets": version})
    return ledger.finish(begun, mine.run(settings, bound), bound.written)


def drifted(lakehouse: Lakehouse) -> dict[str, Row]:
    rows = lakehouse.read("gold.rule_drift").collect()
    return {f"{' '.join(row['antecedent'])} => {' '.join(row['consequent'])}": row for row in rows}


def p_two_sided(hits: int, cases: int, other_hits: int, other_cases: int) -> float:
    table = [[hits, cases - hits], [other_hits, other_cases - other_hits]]
    tails = [float(fisher_exact(table, alternative=side).pvalue) for side in ("greater", "less")]
    return min(1.0, 2 * min(tails))


def test_one_share_of_two_samples() -> None:
    rng = np.random.default_rng(3)
    cases = rng.integers(1, 300, size=(40, 2))
    hits = (cases * rng.random((40, 2))).astype(int)
    p = np.exp(log_same_share(hits[:, 0], cases[:, 0], hits[:, 1], cases[:, 1]))
    expected = [p_two_sided(a, m, b, n) for (a, b), (m, n) in zip(hits.tolist(), cases.tolist(), strict=True)]
    assert p.tolist() == pytest.approx(expected, rel=1e-9)
    assert log_same_share(0, 10, 0, 10).tolist() == [0.0]


EARLIER = (
    [["beer", "crisps"]] * 40 + [["beer"]] * 10 + [["tea", "milk"]] * 30 + [["tea"]] * 20 + [["gin", "tonic"]] * 10
    + [["jam"]] * 5 + [["rye"]] * 85
)  # fmt: skip
LATER = (
    [["beer", "crisps"]] * 26 + [["beer"]] * 24 + [["tea", "milk"]] * 30 + [["tea"]] * 20 + [["gin", "tonic"]] * 2
    + [["jam", "rye"]] * 12 + [["rye"]] * 86
)  # fmt: skip
"""Beer without crisps is more common, gin and tonic are rare, jam comes with rye."""


@dataclass(frozen=True)
class TwoMinings:
    """A lakehouse where baskets were mined, and others after them."""

    lakehouse: Lakehouse
    first: Run
    last: Run
    told_of_the_first: tuple[str, str]
    """What drift said when there was one mining only."""


@pytest.fixture(scope="module")
def mined_twice(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> TwoMinings:
    """Mined once for all tests, each of which goes on with a copy."""
    lakehouse = Lakehouse(spark, LakehouseConfig(root=str(tmp_path_factory.mktemp("drift") / "lakehouse")))
    first = mined(lakehouse, EARLIER, config())
    told = drift.run(config(), lakehouse, first, None)
    assert lakehouse.version("gold.rule_drift") is None
    return TwoMinings(lakehouse, first, mined(lakehouse, LATER, config()), told)


def test_rules_that_appeared_vanished_changed_or_stayed(mined_twice: TwoMinings, tmp_path: Path) -> None:
    lakehouse, first, last = copy_of(mined_twice.lakehouse, tmp_path / "copy"), mined_twice.first, mined_twice.last

    told, table = drift.run(config(), lakehouse, last, None)

    rows = drifted(lakehouse)
    assert {name: row["status"] for name, row in rows.items()} == {
        "beer => crisps": "changed",
        "crisps => beer": "same",
        "milk => tea": "same",
        "tea => milk": "same",
        "gin => tonic": "vanished",
        "tonic => gin": "vanished",
        "jam => rye": "appeared",
    }
    beer = rows["beer => crisps"]
    assert (beer["confidence_before"], beer["confidence_after"]) == (0.8, 0.52)
    assert (beer["support_before"], beer["support_after"]) == (0.2, 0.13)
    assert (beer["lift_before"], beer["lift_after"]) == (pytest.approx(0.8 / 0.2), pytest.approx(0.52 / 0.13))
    assert beer["p_confidence"] == pytest.approx(p_two_sided(40, 50, 26, 50))
    assert beer["p_support"] == pytest.approx(p_two_sided(40, 200, 26, 200))
    assert rows["tea => milk"]["q_value"] == 1.0
    # In 2 baskets gin and tonic are not frequent: nothing is known of their rule.
    gin = rows["gin => tonic"]
    assert (gin["support_before"], gin["support_after"], gin["p_support"], gin["q_value"]) == (0.05, None, None, None)
    versions = (first.output_versions["gold.rules"], last.output_versions["gold.rules"])
    assert {(row["version_before"], row["version_after"]) for row in rows.values()} == {versions} == {(0, 1)}
    assert told == (
        "gold.rules version 0 (200 baskets) to 1 (200): rules 1 appeared (0 beyond chance), "
        "2 vanished (0 beyond chance), 1 changed, 3 same"
    )
    lines = table.splitlines()
    assert lines[0].split() == ["rule", "status", "support", "confidence", "lift", "q"]
    assert lines[1].split()[:4] == ["beer", "=>", "crisps", "changed"]
    assert "0.8 > 0.52" in lines[1]
    assert ["gin", "=>", "tonic", "vanished", "0.05", ">", "?"] in [line.split()[:7] for line in lines]
    assert not any("milk" in line for line in lines)


def test_every_rule_is_measured_and_tested_on_both_sides(lakehouse: Lakehouse) -> None:
    """Where the itemset is frequent, also a rule that is in the other table only; q-values count all that could be."""
    rng = np.random.default_rng(8)
    chances = {"a": 0.5, "b": 0.4, "c": 0.3, "d": 0.3, "e": 0.2}
    sides = []
    for share in (0.2, 0.7):
        baskets = []
        for _ in range(150):
            basket = {item for item, chance in chances.items() if rng.random() < chance}
            basket |= {"b"} if "a" in basket and rng.random() < share else set()
            baskets.append(sorted(basket | ({"z"} if not basket else set())))
        sides.append(baskets)
    settings = config(min_confidence=0.4, max_consequent=2, max_q=0.3)
    mined(lakehouse, sides[0], settings)
    last = mined(lakehouse, sides[1] * 2, settings)

    drift.run(settings, lakehouse, last, None)

    totals = (150, 300)
    counts = [brute_force(sides[0], 8), brute_force(sides[1] * 2, 15)]
    common = [items for items in counts[0] if items in counts[1]]
    hypotheses = sum({1: 0, 2: 2, 3: 6}.get(len(items), len(items) * (len(items) + 1) // 2) for items in common)
    rows = drifted(lakehouse)
    ps = {}
    for name, row in rows.items():
        left, right = tuple(row["antecedent"]), tuple(row["consequent"])
        both = tuple(sorted(left + right))
        for when, side, total in zip(("before", "after"), counts, totals, strict=True):
            is_known = both in side
            assert row[f"confidence_{when}"] == (pytest.approx(side[both] / side[left]) if is_known else None)
            assert row[f"support_{when}"] == (pytest.approx(side[both] / total) if is_known else None)
        if both in counts[0] and both in counts[1]:
            p_confidence = p_two_sided(counts[0][both], counts[0][left], counts[1][both], counts[1][left])
            p_support = p_two_sided(counts[0][both], 150, counts[1][both], 300)
            assert (row["p_confidence"], row["p_support"]) == pytest.approx((p_confidence, p_support))
            ps[name] = min(1.0, 2 * min(p_confidence, p_support))
    q = false_discovery_control([*ps.values(), *[1.0] * (hypotheses - len(ps))])[: len(ps)]
    assert {name: rows[name]["q_value"] for name in ps} == pytest.approx(dict(zip(ps, q.tolist(), strict=True)))
    statuses = {row["status"] for row in rows.values()}
    assert statuses >= {"appeared", "changed", "same"}
    assert any(row["status"] == "appeared" and row["q_value"] is not None for row in rows.values())


def test_the_default_is_the_last_version_with_other_rules(
    mined_twice: TwoMinings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert mined_twice.told_of_the_first == ("gold.rules has no earlier version with other rules than version 0", "")
    lakehouse = copy_of(mined_twice.lakehouse, tmp_path / "copy")
    again = mined(lakehouse, LATER, config())

    assert drift.run(config(), lakehouse, again, None)[0].startswith("gold.rules version 0 (200 baskets) to 2 (200)")
    assert "settings" not in caplog.text
    told, table = drift.run(config(), lakehouse, again, 1)
    assert told.endswith("rules 0 appeared, 0 vanished, 0 changed, 5 same")
    assert table == ""

    stricter = config(min_confidence=0.6)
    drift.run(stricter, lakehouse, mined(lakehouse, LATER, stricter), None)
    assert "the settings of mining were others at version 2" in caplog.text
    beer = drifted(lakehouse)["beer => crisps"]
    assert (beer["status"], beer["confidence_before"], beer["confidence_after"]) == ("vanished", 0.52, 0.52)


def test_versions_that_are_not_there_are_named(mined_twice: TwoMinings, tmp_path: Path) -> None:
    lakehouse = copy_of(mined_twice.lakehouse, tmp_path / "copy")
    with pytest.raises(TableContractError, match=r"no version 7 before the last one, 0, .* there are: none"):
        drift.run(config(), lakehouse, mined_twice.first, 7)
    # A version that no run answers for, as one that was restored by hand.
    lakehouse.overwrite("gold.rules", lakehouse.read("gold.rules", 0))
    last = mined(lakehouse, EARLIER[:150], config())
    for unknown in (2, 3, 9):
        with pytest.raises(TableContractError, match=rf"gold.rules: there is no version {unknown} .* there are: 0, 1$"):
            drift.run(config(), lakehouse, last, unknown)

    # Vacuumed: the files that only an earlier version needs are gone, the log still knows it.
    for file in {Path(name.removeprefix("file:")) for name in lakehouse.read("gold.rules", 1).inputFiles()}:
        file.unlink()
    with pytest.raises(
        TableContractError,
        match=r"gold.rules: version 1 \(of gold.rules version 1\) was vacuumed; .* with: 0 \(--since",
    ):
        drift.run(config(), lakehouse, last, None)
    assert drift.run(config(), lakehouse, last, 0)[0].startswith("gold.rules version 0")
