"""Freshness: how old the newest row may be."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dlmine_spark.cleaning.statistics import age_in_days
from dlmine_spark.config import Config, load_config
from dlmine_spark.errors import ConfigError, SourceError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import clean
from dlmine_spark.pipelines.graph import bring_up_to_date
from tests.cleaning.examples import values

NOON = datetime(2024, 3, 10, 12, tzinfo=UTC)


def test_dates_grow_old_at_midnight_and_times_all_the_time() -> None:
    midnight = datetime(2024, 3, 9, tzinfo=UTC)

    assert age_in_days(midnight, NOON, is_date=True) == 1
    assert age_in_days(midnight, NOON, is_date=False) == 1.5
    assert age_in_days(datetime(2024, 3, 11, tzinfo=UTC), NOON, is_date=True) == -1


def write(path: Path, *lines: str) -> str:
    path.write_text("\n".join(["no,at,item", *lines]) + "\n", encoding="utf-8")
    return str(path)


def config(path: str, **freshness: Any) -> Config:
    columns = {"basket_id": "no", "ts": "at", "item": {"pattern": "[a-z]+"}}
    rules = [{"name": "future", "expr": "ts <= current_timestamp()"}]
    receipts = {"kind": "lines", "path": path, "columns": columns, "rules": rules, "freshness": freshness}
    cleaning = {"max_rejected": 0.6}
    return Config.model_validate({"sources": {"receipts": receipts}, "cleaning": cleaning})


@pytest.mark.spark
def test_the_newest_good_row_decides(lakehouse: Lakehouse, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # The last two are refused, and do not make the rest any newer.
    lines = ["1,2024-03-07 12:00,tea", "2,2024-03-08 00:00,tea", "3,2024-03-10 09:00,TEA", "4,2199-01-01 00:00,tea"]
    path = write(tmp_path / "r.csv", *lines)

    clean.run(config(path, max_age_days=2.5), lakehouse, now=NOON)
    before = lakehouse.version("silver.lines")
    with pytest.raises(SourceError) as caught:
        clean.run(config(path, max_age_days=2), lakehouse, now=NOON)
    assert str(caught.value) == (
        f"{path} (source receipts): column at (ts) ends at 2024-03-08 00:00:00, 2.5 days ago; "
        "sources.receipts.freshness.max_age_days is 2; no silver table was changed"
    )
    assert lakehouse.version("silver.lines") == before

    with caplog.at_level(logging.WARNING):
        clean.run(config(path, max_age_days=2, action="warn"), lakehouse, now=NOON)
    assert "column at (ts) ends at 2024-03-08 00:00:00, 2.5 days ago" in caplog.text
    found = lakehouse.read("ops.quality").where("rule = 'freshness'")
    assert values(found, "source", "outcome", "column", "count") == [("receipts", "warning", "ts", 1)]


@pytest.mark.spark
def test_a_source_without_a_date_is_of_no_known_age(lakehouse: Lakehouse, tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", "1,,tea")

    with pytest.raises(SourceError, match=r"column at \(ts\) holds no value in any row, so nobody knows how old it is"):
        clean.run(config(path, max_age_days=9), lakehouse, now=NOON)


class Silent:
    """Shows nothing."""

    def started(self, stage: str, index: int, total: int) -> None: ...

    def up_to_date(self, stage: str, index: int, total: int) -> None: ...

    def finished(self, stage: str, message: str, seconds: float) -> None: ...

    def failed(self, stage: str, seconds: float) -> None: ...


@pytest.mark.spark
def test_a_file_that_does_not_change_any_more_gets_old_too(
    lakehouse: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "r.csv", f"1,{datetime.now(UTC):%Y-%m-%d %H:%M:%S},tea")
    settings = config(path, max_age_days=2)
    first = bring_up_to_date(settings, lakehouse, ["clean"], Silent())["clean"]
    assert bring_up_to_date(settings, lakehouse, ["clean"], Silent())["clean"].run_id == first.run_id

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime(2999, 1, 1, tzinfo=tz)

    monkeypatch.setattr("dlmine_spark.pipelines.graph.datetime", Later)
    with pytest.raises(SourceError, match=r"days ago; sources\.receipts\.freshness\.max_age_days is 2"):
        bring_up_to_date(settings, lakehouse, ["clean"], Silent())


@pytest.mark.parametrize(
    ("freshness", "message"),
    [
        ("{max_age_days: 2}", r"freshness\.column: is needed, since a source of this kind"),
        ("{column: AT, max_age_days: 2}", r"freshness\.column: no column AT is mapped, did you mean at\?"),
        ("{column: item, max_age_days: 2}", r"freshness\.column: item has to be a date or timestamp"),
        ("{column: at, max_age_days: -1}", r"sources\.s\.freshness\.max_age_days: .*greater than or equal to 0"),
        ("{column: at}", r"sources\.s\.freshness\.max_age_days: is required"),
    ],
)
def test_wrong_settings_of_freshness_are_refused(freshness: str, message: str) -> None:
    columns = "{at: {type: date}, item: null}"
    with pytest.raises(ConfigError, match=message):
        load_config((), [f"sources.s={{kind: table, path: f, columns: {columns}, freshness: {freshness}}}"])
