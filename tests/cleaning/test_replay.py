"""Refused rows, corrected by hand, find their way into the tables, and stay there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dlmine_spark.config import Config
from dlmine_spark.errors import TableContractError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import clean, judging
from dlmine_spark.pipelines.replay import take_up_corrections

pytestmark = pytest.mark.spark


def config(path: Path) -> Config:
    columns = {"id": {"required": True}, "price": {"type": "double", "min": 0}}
    sources = {"goods": {"kind": "table", "path": str(path), "columns": columns}}
    return Config.model_validate({"sources": sources, "cleaning": {"max_rejected": 0.9}})


def correct(lakehouse: Lakehouse, old: dict[str, str | None], new: str) -> None:
    """As somebody would with SQL."""
    row = json.dumps(old, separators=(",", ":"))
    lakehouse.spark.sql(
        f"UPDATE delta.`{lakehouse.address('silver.quarantine')}` SET corrected = '{new}' WHERE row = '{row}'"
    )


def take_up(path: Path, lakehouse: Lakehouse) -> int:
    """As another process, which sees what was done by hand."""
    return take_up_corrections(config(path), Lakehouse(lakehouse.spark, lakehouse.config))


def prices(lakehouse: Lakehouse) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in lakehouse.read("silver.goods").select("id", "price").collect())


def test_corrected_rows_are_judged_again_and_stay_corrected(
    lakehouse: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "TWO_LANES_FROM_BYTES", 0)
    path = tmp_path / "goods.csv"
    path.write_text("id,price\na,1\nb,-2\nc,-3\nd\n", encoding="utf-8")
    clean.run(config(path), lakehouse)
    assert take_up(path, lakehouse) == 0

    correct(lakehouse, {"id": "b", "price": "-2"}, '{"id": "b", "price": "2"}')
    correct(lakehouse, {"id": "c", "price": "-3"}, '{"id": "c", "price": "-4"}')
    correct(lakehouse, {"_raw": "d"}, '{"price": "5", "id": "d"}')
    assert take_up(path, lakehouse) == 3
    report = clean.run(config(path), lakehouse)

    assert prices(lakehouse) == [("a", 1.0), ("b", 2.0), ("d", 5.0)]
    assert (report.rows_in, report.rows_rejected) == (4, 1)
    by_hand = lakehouse.read("silver.repairs").where("rule = 'correction'").select("old_value", "new_value")
    assert ('{"_raw":"d"}', '{"id":"d","price":"5"}') in [tuple(row) for row in by_hand.collect()]

    # What was refused again can be corrected again, and a file that grows does not undo it.
    correct(lakehouse, {"id": "c", "price": "-4"}, '{"id": "c", "price": "4"}')
    take_up(path, lakehouse)
    path.write_text("id,price\na,1\nc,-3\nd\ne,6\n", encoding="utf-8")
    clean.run(config(path), lakehouse)

    # On record is what was applied: one corrected row does not come any more.
    on_record = lakehouse.read("silver.repairs").where("rule = 'correction'").orderBy("key").select("key")
    assert [row["key"] for row in on_record.collect()] == ['{"_raw":"d"}', '{"id":"c","price":"-3"}']
    assert prices(lakehouse) == [("a", 1.0), ("c", 4.0), ("d", 5.0), ("e", 6.0)]


@pytest.mark.parametrize(("given", "problem"), [("2", "is no JSON object"), ('{"cost": "2"}', "has no column cost")])
def test_a_correction_that_cannot_be_one_is_named(
    lakehouse: Lakehouse, tmp_path: Path, given: str, problem: str
) -> None:
    path = tmp_path / "goods.csv"
    path.write_text("id,price\na,1\nb,-2\n", encoding="utf-8")
    with pytest.raises(TableContractError, match="run 'dlmine clean' first"):
        take_up(path, lakehouse)
    clean.run(config(path), lakehouse)
    correct(lakehouse, {"id": "b", "price": "-2"}, given)

    with pytest.raises(TableContractError, match=rf"silver.quarantine: the correction .* of source goods {problem}"):
        take_up(path, lakehouse)
