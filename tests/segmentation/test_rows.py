"""Segments of rows of a table, such as patients."""

from __future__ import annotations

import pytest

from dlmine_spark import schemas as s
from dlmine_spark.config import Config, load_config
from dlmine_spark.errors import ConfigError, TableContractError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import segment

PATIENTS = {
    "kind": "table",
    "path": "patients.csv",
    "columns": {"patient": None, "ward": None, "days": {"type": "integer"}, "visits": {"type": "integer"}},
    "key": ["patient"],
}
ROWS = {"source": "patients", "entity": "patient", "columns": ["days", "visits"], "skewed": ["visits"]}


def config(**rows: object) -> Config:
    return Config.model_validate({"sources": {"patients": PATIENTS}, "segmentation": {"rows": {**ROWS, **rows}}})


def write(lakehouse: Lakehouse) -> None:
    """Thirty who stay long and were never there, thirty who stay shortly and come back; of one, nothing is known."""
    rows = [(f"p{n}", "a", 9.0 + n % 3, 0.0) for n in range(30)]
    rows += [(f"p{n}", "b", 1.0 + n % 2, 20.0 + n % 5) for n in range(30, 60)]
    rows += [("p60", None, None, None)]  # type: ignore[list-item]
    frame = lakehouse.spark.createDataFrame(rows, "patient string, ward string, days double, visits double")
    lakehouse.overwrite("silver.patients", frame)


@pytest.mark.spark
def test_rows_are_segmented_by_their_columns_and_told_by_their_names(lakehouse: Lakehouse) -> None:
    write(lakehouse)

    report = segment.run(config(), lakehouse)

    assert report.message.startswith("61 patients in 2 segments (silhouette 0.9")
    rows = lakehouse.read(s.SEGMENTS.name).collect()
    assert {row["entity"] for row in rows} == {"patient"}
    of = {row["entity_id"]: row["segment"] for row in rows}
    assert len({of[f"p{n}"] for n in range(30)}) == len({of[f"p{n}"] for n in range(30, 60)}) == 1
    assert of["p0"] != of["p30"]
    profiles = lakehouse.read(s.SEGMENT_PROFILES.name)
    assert {row["description"] for row in profiles.select("description").distinct().collect()} == {
        "patients, low visits, high days",
        "patients, high visits, low days",
    }
    long_stays = profiles.where(f"segment = {of['p0']} and feature = 'days'").collect()[0]
    assert long_stays["mean"] == pytest.approx(10.0)


@pytest.mark.spark
def test_columns_that_the_table_lacks_or_that_are_no_numbers(lakehouse: Lakehouse) -> None:
    write(lakehouse)
    kept = {**PATIENTS, "other_columns": "keep", "columns": {"patient": None}}
    for columns, error, message in (
        (["weight"], TableContractError, "silver.patients has no column weight; found patient, ward, days, visits"),
        (["ward"], ConfigError, "ward of silver.patients is of type string, no number"),
    ):
        rows = {"source": "patients", "columns": columns}
        settings = Config.model_validate({"sources": {"patients": kept}, "segmentation": {"rows": rows}})
        with pytest.raises(error, match=message):
            segment.run(settings, lakehouse)
    assert not lakehouse.exists(s.SEGMENTS.name)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("{source: patient, columns: [days]}", "there is no source 'patient', did you mean patients?"),
        ("{source: patients, columns: [day]}", "source patients maps no column day, did you mean days?"),
        ("{source: patients, columns: [ward]}", "ward has to be a number, it is of type string"),
        ("{source: patients, columns: [days, days]}", "columns: days is there twice"),
        ("{source: patients, columns: [days], skewed: [visits]}", "skewed: visits is not among columns"),
        ("{source: patients, columns: [days], entity: customer}", "is that of the panel or of the lines"),
        ("{source: wards, columns: [beds]}", "source wards needs a key: [columns], to name its rows"),
    ],
)
def test_contradictions_are_told_at_load(rows: str, message: str) -> None:
    sources = [
        "sources.patients={kind: table, path: p.csv, columns: {patient: null, ward: null, days: {type: integer}, "
        "visits: {type: integer}}, key: [patient]}",
        "sources.wards={kind: table, path: w.csv, columns: {ward: null, beds: {type: integer}}}",
    ]
    with pytest.raises(ConfigError) as told:
        load_config((), [*sources, f"segmentation.rows={rows}"])
    assert message in str(told.value)
