from __future__ import annotations

from dlmine_spark.report.choice import choose_series

WAPE = {f"s{index}": index / 10 for index in range(1, 10)}
SIZE = {"s4": 900.0, "s2": 800.0}


def test_good_bad_usual_and_large_series_are_shown() -> None:
    assert choose_series(WAPE, SIZE, 4) == [
        ("s4", "The largest series"),
        ("s1", "The series forecast best"),
        ("s5", "The median series by WAPE"),
        ("s9", "The series forecast worst"),
    ]


def test_more_room_is_filled_evenly_between_best_and_worst() -> None:
    chosen = choose_series(WAPE, SIZE, 6)
    assert [name for name, _ in chosen] == ["s4", "s1", "s3", "s5", "s6", "s9"]
    assert dict(chosen)["s3"] == "Forecast better than 75% of the series"


def test_little_room_keeps_the_largest_and_the_usual_one() -> None:
    assert [name for name, _ in choose_series(WAPE, SIZE, 2)] == ["s4", "s5"]


def test_one_series_is_shown_once() -> None:
    assert choose_series({"all": 0.1}, {"all": 5.0}, 8) == [("all", "The largest series")]


def test_without_a_backtest_the_largest_are_shown() -> None:
    assert [name for name, _ in choose_series({}, {"a": 1.0, "b": 2.0, "c": 2.0}, 2)] == ["b", "c"]
