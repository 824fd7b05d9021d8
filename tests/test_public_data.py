"""The suite on real public data, with the exact counts that are known of it (skipped where there is none)."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from dlmine_spark.cli import main
from dlmine_spark.config import load_config
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import arima, backtest, blend, clean, contrast, fuse, mine, segment, train

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "conf" / "examples"


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


def test_patients_by_month_are_forecast_a_year_ahead(lakehouse: Lakehouse, public_data: Path, tmp_path: Path) -> None:
    """Twelve of the 767 series, made long by the command that the page tells; 2006 is held out."""
    whole = (public_data / "hospital" / "hospital_wide.csv").read_text(encoding="utf-8").splitlines()
    wide, long = tmp_path / "wide.csv", tmp_path / "hospital.csv"
    wide.write_text("\n".join(",".join(line.split(",")[:13]) for line in whole), encoding="utf-8")
    main(["init", str(wide), "--long", str(long), "--out", str(tmp_path / "guess.yaml")])
    small = ("training={backend: local, epochs: 2, samples_per_epoch: 256, hidden: 8, members: 1, final_epochs: 1}",)
    config = load_config(
        [EXAMPLES / "hospital.yaml"], [f"sources.patients.path={long}", "arima.feature_origins=2", *small]
    )

    for stage in (clean, segment, arima, fuse, train, blend, backtest):
        stage.run(config, lakehouse)

    assert lakehouse.read("silver.panel").count() == 12 * 84
    overall = lakehouse.read("gold.metrics").where("scope = 'overall' and metric = 'mase'").collect()
    mase = {row["model"]: row["value"] for row in overall}
    assert mase["arima"] < mase["seasonal_naive"]
    assert mase["blend"] < mase["seasonal_naive"]
    months = lakehouse.read("gold.forecasts").where("model = 'lstm'").selectExpr("min(ds)", "max(ds)").collect()[0]
    assert [f"{month:%Y-%m}" for month in months] == ["2006-01", "2006-12"]


def test_diagnoses_that_come_together_and_segments_of_patients(
    lakehouse: Lakehouse, public_data: Path, tmp_path: Path
) -> None:
    """The first 6,000 admissions of 101,766."""
    archive = zipfile.ZipFile(public_data / "diabetes130" / "dataset_diabetes.zip")
    lines = archive.read("dataset_diabetes/diabetic_data.csv").decode().splitlines()[:6_001]
    (tmp_path / "some.csv").write_text("\n".join(lines), encoding="utf-8")
    few = ("mining.min_support=0.01", "mining.groups={min_baskets: 200, min_count: 10}", "segmentation.restarts=2")
    config = load_config([EXAMPLES / "diagnoses.yaml"], [f"sources.admissions.path={tmp_path / 'some.csv'}", *few])

    for stage in (clean, segment, mine):
        stage.run(config, lakehouse)
    contrast.check(config, "age")
    contrast.run(config, lakehouse, "age")

    patients = len({line.split(",")[1] for line in lines[1:]})
    admissions = lakehouse.read("silver.admissions")
    assert admissions.count() == patients < 6_000
    assert lakehouse.read("silver.quarantine").count() == 0
    assert admissions.where("concat_ws('', diag_1, diag_2, diag_3) like '%.%'").isEmpty()
    segments = lakehouse.read("gold.segments").where("entity = 'patient'")
    assert segments.count() == patients
    rules = lakehouse.read("gold.rules").where("is_kept")
    # Unstable angina goes with a disease of the coronary arteries.
    angina = rules.where("antecedent = array('diag=411') and consequent = array('diag=414')").collect()[0]
    assert angina["confidence"] > 0.8
    groups = {row["group"] for row in lakehouse.read("gold.group_rules").select("group").distinct().collect()}
    assert "[70-80)" in groups


BAD = (
    "48752004140802930828814900604a8950410010026b0eabb5100c003a1ca0484048620051069850c01f4005550883240002"
    "244a9085111a424023b0041189d20460912b489f5260294c7e7132269161a5dc84082400000c3120e9909011355211090e08"
    "044e1239b0a2642680020d001801372d11a02dc2120c3d0002"
)
"""Which of the 1,000 loans went bad, a bit each (Statlog, German Credit; Hofmann 1994, UCI, CC BY 4.0): the public data
have the loans in the same order, but without that."""
PLACES = {
    "status_of_existing_checking_account": 0,
    "credit_history": 8,
    "purpose": 9,
    "savings_account_and_bonds": 17,
    "present_employment_since": 18,
    "installment_rate_in_percentage_of_disposable_income": 19,
    "personal_status_and_sex": 20,
    "other_debtors_or_guarantors": 21,
    "property": 23,
    "other_installment_plans": 31,
    "housing": 32,
    "number_of_existing_credits_at_this_bank": 33,
    "job": 34,
    "foreign_worker": 37,
}
"""Columns by their place among the 38 codes of a loan; those between tell on which side of thresholds a number lies."""


def test_rules_that_end_in_a_bad_loan(lakehouse: Lakehouse, public_data: Path, tmp_path: Path) -> None:
    """Of the loans of customers with an overdrawn account (code 1), 135 of 274 went bad."""
    loans = [line.split() for line in (public_data / "uci_discrete" / "german-credit.dat").read_text().splitlines()]
    is_bad = [bit == "1" for bit in f"{int(BAD, 16):01000b}"]
    rows = [",".join([*PLACES, "duration_in_month", "credit_amount", "age_in_years", "creditability"])]
    for number, (codes, bad) in enumerate(zip(loans, is_bad, strict=True)):
        # The numbers themselves are not in the file; these serve to be cut into ranges.
        rows.append(",".join([*(codes[at] for at in PLACES.values()), str(6 + number % 60), str(500 + number)]))
        rows[-1] += f",{20 + number % 50},{'bad' if bad else 'good'}"
    (tmp_path / "loans.csv").write_text("\n".join(rows), encoding="utf-8")
    config = load_config([EXAMPLES / "credit_risk.yaml"], [f"sources.loans.path={tmp_path / 'loans.csv'}"])

    clean.run(config, lakehouse)
    mine.run(config, lakehouse)
    contrast.run(config, lakehouse, "status_sex")

    assert lakehouse.read("silver.loans").where("risk = 'bad'").count() == 300
    rules = lakehouse.read("gold.rules")
    assert {tuple(row["consequent"]) for row in rules.select("consequent").distinct().collect()} == {("risk=bad",)}
    overdrawn = rules.where("antecedent = array('checking=1')").collect()[0]
    assert (round(overdrawn["support"], 3), round(overdrawn["confidence"], 4)) == (0.135, round(135 / 274, 4))
    assert overdrawn["is_kept"]
    # Sex and age are no items.
    assert rules.where("exists(antecedent, item -> item like 'status_sex%' or item like 'age%')").isEmpty()
    assert not lakehouse.read("gold.group_rules").isEmpty()
