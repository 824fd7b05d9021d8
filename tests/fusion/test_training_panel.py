"""The training panel: one row per series and date, nothing from after the cutoff, no nulls where the network reads."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import Config, load_config
from dlmine_spark.errors import TableContractError
from dlmine_spark.frequency import DAILY, HOURLY, MONTHLY, WEEKLY, Frequency
from dlmine_spark.fusion.panel import PROFILE, PanelInputs, training_panel
from dlmine_spark.fusion.signals import (
    RULE_PULL,
    SEQUENCE_PULL,
    SEQUENCES_DUE,
    TOP_ANTECEDENTS,
    activations,
    add_rule_pull,
    add_sequence_pull,
    antecedents_of,
    delayed_pull,
    due,
    pull_of_items,
    segment_signals,
)
from dlmine_spark.pipelines.common import all_cutoffs, covariates, known_future
from tests.mining.examples import rule

START = date(2024, 1, 1)
CUTOFF = START + timedelta(days=27)
CONFIG = load_config(
    overrides=[
        "sources.panel={kind: panel, path: p, columns: {unique_id: u, ds: d, y: y, open: o}, other_columns: keep, "
        "roles: {promo: known_future, item: known_future}}",
        "evaluation.horizon=7",
    ]
)


def panel(spark: SparkSession, days: int = 35, future_y: float = 1.0) -> DataFrame:
    """Two series; ``a`` doubles on promotion days; values after the cutoff can be replaced."""
    rows = []
    for series, level in (("a", 100.0), ("b", 10.0)):
        for day in range(days):
            ds = START + timedelta(days=day)
            promo = 1.0 if day % 5 == 0 else 0.0
            y = level * (2 if promo and series == "a" else 1) + day % 7
            y = y if ds <= CUTOFF else future_y
            rows.append((series, ds, y, 1 if day != 3 else 0, day == 4, promo, "x" if promo else None, float(day)))
    return spark.createDataFrame(
        rows,
        "unique_id string, ds date, y double, open int, y_imputed boolean, promo double, item string, visitors double",
    )


def build(
    spark: SparkSession, table: DataFrame, config: Config = CONFIG, statics: DataFrame | None = None
) -> DataFrame:
    roles = covariates(config, table, None)
    known = known_future(config, table, None, DAILY, CUTOFF)
    rules = spark.createDataFrame(
        [
            rule("x", "y", lift=1.5, confidence=0.6, consequent_support=0.1),
            rule("x", "z", lift=2.0, confidence=0.4, consequent_support=0.2),
            rule("xy", "z", lift=2.0, confidence=0.9, consequent_support=0.2),
        ],
        s.RULES.ddl,
    )
    known = add_rule_pull(known, rules, "item")
    segments = segment_signals(
        spark.createDataFrame(
            [("store", "a", 1, 0.1, [0.2, 0.8])],
            "entity string, entity_id string, segment int, distance double, membership array<double>",
        ),
        2,
    )
    origins = spark.createDataFrame(
        [
            ("a", CUTOFF, CUTOFF, [1.0] * 7, 0.1),
            ("a", CUTOFF - timedelta(days=7), CUTOFF, [2.0] * 7, 0.1),
            ("a", CUTOFF + timedelta(days=1), CUTOFF, [3.0] * 7, 0.1),
        ],
        "unique_id string, origin date, fit_cutoff date, path array<double>, sigma double",
    )
    inputs = PanelInputs(table, known, statics, segments, origins, roles.known_future, roles.past_only, "promo")
    return training_panel(inputs, CUTOFF, DAILY)


def test_roles_are_the_declared_ones_and_past_only_by_default(spark: SparkSession) -> None:
    roles = covariates(CONFIG, panel(spark), None)

    assert roles.known_future == ("promo", "item")
    assert roles.past_only == ("visitors",)
    assert roles.open_is_known


def test_the_panel_is_gap_free_masked_and_without_nulls(spark: SparkSession) -> None:
    rows = build(spark, panel(spark)).orderBy(s.UNIQUE_ID, s.DS).toPandas()

    a = rows[rows.unique_id == "a"].reset_index(drop=True)
    assert len(a) == 35
    assert a.ds.max() == CUTOFF + timedelta(days=7)
    # closed on day 3, imputed on day 4, unknown after the cutoff
    assert [day for day in range(35) if a["mask"][day] == 0] == [3, 4, *range(28, 35)]
    assert a.y[28:].isna().all()
    features = [name for name in rows.columns if name[:3] in ("kf_", "po_", "sn_", "sc_")]
    assert rows[features].notna().all().all()
    assert (a.po_visitors[28:] == 0).all()


def test_nothing_after_the_cutoff_reaches_the_panel(spark: SparkSession) -> None:
    one = build(spark, panel(spark, future_y=1.0)).orderBy(s.UNIQUE_ID, s.DS).toPandas()
    other = build(spark, panel(spark, future_y=1e9)).orderBy(s.UNIQUE_ID, s.DS).toPandas()

    assert one.equals(other)


def test_the_profile_knows_that_promotions_double_a(spark: SparkSession) -> None:
    rows = build(spark, panel(spark)).groupBy(s.UNIQUE_ID, "kf_promo").agg(F.avg(PROFILE).alias("profile"))

    profile = {(row[s.UNIQUE_ID], row["kf_promo"]): row["profile"] for row in rows.collect()}
    assert profile["a", 1.0] - profile["a", 0.0] > 0.1
    assert abs(profile["b", 1.0] - profile["b", 0.0]) < 0.1


def test_rule_pull_sums_what_single_items_drag_along(spark: SparkSession) -> None:
    rows = build(spark, panel(spark)).select("kf_promo", RULE_PULL).distinct().collect()

    assert {row["kf_promo"]: round(row[RULE_PULL], 6) for row in rows} == {1.0: 0.7, 0.0: 0.0}


def test_rules_at_chance_level_and_rules_not_kept_pull_nothing(spark: SparkSession) -> None:
    rules = spark.createDataFrame(
        [
            rule("x", "y", lift=1.0, confidence=0.5, consequent_support=0.5),
            rule("x", "z", lift=3.0, confidence=0.9, consequent_support=0.3, is_kept=False),
        ],
        s.RULES.ddl,
    )
    assert pull_of_items(rules).count() == 0


def test_the_pull_of_sequences_is_told_by_steps_and_item() -> None:
    pulls = [("x", 3.0, 0.5), ("x", 3.4, 0.25), ("y", 10.0, 0.125), ("y", 0.0, 1.0)]

    assert delayed_pull(pulls, DAILY) == {0: {"y": 1.0}, 3: {"x": 0.75}, 10: {"y": 0.125}}
    # Within the same week still, or in the next.
    assert delayed_pull(pulls, WEEKLY) == {0: {"x": 0.75, "y": 1.0}, 1: {"y": 0.125}}


def test_what_a_promotion_brings_comes_a_gap_after_it(spark: SparkSession) -> None:
    rows = [(name, START + timedelta(days=day), item) for name, item in (("a", "x"), ("b", "z")) for day in range(6)]
    rows = [(name, ds, item if ds.day in (1, 2) else None) for name, ds, item in rows]
    known = spark.createDataFrame(rows, "unique_id string, ds date, item string")

    pulled = add_sequence_pull(known, {1: {"x": 0.5}, 3: {"x": 0.25, "y": 9.0}}, "item").orderBy(s.UNIQUE_ID, s.DS)

    # Store a promoted x on the first two days; b promoted what nothing follows.
    found = [row[SEQUENCE_PULL] for row in pulled.collect()]
    assert found == [0.0, 0.5, 0.5, 0.25, 0.25, 0.0, *[0.0] * 6]


def test_what_is_due_is_what_the_last_baskets_wait_for_on_the_day(spark: SparkSession) -> None:
    days = [(name, START + timedelta(days=day)) for name in "ab" for day in range(6)]
    moments = spark.createDataFrame(days, "unique_id string, ds date")
    first = 19723.0  # START
    waiting = spark.createDataFrame(
        [("a", first, first + 2, 0.5), ("a", first + 1, first + 4, 0.1), ("elsewhere", first, first + 9, 9.0)],
        "unique_id string, day double, until double, pull double",
    )
    baskets = spark.createDataFrame(
        [("a", first), ("a", first), ("a", first + 1), ("elsewhere", first)], "unique_id string, day double"
    )

    rows = due(moments, waiting, baskets, 4.0, DAILY).orderBy(s.UNIQUE_ID, s.DS).collect()

    # Per 100 of the baskets of four days: two, then three, then one, then none.
    of_a = [row[SEQUENCES_DUE] for row in rows if row[s.UNIQUE_ID] == "a"]
    assert of_a == pytest.approx([100 * 0.5 / 2, 100 * 0.6 / 3, 100 * 0.1 / 3, 100 * 0.1 / 3, 0.0, None])
    assert [row[SEQUENCES_DUE] for row in rows if row[s.UNIQUE_ID] == "b"] == [None] * 6
    assert len(rows) == 12


def test_arima_paths_stand_at_their_origin_and_only_where_they_are_honest(spark: SparkSession) -> None:
    rows = build(spark, panel(spark)).where(F.col("arima_path").isNotNull()).collect()

    # the second origin was forecast with parameters fitted later; the third lies after the cutoff
    assert [(row[s.UNIQUE_ID], row[s.DS], row["arima_path"][0]) for row in rows] == [("a", CUTOFF, 1.0)]


def test_segments_reach_their_series_and_the_others_are_unknown(spark: SparkSession) -> None:
    rows = build(spark, panel(spark)).select(s.UNIQUE_ID, "sc_mined_segments", "sn_mined_segments_1").distinct()

    assert sorted(tuple(row) for row in rows.collect()) == [("a", 2.0, 0.8), ("b", 0.0, 0.0)]


def test_covariates_that_end_too_early_repeat_their_season_with_a_warning(
    spark: SparkSession, caplog: pytest.LogCaptureFixture
) -> None:
    ended = panel(spark, days=28)
    known = known_future(CONFIG, ended, None, DAILY, CUTOFF).where(F.col(s.UNIQUE_ID) == "a").orderBy(s.DS).collect()

    assert len(known) == 35
    assert [row["promo"] for row in known[28:]] == [row["promo"] for row in known[21:28]]
    assert "end at 2024-01-28, before the horizon's end 2024-02-04" in caplog.text


def test_of_a_list_of_closures_and_events_nothing_is_repeated(spark: SparkSession) -> None:
    config = load_config(
        overrides=[
            "sources.panel={kind: panel, path: p, columns: {unique_id: u, ds: d, y: y}}",
            "sources.calendar={kind: calendar, path: c, columns: {unique_id: u, ds: d, open: o, event: e}}",
            "evaluation.horizon=21",
        ]
    )
    holiday = CUTOFF + timedelta(days=1)
    calendar = spark.createDataFrame(
        [("a", holiday, 0, "holiday"), ("a", holiday - timedelta(days=20), 0, "holiday")],
        "unique_id string, ds date, open int, event string",
    )
    table = panel(spark, days=28).where("unique_id = 'a'").drop("promo", "item", "visitors")
    known = known_future(config, table, calendar, DAILY, CUTOFF).where(F.col(s.DS) > CUTOFF).orderBy(s.DS).collect()

    assert [row["open"] for row in known] == [0, *[1] * 20]
    assert [row["event"] for row in known] == ["holiday", *[None] * 20]


def test_series_whose_covariates_end_before_those_of_others_are_named(
    spark: SparkSession, caplog: pytest.LogCaptureFixture
) -> None:
    table = panel(spark)
    known = known_future(CONFIG, table.where("unique_id <> 'b' OR ds <= DATE'2024-01-30'"), None, DAILY, CUTOFF)

    assert known.where("unique_id = 'b'").count() == 35
    assert "of 1 of 2 series, e.g. b, end before the horizon's end 2024-02-04" in caplog.text


def test_a_covariate_that_is_blank_ahead_is_told_of(spark: SparkSession, caplog: pytest.LogCaptureFixture) -> None:
    blank = F.when(~((F.col(s.UNIQUE_ID) == "a") & (F.col(s.DS) == CUTOFF + timedelta(days=2))), F.col("promo"))
    known_future(CONFIG, panel(spark).withColumn("promo", blank), None, DAILY, CUTOFF)

    assert "among promo is blank on dates of the horizon in 1 of 2 series, e.g. a " in caplog.text


def test_covariates_that_end_too_early_can_be_refused(spark: SparkSession) -> None:
    config = CONFIG.model_copy(update={"evaluation": CONFIG.evaluation.model_copy(update={"unknown_future": "refuse"})})
    with pytest.raises(TableContractError, match="promo, item, open end at 2024-01-28"):
        known_future(config, panel(spark, days=28), None, DAILY, CUTOFF)


def test_a_horizon_longer_than_the_history_says_what_would_fit(spark: SparkSession) -> None:
    config = CONFIG.model_copy(update={"evaluation": CONFIG.evaluation.model_copy(update={"horizon": 30})})
    with pytest.raises(TableContractError, match=r"evaluation\.horizon is 30.*35 steps.*at most 17"):
        all_cutoffs(config, panel(spark), DAILY)


def test_attributes_that_are_dates_are_numbers(spark: SparkSession) -> None:
    statics = spark.createDataFrame(
        [("a", date(2000, 1, 1), None), ("b", date(2010, 1, 1), None)],
        "unique_id string, opened date, renovated timestamp",
    )

    built = build(spark, panel(spark, days=28), statics=statics)

    rows = built.select("unique_id", "sn_opened", "sn_renovated").distinct().orderBy("unique_id").collect()
    assert [tuple(row) for row in rows] == [("a", -1.0, 0.0), ("b", 1.0, 0.0)]


def test_closures_seen_afterwards_are_repeated_though_a_calendar_reaches_further(spark: SparkSession) -> None:
    config = load_config(
        overrides=[
            "sources.lines={kind: lines, path: p, columns: {basket_id: b, item: i, ts: t}}",
            "sources.days={kind: calendar, path: c, columns: {unique_id: u, ds: d, promo: {type: double}}}",
            "evaluation.horizon=7",
        ]
    )
    days = [START + timedelta(days=day) for day in range(35)]
    table = spark.createDataFrame(
        [("a", day, 1.0, int(number % 7 != 6), False) for number, day in enumerate(days[:28])],
        "unique_id string, ds date, y double, open int, y_imputed boolean",
    )
    calendar = spark.createDataFrame([("a", day, 0.0) for day in days], "unique_id string, ds date, promo double")

    known = known_future(config, table, calendar, DAILY, CUTOFF).orderBy("ds")

    assert [row["open"] for row in known.collect()] == [int(number % 7 != 6) for number in range(35)]


def test_what_comes_after_the_cutoff_changes_no_encoding(spark: SparkSession) -> None:
    config = load_config(
        overrides=["sources.panel={kind: panel, path: p, columns: {unique_id: u, ds: d, y: y}, other_columns: keep, "
                   "roles: {promo: known_future, item: known_future}}", "evaluation.horizon=7"]
    )  # fmt: skip
    as_known = panel(spark)
    is_future = F.col("ds") > F.lit(CUTOFF)
    other = as_known.withColumns(
        {"promo": F.when(is_future, 99.0).otherwise(F.col("promo")),
         "item": F.when(is_future, "unheard of").otherwise(F.col("item"))}
    )  # fmt: skip

    before, after = (build(spark, table, config).where(~is_future) for table in (as_known, other))

    assert before.columns == after.columns
    encoded = [name for name in before.columns if name.startswith("kf_") and not name.endswith("_after")]
    assert before.select("unique_id", "ds", *encoded).exceptAll(after.select("unique_id", "ds", *encoded)).isEmpty()


@pytest.mark.parametrize(("shard_rows", "shards"), [(500_000, 1), (35, 2), (20, 4)])
def test_there_are_as_many_shards_as_rows_need_and_a_series_lies_in_one(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, shard_rows: int, shards: int
) -> None:
    monkeypatch.setattr("dlmine_spark.fusion.panel.SHARD_ROWS", shard_rows)
    both = panel(spark)
    third = both.where("unique_id = 'a' and ds >= '2024-01-15'").withColumn("unique_id", F.lit("c"))
    dealt = build(spark, both.unionByName(third)).select(s.UNIQUE_ID, s.SHARD).distinct().toPandas()

    # 28 + 28 + 14 rows up to the cutoff
    assert len(dealt) == 3
    expected = {1: {"a": 0, "b": 0, "c": 0}, 2: {"a": 0, "b": 1, "c": 1}, 4: {"a": 0, "b": 1, "c": 2}}
    assert dict(zip(dealt.unique_id, dealt[s.SHARD], strict=True)) == expected[shards]


def test_antecedents_are_those_that_most_extra_items_come_of(spark: SparkSession) -> None:
    given = [
        rule("x", "y", leverage=0.02, lift=2.0),
        rule("x", "z", leverage=0.02, lift=2.0),
        rule("ba", "z", leverage=0.03, lift=2.0),
        rule("c", "z", leverage=0.9, lift=2.0, is_kept=False),
        rule("d", "z", leverage=0.9, lift=0.5),
        *(rule((f"{number:02}",), "z", leverage=0.001, lift=2.0) for number in range(20)),
    ]

    found = antecedents_of(spark.createDataFrame(given, s.RULES.ddl))

    assert list(found.values())[:3] == [("x",), ("a", "b"), ("00",)]
    assert [name.rpartition("_")[0] for name in found][:2] == ["mined_activations_x", "mined_activations_a_b"]
    assert len(found) == TOP_ANTECEDENTS


def test_antecedents_have_one_name_whatever_others_there_are(spark: SparkSession) -> None:
    """They differ by signs that names cannot have, or beyond the length of a name."""
    long = "jumbo bag of something that has a long name"
    likes = [("a b",), ("A/B",), ("a", "b"), (long, "x"), (long, "y")]

    def names(leverages: list[float]) -> dict[tuple[str, ...], str]:
        given = [rule(items, "z", leverage=one, lift=2.0) for items, one in zip(likes, leverages, strict=True)]
        return {items: name for name, items in antecedents_of(spark.createDataFrame(given, s.RULES.ddl)).items()}

    one, other = names([0.5, 0.4, 0.3, 0.2, 0.1]), names([0.1, 0.2, 0.3, 0.4, 0.5])

    assert one == other
    assert len(set(one.values())) == len(likes)


@pytest.mark.parametrize(
    ("frequency", "steps", "expected"),
    [
        # A week of days: both baskets of the first day count until the seventh.
        (DAILY, [0, 1, 5, 6, 7, 30], [50.0, 100 / 3, 100 / 3, 100 / 3, 0.0, None]),
        # Weeks named by their first day: that day's baskets and those of the six before.
        (WEEKLY, [0, 7, 14], [50.0, 0.0, None]),
        # A month is longer than a week: thirty days count.
        (MONTHLY, [0, 29, 30, 31], [50.0, 100 / 3, 0.0, None]),
    ],
)
def test_activations_are_shares_of_the_baskets_of_a_week_up_to_a_moment(
    spark: SparkSession, frequency: Frequency, steps: list[int], expected: list[float | None]
) -> None:
    """Those of other series and of later days are not counted."""
    moments = spark.createDataFrame(
        [("a", START + timedelta(days=step)) for step in steps], "unique_id string, ds date"
    )
    baskets = spark.createDataFrame(
        [
            ("a", datetime(2024, 1, 1, 23, 59), ["gin", "lime", "tea"]),
            ("a", datetime(2024, 1, 1), ["gin"]),
            ("a", datetime(2024, 1, 2, 8), ["lime"]),
            ("b", datetime(2024, 1, 1), ["gin", "lime"]),
        ],
        "unique_id string, ts timestamp, items array<string>",
    )

    rows = activations(moments, baskets, {"both": ("gin", "lime")}, frequency).orderBy(s.DS).collect()

    assert [row["both"] for row in rows] == [None if share is None else pytest.approx(share) for share in expected]


def test_within_a_day_a_moment_knows_no_later_basket(spark: SparkSession) -> None:
    moments = spark.sql("SELECT 'a' AS unique_id, timestamp_ntz'2024-01-01 10:00:00' AS ds")
    later = moments.unionByName(spark.sql("SELECT 'a' AS unique_id, timestamp_ntz'2024-01-01 11:00:00' AS ds"))
    baskets = spark.createDataFrame(
        [("a", datetime(2024, 1, 1, 10), ["gin"]), ("a", datetime(2024, 1, 1, 10, 0, 20), ["tea"])],
        "unique_id string, ts timestamp, items array<string>",
    )

    rows = activations(later, baskets, {"gin": ("gin",)}, HOURLY).orderBy(s.DS).collect()

    assert [row["gin"] for row in rows] == [100.0, 50.0]
