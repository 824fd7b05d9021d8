"""Judging rows: values, reasons, repairs, copies and versions, and that no row is lost."""

from __future__ import annotations

import json
from datetime import date, datetime

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dlmine_spark.cleaning.plan import COPY, ORIGINAL, RANK, REASONS, REPAIRS, WARNINGS, is_good
from tests.cleaning.examples import bronze, entries, marked, source, values

pytestmark = pytest.mark.spark


def test_cells_get_their_types_and_every_rewritten_one_is_on_record(spark: SparkSession) -> None:
    declaration = source(
        {
            "day": {"from": "Datum", "type": "date", "formats": ["dd.MM.yyyy"]},
            "amount": {"from": "Betrag", "type": "double", "decimal": ","},
            "city": {"from": "Ort"},
            "open": {"from": "Offen", "type": "boolean"},
        }
    )
    rows = bronze(
        spark,
        ["Datum", "Betrag", "Ort", "Offen"],
        ("05.03.2024", "12,50", "Bonn", "1"),
        ("2024-03-06", "€ 1.234,50", " Bad  Ems", "ja"),
        (" 07.03.2024", "n/a", "-", None),
        ("soon", "12 pcs", None, "perhaps"),
    )

    judged = marked(rows, declaration)

    assert values(judged, "day", "amount", "city", "open") == [
        (date(2024, 3, 5), 12.5, "Bonn", 1.0),
        (date(2024, 3, 6), 1234.5, "Bad Ems", 1.0),
        (date(2024, 3, 7), None, None, None),
        (None, None, None, None),
    ]
    assert entries(judged, REPAIRS) == [
        [],
        [
            ("day", "2024-03-06", "2024-03-06", "format"),
            ("amount", "€ 1.234,50", "1234.5", "format"),
            ("city", " Bad  Ems", "Bad Ems", "spaces"),
            ("open", "ja", "1.0", "format"),
        ],
        [("day", " 07.03.2024", "2024-03-07", "format")],
        [
            ("day", "soon", None, "unparseable"),
            ("amount", "12 pcs", None, "unparseable"),
            ("open", "perhaps", None, "unparseable"),
        ],
    ]
    assert entries(judged, REASONS) == [[], [], [], []]


def test_a_required_cell_is_there_and_readable_or_the_row_is_refused_with_all_its_reasons(spark: SparkSession) -> None:
    declaration = source(
        {
            "day": {"type": "date", "required": True},
            "units": {"type": "integer", "required": True, "min": 0},
            "place": {"allowed": ["north", "south"]},
        }
    )
    rows = bronze(
        spark,
        ["day", "units", "place"],
        ("2024-03-05", "3", "nort"),
        ("", "N/A", "west"),
        ("9999-12-31", "2.5", None),
        ("2024-03-05", "-1", "South"),
    )

    judged = marked(rows, declaration)

    assert entries(judged, REASONS) == [
        [],
        [
            ("missing", "day", "is required and has no value"),
            ("missing", "units", "is required and has no value"),
            ("not_allowed", "place", "is no allowed value: west"),
        ],
        [("unparseable", "day", "is no date: 9999-12-31"), ("unparseable", "units", "is no integer: 2.5")],
        [("out_of_range", "units", "is not at least 0: -1")],
    ]
    assert values(judged, "place") == ["north", None, None, "south"]
    assert entries(judged, REPAIRS)[0] == [("place", "nort", "north", "allowed")]


def test_a_value_out_of_range_is_blanked_or_kept_with_a_warning_where_declared(spark: SparkSession) -> None:
    declaration = source(
        {
            "blanked": {"type": "double", "max": 10, "out_of_range": "null"},
            "kept": {"type": "double", "min": 0, "max": 10, "out_of_range": "warn"},
        }
    )
    rows = bronze(spark, ["blanked", "kept"], ("10", "10"), ("10.5", "11"), (None, None))

    judged = marked(rows, declaration)

    assert values(judged, "blanked", "kept") == [(10.0, 10.0), (None, 11.0), (None, None)]
    assert entries(judged, REPAIRS) == [[], [("blanked", "10.5", None, "out_of_range")], []]
    assert values(judged, WARNINGS) == [[], ["out_of_range:kept"], []]
    assert entries(judged, REASONS) == [[], [], []]


def test_a_text_of_the_wrong_form_is_refused_blanked_or_kept_with_a_warning(spark: SparkSession) -> None:
    form = {"pattern": "[A-Z]+\\d*", "min_length": 2, "max_length": 4}
    declaration = source(
        {
            "refused": form,
            "blanked": {**form, "not_matching": "null"},
            "kept": {**form, "case": "upper", "not_matching": "warn"},
        }
    )
    rows = bronze(
        spark,
        ["refused", "blanked", "kept"],
        ("AB1", "AB1", "ab1"),
        ("xAB", " xAB", "xAB?"),
        ("A", "A", "a"),
        ("ABCDE", "AB CD", "ABCDE"),
        (None, None, None),
    )

    judged = marked(rows, declaration)

    length = "is not at least 2 and at most 4 characters long"
    assert entries(judged, REASONS) == [
        [],
        [("not_matching", "refused", "does not match [A-Z]+\\d*: xAB")],
        [("wrong_length", "refused", f"{length}: A")],
        [("wrong_length", "refused", f"{length}: ABCDE")],
        [],
    ]
    assert values(judged, "blanked", "kept") == [
        ("AB1", "AB1"),
        (None, "XAB?"),
        (None, "A"),
        (None, "ABCDE"),
        (None, None),
    ]
    assert [[entry for entry in found if entry[0] == "blanked"] for found in entries(judged, REPAIRS)] == [
        [],
        [("blanked", " xAB", None, "not_matching")],
        [("blanked", "A", None, "wrong_length")],
        [("blanked", "AB CD", None, "not_matching"), ("blanked", "AB CD", None, "wrong_length")],
        [],
    ]
    assert values(judged, WARNINGS) == [[], ["not_matching:kept"], ["wrong_length:kept"], ["wrong_length:kept"], []]


def test_a_text_that_is_no_allowed_value_is_blanked_or_kept_with_a_warning(spark: SparkSession) -> None:
    places = {"allowed": ["north", "south"]}
    declaration = source(
        {
            "blanked": {**places, "not_allowed": "null"},
            "kept": {**places, "not_allowed": "warn", "pattern": "[a-z]+", "not_matching": "quarantine"},
        }
    )
    rows = bronze(spark, ["blanked", "kept"], ("nort", "North"), (" west", "west "), ("west", "WEST"), (None, None))

    judged = marked(rows, declaration)

    assert values(judged, "blanked", "kept") == [("north", "north"), (None, "west"), (None, "WEST"), (None, None)]
    assert entries(judged, REPAIRS) == [
        [("blanked", "nort", "north", "allowed"), ("kept", "North", "north", "allowed")],
        [("blanked", " west", None, "not_allowed"), ("kept", "west ", "west", "spaces")],
        [("blanked", "west", None, "not_allowed")],
        [],
    ]
    assert values(judged, WARNINGS) == [[], ["not_allowed:kept"], ["not_allowed:kept"], []]
    assert [[reason[0] for reason in found] for found in entries(judged, REASONS)] == [[], [], ["not_matching"], []]


def test_accents_written_apart_are_composed_and_on_record(spark: SparkSession) -> None:
    columns = {"name": None, "units": {"type": "double"}, "town": {"allowed": ["Orléans"]}}
    rows = bronze(
        spark,
        ["name", "units", "town"],
        (" Zoe\u0308", "1", "Orle\u0301ans"),
        (" Zoë", "2", "Orléans"),
        (None, "3", None),
    )

    composed = marked(rows, source(columns))
    kept = marked(rows, source(columns, unicode="keep"))

    assert values(composed, "name", "units", "town") == [
        ("Zoë", 1.0, "Orléans"),
        ("Zoë", 2.0, "Orléans"),
        (None, 3.0, None),
    ]
    assert entries(composed, REPAIRS) == [
        [("name", " Zoe\u0308", "Zoë", "unicode"), ("town", "Orle\u0301ans", "Orléans", "unicode")],
        [("name", " Zoë", "Zoë", "spaces")],
        [],
    ]
    assert values(kept, "name") == ["Zoe\u0308", "Zoë", None]
    assert entries(kept, REPAIRS)[0] == [("name", " Zoe\u0308", "Zoe\u0308", "spaces")]
    assert entries(kept, REASONS)[0] == [("not_allowed", "town", "is no allowed value: Orle\u0301ans")]


def test_a_time_is_its_columns_zones_and_only_there(spark: SparkSession) -> None:
    declaration = source(
        {"here": {"type": "timestamp", "time_zone": "Asia/Kolkata"}, "there": {"type": "timestamp"}},
    )

    judged = marked(bronze(spark, ["here", "there"], ("2024-03-05 10:00:00", "2024-03-05 10:00:00")), declaration)

    assert values(judged, "here", "there") == [(datetime(2024, 3, 5, 4, 30), datetime(2024, 3, 5, 10))]
    assert entries(judged, REPAIRS) == [[]]


def test_days_of_instants_are_those_of_a_declared_zone(spark: SparkSession) -> None:
    """An evening in New York is the next day in UTC; where an offset is written, so is the day."""
    columns = {"day": {"type": "date", "time_zone": "America/New_York"}}
    cells = [["2024-07-02 00:30:00"], ["2024-07-02 04:00:00"], ["2024-07-02 00:30:00+02:00"], [None]]

    judged = marked(bronze(spark, list(columns), *cells), source(columns, format="delta"))

    assert values(judged, "day") == [date(2024, 7, 1), date(2024, 7, 2), date(2024, 7, 2), None]


def test_dates_and_times_of_sale_stay_on_the_day_that_is_written(spark: SparkSession) -> None:
    columns = {"basket_id": {}, "item": {}, "ts": {"type": "timestamp"}, "due": {"type": "date"},
               "sent": {"type": "timestamp"}}  # fmt: skip
    night = "2024-03-01T00:30:00+02:00"

    judged = marked(bronze(spark, list(columns), ("1", "tea", night, night, night)), source(columns, kind="lines"))

    in_utc = datetime(2024, 2, 29, 22, 30)
    assert values(judged, "ts", "due", "sent") == [(datetime(2024, 3, 1, 0, 30), date(2024, 3, 1), in_utc)]
    assert entries(judged, REPAIRS) == [[]]


def test_case_is_changed_as_declared_and_on_record(spark: SparkSession) -> None:
    declaration = source({"code": {"case": "upper"}, "kind": {"case": "lower", "allowed": ["bread"]}})
    rows = bronze(spark, ["code", "kind"], ("ab1", "BREAD"), (" AB2", "bred"), ("AB3", "bread"))

    judged = marked(rows, declaration)

    assert values(judged, "code", "kind") == [("AB1", "bread"), ("AB2", "bread"), ("AB3", "bread")]
    assert entries(judged, REPAIRS) == [
        [("code", "ab1", "AB1", "case_upper"), ("kind", "BREAD", "bread", "case_lower")],
        [("code", " AB2", "AB2", "spaces"), ("kind", "bred", "bread", "allowed")],
        [],
    ]


def test_rules_about_rows_refuse_or_warn_and_what_cannot_be_decided_passes(spark: SparkSession) -> None:
    declaration = source(
        {"bought": {"type": "timestamp"}, "quantity": {"type": "double"}, "price": {"type": "double"}},
        rules=[
            {"name": "not_sold", "expr": "quantity > 0"},
            {"name": "dear", "expr": "quantity * price < 100", "action": "warn"},
            {"name": "early", "expr": "hour(bought) >= 6"},
        ],
    )
    rows = bronze(
        spark,
        ["bought", "quantity", "price"],
        ("2024-03-05 10:00", "2", "3.50"),
        ("2024-03-05 05:00", "-2", "3.50"),
        ("2024-03-05 10:00", "200", "3.50"),
        (None, None, "3.50"),
    )

    judged = marked(rows, declaration)

    assert entries(judged, REASONS) == [
        [],
        [("not_sold", "", "quantity > 0"), ("early", "", "hour(bought) >= 6")],
        [],
        [],
    ]
    assert values(judged, WARNINGS) == [[], [], ["dear"], []]
    assert values(judged, "bought")[0] == datetime(2024, 3, 5, 10)


def test_a_line_that_cannot_be_split_has_that_reason_only_and_is_kept_whole(spark: SparkSession) -> None:
    declaration = source(
        {"day": {"type": "date", "required": True}, "units": {"type": "double"}},
        rules=[{"name": "none", "expr": "units > 0"}],
    )
    rows = bronze(
        spark,
        ["day", "units"],
        ("2024-03-0", None),
        ("2024-03-05", "M\ufffdnchen"),
        ("2024-03-05", "1"),
        raw=["2024-03-0", "2024-03-05,M\ufffdnchen", None],
    )

    judged = marked(rows, declaration)

    assert [[reason[0] for reason in found] for found in entries(judged, REASONS)] == [
        ["malformed_line"],
        ["undecodable"],
        [],
    ]
    assert values(judged, ORIGINAL) == ['{"_raw":"2024-03-0"}', '{"_raw":"2024-03-05,M\ufffdnchen"}', None]


def test_a_refused_row_is_kept_as_it_came_with_cells_nobody_mapped_and_blanks(spark: SparkSession) -> None:
    declaration = source({"day": {"from": "Day", "type": "date", "required": True}})
    rows = bronze(spark, ["Day", "note", "empty"], ("soon", 'said "hi"\n', None))

    (original,) = values(marked(rows, declaration), ORIGINAL)

    assert json.loads(original) == {"Day": "soon", "note": 'said "hi"\n', "empty": None}


def test_messages_show_the_beginning_of_a_huge_cell(spark: SparkSession) -> None:
    declaration = source({"day": {"type": "date", "required": True}})

    ((reason,),) = entries(marked(bronze(spark, ["day"], ("x" * 10_000,)), declaration), REASONS)

    assert reason[2] == "is no date: " + "x" * 100


def test_equal_rows_are_copies_of_the_first_whatever_their_partitions(spark: SparkSession) -> None:
    declaration = source({"item": None})
    lines = [("tea", "1"), ("tea", None), (None, "tea"), ("tea", "1"), ("tea", None), ("tea ", "1"), ("tea", "1")]
    rows = bronze(spark, ["item", "_id"], *lines)
    expected = [1, 1, 1, 2, 2, 1, 3]

    assert values(marked(rows, declaration), COPY) == expected
    assert values(marked(rows.repartition(5, "item"), declaration), COPY) == expected


@pytest.mark.parametrize(("keep", "fates"), [("last", [(1, 2), (2, 1), (1, 1)]), ("first", [(1, 1), (2, 1), (1, 2)])])
def test_a_value_that_changes_back_is_the_last_one(
    spark: SparkSession, keep: str, fates: list[tuple[int, int]]
) -> None:
    declaration = source({"item": None, "price": {"type": "double"}}, key=["item"], keep=keep)
    rows = bronze(spark, ["item", "price"], ("tea", "10"), ("tea", "12"), ("tea", "10"))

    judged = marked(rows.repartition(3), declaration)

    assert values(judged, RANK, COPY) == fates
    assert values(judged.where(is_good()), "price") == [10.0]


def test_whole_numbers_whose_digits_would_be_lost_are_not_read(spark: SparkSession) -> None:
    declaration = source({"n": {"type": "integer"}})
    # As doubles, the second one and the third one are the same.
    rows = bronze(spark, ["n"], ("9007199254740991",), ("9007199254740992",), ("9007199254740993",), ("-1e20",))

    judged = marked(rows, declaration)

    assert values(judged, "n") == [9007199254740991.0, None, None, None]
    assert [[entry[3] for entry in found] for found in entries(judged, REPAIRS)][1:] == [["unparseable"]] * 3


@pytest.mark.parametrize(("keep", "expected"), [("last", [2, 1, 1, 1, 1]), ("first", [1, 2, 1, 1, 1])])
def test_of_the_good_rows_of_a_key_one_stays(spark: SparkSession, keep: str, expected: list[int]) -> None:
    declaration = source({"shop": {"required": False}, "units": {"type": "double", "min": 0}}, key=["shop"], keep=keep)
    # A refused row supersedes nothing, and rows without a key are nobody's versions.
    rows = bronze(spark, ["shop", "units"], ("a", "1"), ("a", "2"), ("a", "-3"), (None, "4"), (None, "5"))

    judged = marked(rows.repartition(3), declaration)

    assert values(judged, RANK) == expected
    assert judged.where(is_good()).count() == 3


def test_the_version_with_most_known_cells_stays_and_of_equal_ones_the_last(spark: SparkSession) -> None:
    columns = {"shop": None, "town": None, "units": {"type": "double"}}
    rows = bronze(
        spark,
        ["shop", "town", "units"],
        ("a", "Bonn", "1"),
        ("a", "?", "2"),
        ("b", "Ulm", None),
        ("b", None, "4"),
    )

    judged = marked(rows.repartition(3), source(columns, key=["shop"], keep="most_complete"))

    assert values(judged, RANK) == [1, 2, 2, 1]


def test_versions_are_summed_into_the_last_one_on_record(spark: SparkSession) -> None:
    columns = {
        "shop": {"required": False},
        "town": None,
        "units": {"type": "double", "min": 0},
        "tax": {"type": "double"},
        "n": {"type": "integer"},
    }
    rows = bronze(
        spark,
        ["shop", "town", "units", "tax", "n"],
        ("a", "Bonn", "1", None, "1"),
        ("a", "Ulm", "2.5", None, "2"),
        # A refused row, an earlier copy, and rows without a key add nothing.
        ("a", "Ulm", "-3", None, "2"),
        ("a", "Bonn", "1", None, "1"),
        (None, "Bonn", "7", "1", "1"),
        (None, "Ulm", "8", "1", "1"),
        ("b", "Ulm", "5", "1", "1"),
    )

    judged = marked(rows, source(columns, key=["shop"], keep="sum"))
    chosen = marked(rows, source(columns, key=["shop"], keep="sum", sum_columns=["n"]))

    good_rows = judged.where(is_good())
    assert values(good_rows, "shop", "town", "units", "tax", "n") == [
        ("a", "Bonn", 3.5, None, 1.0),
        (None, "Bonn", 7.0, 1.0, 1.0),
        (None, "Ulm", 8.0, 1.0, 1.0),
        ("b", "Ulm", 5.0, 1.0, 1.0),
    ]
    assert entries(good_rows, REPAIRS) == [[("units", "1.0", "3.5", "sum")], [], [], []]
    assert values(judged, RANK, COPY) == [(1, 2), (2, 1), (1, 1), (1, 1), (1, 1), (1, 1), (1, 1)]
    assert values(chosen.where(is_good()), "units", "n")[0] == (1.0, 3.0)


def test_a_key_is_required_unless_declared_otherwise(spark: SparkSession) -> None:
    declaration = source({"shop": None, "units": {"type": "double"}}, key=["shop"])

    judged = marked(bronze(spark, ["shop", "units"], ("", "1"), ("a", "2")), declaration)

    assert entries(judged, REASONS) == [[("missing", "shop", "is required and has no value")], []]


def test_no_row_is_lost(spark: SparkSession) -> None:
    declaration = source({"shop": None, "units": {"type": "double", "min": 0}}, key=["shop"])
    rows = bronze(
        spark, ["shop", "units"], ("a", "1"), ("a", "1"), ("a", "2"), ("b", "-1"), ("b", "-1"), ("c", "x"), (None, "1")
    )

    judged = marked(rows, declaration)

    fates = judged.select(
        F.count_if(is_good()).alias("accepted"),
        F.count_if((F.col(COPY) == 1) & (F.size(REASONS) > 0)).alias("quarantined"),
        F.count_if(F.col(COPY) > 1).alias("duplicates"),
        F.count_if((F.col(COPY) == 1) & (F.size(REASONS) == 0) & (F.col(RANK) > 1)).alias("superseded"),
    ).collect()[0]
    assert tuple(fates) == (2, 2, 2, 1)
    assert sum(fates) == rows.count()


def test_what_is_not_declared_adds_nothing_to_the_plan(spark: SparkSession) -> None:
    rows = bronze(spark, ["units", "text"], ("1", "a"))
    plain = marked(rows, source({"units": {"type": "double"}}))
    both = marked(rows, source({"units": {"type": "double"}, "text": None}, unicode="keep"))

    for frame in (plain, both):
        plan = frame._jdf.queryExecution().analyzed().toString()  # type: ignore[union-attr]
        assert not [name for name in ("__composed", "__set", "RLIKE(text", "__near") if name in plan]
