"""Reading single cells: what becomes a number, a date, a word for yes, and what does not."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from dlmine_spark.cleaning import parse
from dlmine_spark.config import ColumnConfig

pytestmark = pytest.mark.spark


def read(spark: SparkSession, cells: list[Any], expression: Callable[[Column], Column]) -> list[Any]:
    """The values of an expression over some texts, in order."""
    rows = spark.createDataFrame([(place, cell) for place, cell in enumerate(cells)], "place int, cell string")
    read_rows = rows.select("place", expression(F.col("cell")).alias("value")).orderBy("place").collect()
    return [row["value"] for row in read_rows]


def check(spark: SparkSession, expected: dict[str, Any], expression: Callable[[Column], Column]) -> None:
    """Compare with what each text should give; all texts in one Spark job."""
    assert dict(zip(expected, read(spark, list(expected), expression), strict=True)) == expected


def test_spaces_of_every_kind_are_trimmed_and_runs_of_them_become_one(spark: SparkSession) -> None:
    check(
        spark,
        {
            "plain": "plain",
            "  two  words ": "two words",
            "\u00a0no\u202fbreak\u3000": "no break",
            "tab\tand\nline": "tab and line",
            "\ufeffmark": "mark",
            "zero\u200bwidth": "zerowidth",
            "nul\x00byte\x00": "nulbyte",
            "Zoë": "Zoë",
            "   ": "",
        },
        parse.trimmed,
    )


def test_a_letter_and_its_accents_become_one_character_and_what_has_none_stays(spark: SparkSession) -> None:
    check(
        spark,
        {
            "Zoe\u0308": "Zoë",
            "cafe\u0301 cre\u0300me": "café crème",
            # Two accents, in either order.
            "Vie\u0323\u0302t": "Việt",
            "Vie\u0302\u0323t": "Việt",
            "\u0301x": "\u0301x",
            "q\u0301": "q\u0301",
            "\U0001f600 e\u0301": "\U0001f600 é",
            "=\u0338": "≠",
            "Zoë": "Zoë",
            "plain": "plain",
        },
        parse.composed,
    )


def test_every_pair_of_letter_and_accent_is_composed_as_python_does(spark: SparkSession) -> None:
    every = (unicodedata.normalize("NFD", chr(code)) for code in range(0x250))
    decomposed = [text for text in every if len(text) > 1]

    composed = read(spark, decomposed, parse.composed)

    assert composed == [unicodedata.normalize("NFC", text) for text in decomposed]
    assert len(composed) > 200


def test_words_that_mean_missing_are_null(spark: SparkSession) -> None:
    check(
        spark,
        {"": None, "N/A": None, "-": None, "n.a.": "n.a.", "nano": "nano", "0": "0"},
        lambda text: parse.present(text, ("", "N/A", "-")),
    )


NUMBERS = {
    "12": 12.0,
    "+12.50": 12.5,
    "-.5": -0.5,
    "1e3": 1000.0,
    "12,5": 12.5,
    "0,123": 0.123,
    "1234,567": 1234.567,
    "1,234.50": 1234.5,
    "1.234,50": 1234.5,
    "-1.234.567,8": -1234567.8,
    "1,234,567": 1234567.0,
    "1.234.567": 1234567.0,
    "1,00,000.5": 100000.5,
    "1 234 567,5": 1234567.5,
    "1'234.50": 1234.5,
    "1’234": 1234.0,
    "€ 1.234,50": 1234.5,
    "12.50 EUR": 12.5,
    "USD12": 12.0,
    "US$ 12": 12.0,
    "-$12.50": -12.5,
    "$-12.50": -12.5,
    "(12.50)": -12.5,
    "12.50-": -12.5,
    "−12.5": -12.5,
    "12.5%": 0.125,
    "12,5 %": 0.125,
    "-3%": -0.03,
    "9e99": 9e99,
    # No numbers, however close.
    "12 34": None,
    "1,2,3": None,
    "1,23.456": None,
    "1.2.3": None,
    "1,234,56": None,
    "2 pcs": None,
    "12d": None,
    "0x1p3": None,
    "NaN": None,
    "Infinity": None,
    "1-2": None,
    "--5": None,
    "-": None,
    "12.5.": None,
    "#REF!": None,
    # Beyond what any business counts, and beyond a double.
    "1e100": None,
    "1e400": None,
    "-1e400": None,
    "1e999%": None,
    "-Infinity": None,
    "1,000e400": None,
    "9" * 65: None,
    "９": None,
}


def test_numbers_are_read_as_people_write_them(spark: SparkSession) -> None:
    check(spark, {**NUMBERS, "1,234": 1234.0, "1.234": 1.234}, lambda text: parse.number(text, "."))


def test_a_decimal_comma_decides_what_is_ambiguous_and_nothing_else(spark: SparkSession) -> None:
    ambiguous = {"1,234": 1.234, "1.234": 1234.0, "1.234.567": 1234567.0, "12.5": 12.5}
    unambiguous = {text: value for text, value in NUMBERS.items() if text not in ("+12.50", "1’234")}
    check(spark, {**unambiguous, **ambiguous}, lambda text: parse.number(text, ","))


def test_whole_numbers_have_no_decimals(spark: SparkSession) -> None:
    check(
        spark,
        {"17850.0": 17850.0, "3": 3.0, "3.5": None, "50%": None},
        lambda text: parse.whole(parse.number(text, ".")),
    )


def test_yes_and_no_in_words(spark: SparkSession) -> None:
    check(
        spark,
        {
            **dict.fromkeys(["1", "TRUE", "t", "yes", "Y", "on", "Ja", "wahr", "oui", "si", "sí"], 1.0),
            **dict.fromkeys(["0", "False", "F", "no", "n", "OFF", "Nein", "falsch", "non"], 0.0),
            **dict.fromkeys(["maybe", "2", "yess", ""]),
        },
        parse.truth,
    )


def first_moment(*formats: str, zone: str | None = None) -> Callable[[Column], Column]:
    return lambda text: parse.plausible(F.coalesce(*parse.moments(text, formats, zone)))


def test_dates_and_times_in_iso_need_no_format(spark: SparkSession) -> None:
    check(
        spark,
        {
            "2024-03-05": datetime(2024, 3, 5),
            "2024-03-05 14:30": datetime(2024, 3, 5, 14, 30),
            "2024-03-05T14:30:15.250": datetime(2024, 3, 5, 14, 30, 15, 250_000),
            "2024-03-05T14:30:00+02:00": datetime(2024, 3, 5, 12, 30),
            "2024-03-05T14:30:00Z": datetime(2024, 3, 5, 14, 30),
            "2024/03/05": datetime(2024, 3, 5),
            "20240305": datetime(2024, 3, 5),
            # No such day, no date at all, or a year that means "never".
            "2024-02-30": None,
            "2024": None,
            "14:30": None,
            "05.03.2024": None,
            "0001-01-01": None,
            "9999-12-31": None,
        },
        first_moment(),
    )


def test_as_written_leaves_offsets_and_zones_away(spark: SparkSession) -> None:
    formats = ("dd.MM.yyyy HH:mm XXX", "M/d/yyyy h:mm a VV")
    check(
        spark,
        {
            "2024-03-01T00:30:00+02:00": datetime(2024, 3, 1, 0, 30),
            "2024-03-01 23:30:00.5-0500": datetime(2024, 3, 1, 23, 30, 0, 500_000),
            "2024-03-01T00:30Z": datetime(2024, 3, 1, 0, 30),
            "2024-03-01": datetime(2024, 3, 1),
            "2024-03-01 00:30": datetime(2024, 3, 1, 0, 30),
            "01.03.2024 00:30 +02:00": datetime(2024, 3, 1, 0, 30),
            "3/1/2024 12:30 AM Europe/Berlin": datetime(2024, 3, 1, 0, 30),
            "2024-03-01+02:00": None,
        },
        lambda text: F.coalesce(*parse.moments(text, formats, as_written=True)),
    )


def test_declared_formats_are_tried_in_order(spark: SparkSession) -> None:
    check(
        spark,
        {
            "05.03.2024": datetime(2024, 3, 5),
            "03/04/2024": datetime(2024, 3, 4),
            "31/12/2024": datetime(2024, 12, 31),
            "05-Mar-2024": datetime(2024, 3, 5),
            "2024-03-05": datetime(2024, 3, 5),
            "13/13/2024": None,
        },
        first_moment("dd.MM.yyyy", "MM/dd/yyyy", "dd/MM/yyyy", "dd-MMM-yyyy"),
    )


def test_a_declared_format_comes_before_iso(spark: SparkSession) -> None:
    check(spark, {"2024-05-03": datetime(2024, 3, 5)}, first_moment("yyyy-dd-MM"))


def test_a_time_without_a_zone_is_the_declared_zones_and_one_with_a_zone_keeps_it(spark: SparkSession) -> None:
    check(
        spark,
        {
            "2024-01-31 12:00": datetime(2024, 1, 31, 11),
            "2024-07-31T12:00:00.5": datetime(2024, 7, 31, 10, 0, 0, 500_000),
            "2024-01-31": datetime(2024, 1, 30, 23),
            "31.07.2024 12:00": datetime(2024, 7, 31, 10),
            "2024/07/31": datetime(2024, 7, 30, 22),
            "2024-01-31T12:00:00Z": datetime(2024, 1, 31, 12),
            "2024-01-31 12:00:00-05:00": datetime(2024, 1, 31, 17),
            "31.07.2024 12:00 +05:00": datetime(2024, 7, 31, 7),
            "31.07.2024 12:00 America/New_York": datetime(2024, 7, 31, 16),
            # Clocks go forward from 2 to 3: half past two is half past three.
            "2024-03-31 02:30": datetime(2024, 3, 31, 1, 30),
            "31.03.2024 02:30": datetime(2024, 3, 31, 1, 30),
            # Clocks go back from 3 to 2: half past two comes twice, and is the first of them.
            "2024-10-27 02:30": datetime(2024, 10, 27, 0, 30),
            "27.10.2024 02:30": datetime(2024, 10, 27, 0, 30),
        },
        first_moment("dd.MM.yyyy HH:mm", "dd.MM.yyyy HH:mm XXX", "dd.MM.yyyy HH:mm VV", zone="Europe/Berlin"),
    )


def allowed(*names: str, similarity: float = 0.8) -> ColumnConfig:
    return ColumnConfig(allowed=names, similarity=similarity)


def test_the_nearest_allowed_value_is_found(spark: SparkSession) -> None:
    spec = allowed("United Kingdom", "France", "Germany")
    check(
        spark,
        {
            "Untied Kingdom": "United Kingdom",
            "united kingdom": "United Kingdom",
            "Frnce": "France",
            "Norway": None,
            "F": None,
            "": None,
        },
        lambda text: parse.nearest_allowed(text, spec),
    )


def test_an_allowed_value_must_be_nearer_than_all_others(spark: SparkSession) -> None:
    # "nouth" is one letter away from both.
    check(
        spark,
        {"nouth": None, "nortth": "north", "soutj": "south"},
        lambda text: parse.nearest_allowed(text, allowed("north", "south")),
    )


def test_similarity_is_a_share_of_the_longer_text(spark: SparkSession) -> None:
    # One letter of five is exactly the similarity of .8 that is asked for.
    check(spark, {"smoth": "smith", "smoths": None}, lambda text: parse.nearest_allowed(text, allowed("smith")))
