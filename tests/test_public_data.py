"""The suite on real public data, with the exact counts that are known of it (skipped where there is none)."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlmine_spark.config import load_config
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import clean, mine

ROOT = Path(__file__).parents[1]


@pytest.mark.usefixtures("compiled")
def test_online_retail_is_accounted_for_line_by_line_and_mined_exactly(lakehouse: Lakehouse, public_data: Path) -> None:
    """541,909 lines in; 19,960 baskets, 385 itemsets at 2 % and 59 rules of confidence .5, by both engines."""
    config = load_config(
        [ROOT / "conf" / "examples" / "online_retail.yaml"],
        ["mining.min_support=0.02", "mining.min_confidence=0.5", "mining.verify=true"],
        {"DLMINE_DATA": str(public_data)},
    )

    clean.run(config, lakehouse)
    mine.run(config, lakehouse)

    source = next(iter(config.sources))
    bronze = lakehouse.read(f"bronze.{source}")
    lines = lakehouse.read("silver.lines")
    raw = [name for name in bronze.columns if not name.startswith("_")]
    duplicates = bronze.count() - bronze.select(*raw).distinct().count()
    assert bronze.count() == 541_909
    assert lines.count() + lakehouse.read("silver.quarantine").count() + duplicates == 541_909
    assert lines.select("basket_id").distinct().count() == 19_960
    assert lakehouse.read("gold.itemsets").count() == 385
    rules = lakehouse.read("gold.rules").where("size(consequent) = 1 and confidence >= 0.5")
    assert rules.count() == 59


@pytest.mark.parametrize("algorithm", ["apriori", "fpgrowth"])
def test_any_file_of_baskets_is_mined_through_its_example_config(
    lakehouse: Lakehouse, public_data: Path, algorithm: str
) -> None:
    config = load_config(
        [ROOT / "conf" / "examples" / "baskets.yaml"],
        [
            f"sources.baskets.path={public_data / 'fimi' / 'mushroom_fimi.dat'}",
            "mining.min_support=0.4",
            f"mining.algorithm={algorithm}",
        ],
    )

    clean.run(config, lakehouse)
    mine.run(config, lakehouse)

    assert lakehouse.read("silver.baskets").count() == 8_124
    assert lakehouse.read("gold.itemsets").count() == 565
