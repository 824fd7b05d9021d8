"""New files are added exactly once, whatever happens in between; and by a stream as by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dlmine_spark import schemas as s
from dlmine_spark.errors import ConfigError, SourceError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import batches, judging, stream
from tests.cleaning.deliveries import MONDAY, RECEIPTS, TUESDAY, contents, deliver, other, quantities, receipts, run

pytestmark = pytest.mark.spark


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(["silver.lines"], id="once"),
        pytest.param(["bronze.receipts", "silver.lines", s.QUALITY.name], id="again and again", marks=pytest.mark.slow),
    ],
)
def test_a_job_killed_between_its_writes_goes_on(
    lakehouse: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: list[str]
) -> None:
    monkeypatch.setattr(judging, "TWO_LANES_FROM_BYTES", 0)
    price = {"fill": "median", "outliers": {"method": "iqr", "threshold": 3, "action": "clip"}}
    config = receipts(tmp_path, columns={**RECEIPTS["columns"], "price": price})
    many = [f"{no},2024-03-03,tea,1,{1 + no / 10}" for no in range(10, 20)]
    deliver(tmp_path, "1.csv", [*MONDAY, *many])
    run(config, lakehouse)
    undisturbed = other(lakehouse, tmp_path, "undisturbed")
    shutil.copytree(lakehouse.config.root, undisturbed.config.root)
    deliver(tmp_path, "2.csv", [*TUESDAY, "7,2024-03-05,tea,1,", "8,2024-03-05,tea,1,50"])
    run(config, undisturbed, "second")

    for table in kills:
        with monkeypatch.context() as patched:
            kill_after_writing(table, patched)
            with pytest.raises(Killed):
                run(config, lakehouse, "second")
    deliver(tmp_path, "3.csv", ["9,2024-03-05,tea,1,2"])
    assert run(config, lakehouse, "second").is_behind
    run(config, lakehouse, "third")
    run(config, undisturbed, "third")

    # What came after the kill is a batch of its own, and taken in by a run of its own.
    assert contents(lakehouse) == contents(undisturbed)
    assert told(lakehouse, "second") == told(undisturbed, "second")
    assert told(lakehouse, "third") == told(undisturbed, "third")
    prices = {row["basket_id"]: row["price"] for row in lakehouse.read("silver.lines").collect()}
    # What new rows are filled with and clipped to is learned from earlier ones too.
    assert 2 < prices["7"] < 3
    assert 3 < prices["8"] < 6


def told(lakehouse: Lakehouse, run_id: str) -> list[tuple[Any, ...]]:
    """What the metrics say of a run."""
    return sorted(
        (row["source"], row["outcome"], row["rule"], row["column"], row["count"])
        for row in lakehouse.read(s.QUALITY.name).where(f"{s.RUN_ID} = '{run_id}'").collect()
    )


@pytest.mark.slow
def test_a_killed_attempt_that_is_a_week_old_is_repeated_from_bronze(
    lakehouse: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(tmp_path, "1.csv", MONDAY)
    run(receipts(tmp_path), lakehouse)
    deliver(tmp_path, "2.csv", TUESDAY)
    with monkeypatch.context() as patched:
        kill_after_writing("silver.lines", patched)
        with pytest.raises(Killed):
            run(receipts(tmp_path), lakehouse, "second")
    # Versions of tables are only kept for so long.
    monkeypatch.setattr(batches, "_KEPT_DAYS", 0)
    report = run(receipts(tmp_path), lakehouse, "second")

    assert report.rows_in == 6
    assert quantities(lakehouse) == {("1", "tea"): 2.0, ("1", "milk"): 4.0, ("3", "tea"): 1.0, ("3", "milk"): None}


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


def kill_after_writing(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def remember(lakehouse: Lakehouse, written: str, kept: Any = Lakehouse._remember) -> int:
        version = kept(lakehouse, written)
        if written == table:
            raise Killed(table)
        return int(version)

    monkeypatch.setattr(Lakehouse, "_remember", remember)


def test_a_stream_takes_in_what_comes(lakehouse: Lakehouse, tmp_path: Path) -> None:
    config = receipts(tmp_path, columns={"basket_id": "no", "item": "article", "quantity": "pieces"})
    config = config.model_copy(update={"lakehouse": lakehouse.config})
    taken: list[int] = []

    def take_in() -> None:
        taken.append(run(config, lakehouse).rows_in)

    deliver(tmp_path, "1.csv", MONDAY)
    stream.run(config, lakehouse.spark, take_in)
    # The first look is the job's own, the second the query's; both go by the same ledger.
    assert taken == [3, 0]

    deliver(tmp_path, "2.csv", TUESDAY)
    with pytest.raises(SourceError, match="said take_in"):
        stream.run(config, lakehouse.spark, failing(on_call=2))
    # The stream did not count as done what failed.
    stream.run(config, lakehouse.spark, take_in)
    assert taken == [3, 0, 3, 0]


def failing(*, on_call: int) -> Callable[[], None]:
    calls = 0

    def take_in() -> None:
        nonlocal calls
        calls += 1
        if calls == on_call:
            raise SourceError("said take_in")

    return take_in


def test_a_stream_needs_a_source_that_files_are_added_to(lakehouse: Lakehouse, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no source has load: merge"):
        stream.run(receipts(tmp_path, load="replace"), lakehouse.spark, lambda: None)
