"""The stage: its two tables, what it says, and when there is nothing to do."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.errors import ConfigError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import segment
from dlmine_spark.runs import NotApplicable
from dlmine_spark.segmentation.features import STORES
from tests.segmentation.examples import START, panel, rows_of, stores_of_two_kinds

pytestmark = pytest.mark.spark


def config(**segmentation: object) -> Config:
    return Config.model_validate(
        {
            "sources": {
                "sales": {"kind": "panel", "path": "p.csv", "columns": {"unique_id": None, "ds": None, "y": None}},
                "calendar": {
                    "kind": "calendar",
                    "path": "c.csv",
                    "columns": {"unique_id": None, "ds": None, "promo": {"type": "double"}},
                },
            },
            "segmentation": segmentation,
        }
    )


def bound(lakehouse: Lakehouse) -> Lakehouse:
    """As a stage gets it: what earlier runs wrote is not there unless it is asked for."""
    return lakehouse.for_run("run", {s.PANEL.name: lakehouse.pinned_version(s.PANEL.name)})


def numbers(lakehouse: Lakehouse) -> dict[str, int]:
    segments = Lakehouse(lakehouse.spark, lakehouse.config).read(s.SEGMENTS.name)
    return {row["entity_id"]: row["segment"] for row in segments.where("entity = 'store'").collect()}


def write_lines(lakehouse: Lakehouse) -> None:
    """Six customers who come daily and six who came once."""
    rows = [
        (f"{customer}-{day}", datetime(2024, 1, 1 + day), "milk", 1.0, 2.0, f"c{customer}", None)
        for customer in range(12)
        for day in range(20 if customer < 6 else 1)
    ]
    lakehouse.overwrite(s.LINES.name, lakehouse.spark.createDataFrame(rows, s.LINES.ddl))


def test_stores_and_customers_are_written_and_counted(lakehouse: Lakehouse) -> None:
    rows, _ = stores_of_two_kinds()
    stores = panel(lakehouse.spark, rows)
    lakehouse.overwrite(s.PANEL.name, stores)
    promoted = F.date_diff("ds", F.lit(START)) % 3 == 0
    lakehouse.overwrite(s.CALENDAR.name, stores.select("unique_id", "ds", promoted.cast("double").alias("promo")))
    write_lines(lakehouse)

    report = segment.run(config(), lakehouse)

    assert isinstance(report, segment.SegmentReport)
    assert [(count.entity, count.sizes) for count in report.segments] == [("store", (4, 3)), ("customer", (6, 6))]
    assert report.message.startswith("7 stores in 2 segments (silhouette 0.9")
    assert "; 12 customers in 2 segments (silhouette 1.00)" in report.message
    assert (report.rows_in, report.rows_out) == (19, 19)
    segments = Lakehouse(lakehouse.spark, lakehouse.config).read(s.SEGMENTS.name)
    assert {tuple(row) for row in segments.groupBy("entity").count().collect()} == {("store", 7), ("customer", 12)}
    assert segments.where(F.abs(F.aggregate("membership", F.lit(0.0), lambda a, b: a + b) - 1) > 1e-12).isEmpty()
    profiles = Lakehouse(lakehouse.spark, lakehouse.config).read(s.SEGMENT_PROFILES.name)
    # The promotions stand in the calendar only; half a year of history says nothing about a year.
    known = {row["feature"] for row in profiles.where("entity = 'store'").select("feature").distinct().collect()}
    assert known == set(STORES.names) - {name for name in STORES.names if name.split()[-1] == "level"} - {
        "growth per year"
    } | {"average level"}


def test_segments_keep_their_numbers_and_can_be_kept_as_they_are(lakehouse: Lakehouse) -> None:
    rows, kinds = stores_of_two_kinds()
    lakehouse.overwrite(s.PANEL.name, panel(lakehouse.spark, rows))
    settings = config_without_calendar()
    first = bound(lakehouse)
    segment.run(settings, first)
    assert s.SEGMENT_MODELS.name in first.written
    before = numbers(lakehouse)
    words = {
        row["segment"]: row["description"]
        for row in lakehouse.read(s.SEGMENT_PROFILES.name).where("entity = 'store'").collect()
    }
    weekend = before["s0"]
    assert "weekend" in words[weekend]
    assert "weekday" in words[1 - weekend]

    # Stores that live from the week come to be the most: by size, the numbers would change places.
    more = [(f"n{n}", *row[1:]) for n in range(4) for row in rows if row[0] == "s1"]
    lakehouse.overwrite(s.PANEL.name, panel(lakehouse.spark, rows + more))
    report = segment.run(settings, bound(lakehouse))
    assert isinstance(report, segment.SegmentReport)
    assert report.segments[0].sizes == (4, 7)
    grown = numbers(lakehouse)
    assert {name: grown[name] for name in kinds} == before

    # One of them alone is placed, where a fit would find that there is nothing to tell apart.
    lakehouse.overwrite(s.PANEL.name, panel(lakehouse.spark, more[:42]))
    placing = bound(lakehouse)
    report = segment.run(config_without_calendar(assign_only=True), placing)
    assert isinstance(report, segment.SegmentReport)
    assert report.segments[0].sizes == (0, 1)
    assert numbers(lakehouse) == {"n0": 1 - weekend}
    assert placing.written[s.SEGMENT_MODELS.name] == lakehouse.version(s.SEGMENT_MODELS.name) == 1


def test_nothing_can_be_placed_without_a_fit(lakehouse: Lakehouse) -> None:
    lakehouse.overwrite(s.PANEL.name, panel(lakehouse.spark, rows_of("all", 20, float)))
    with pytest.raises(ConfigError, match=r"segmentation.assign_only: gold.segment_models has no segments of stores"):
        segment.run(config_without_calendar(assign_only=True), bound(lakehouse))


def test_segments_of_an_older_version_do_not_stop_a_run(lakehouse: Lakehouse, caplog: pytest.LogCaptureFixture) -> None:
    lakehouse.overwrite(s.PANEL.name, panel(lakehouse.spark, rows_of("all", 20, float)))
    lakehouse.spark.sql("select 'store' as entity, 'all' as entity_id, 3 as segment").write.format("delta").save(
        lakehouse.address(s.SEGMENTS.name)
    )
    segment.run(config_without_calendar(), bound(lakehouse))
    assert numbers(lakehouse) == {"all": 0}
    assert "numbered by size, not as before" in caplog.text


def test_halves_of_history_are_compared(lakehouse: Lakehouse) -> None:
    """Customers who swap their habits, stores that do not."""
    rows, _ = stores_of_two_kinds()
    lakehouse.overwrite(s.PANEL.name, panel(lakehouse.spark, rows))
    visits = [
        (f"{customer}-{day}", datetime(2024, 1, 1) + timedelta(days=day), "milk", 1.0, 2.0, f"c{customer}", None)
        for customer in range(12)
        for day in range(40)
        # Some come daily in the first half and every tenth day in the second; of a third kind are both.
        if day % 10 == 0 or (customer % 2 == 0) == (day < 20) or customer % 3 == 0
    ]
    lakehouse.overwrite(s.LINES.name, lakehouse.spark.createDataFrame(visits, s.LINES.ddl))
    report = segment.run(config_without_calendar(k=2), lakehouse)
    assert isinstance(report, segment.SegmentReport)
    stores, customers = report.segments
    assert stores.agreement == 1.0
    assert customers.agreement is not None
    assert customers.agreement < 0.5
    assert "halves of history agree by 1.00" in report.message


def test_one_series_is_one_segment_and_the_message_says_so(lakehouse: Lakehouse) -> None:
    lakehouse.overwrite(s.PANEL.name, panel(lakehouse.spark, rows_of("all", 20, float)))
    report = segment.run(config_without_calendar(), lakehouse)
    assert isinstance(report, segment.SegmentReport)
    assert report.message == "1 store in 1 segment (there is nothing to tell apart)"
    row = lakehouse.read(s.SEGMENTS.name).collect()[0]
    assert (row["entity_id"], row["segment"], row["membership"]) == ("all", 0, [1.0])


def test_segments_of_an_earlier_cutoff_stay_as_they_were(lakehouse: Lakehouse) -> None:
    settings = config_without_calendar()
    early = panel(lakehouse.spark, rows_of("early", 20, float))
    late = panel(lakehouse.spark, rows_of("late", 20, float))
    first = segment.segment_series(settings, lakehouse, early, None, "staging.as_of")
    second = segment.segment_series(settings, lakehouse, late, None, "staging.as_of")
    assert first is not None
    assert second is not None
    assert [row["entity_id"] for row in first.assignments.collect()] == ["early"]
    assert [row["entity_id"] for row in second.assignments.collect()] == ["late"]


def test_customers_are_left_alone_where_they_are_not_wanted(lakehouse: Lakehouse) -> None:
    write_lines(lakehouse)
    report = segment.run(config_without_calendar(customers=False), lakehouse)
    assert isinstance(report, NotApplicable)
    assert not lakehouse.exists(s.SEGMENTS.name)


def test_anonymous_lines_without_a_panel_are_not_applicable(lakehouse: Lakehouse) -> None:
    rows = [("1", datetime(2024, 1, 1) + timedelta(hours=9), "milk", 1.0, 1.0, None, None)]
    lakehouse.overwrite(s.LINES.name, lakehouse.spark.createDataFrame(rows, s.LINES.ddl))
    report = segment.run(config_without_calendar(), lakehouse)
    assert isinstance(report, NotApplicable)
    assert "no panel, and no basket lines with customer and time" in report.reason


def config_without_calendar(**segmentation: object) -> Config:
    full = config(**segmentation)
    return full.model_copy(update={"sources": {"sales": full.sources["sales"]}})
