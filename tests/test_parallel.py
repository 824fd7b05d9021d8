from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from pyspark.sql import SparkSession

from dlmine_spark import parallel
from dlmine_spark.parallel import in_parallel

pytestmark = pytest.mark.spark


def test_actions_run_at_the_same_time_and_their_results_keep_their_order(spark: SparkSession) -> None:
    both = threading.Barrier(2)

    def meet(value: int) -> int:
        both.wait(timeout=30)
        return value

    assert list(in_parallel(spark, {"b": lambda: meet(1), "a": lambda: meet(2)}).items()) == [("b", 1), ("a", 2)]
    assert in_parallel(spark, {}) == {}


def test_threads_have_the_callers_spark_properties(spark: SparkSession) -> None:
    context = spark.sparkContext
    context.setLocalProperty("dlmine.test", "here")
    try:
        assert in_parallel(spark, {"read": lambda: context.getLocalProperty("dlmine.test")}) == {"read": "here"}
    finally:
        context.setLocalProperty("dlmine.test", None)  # type: ignore[arg-type]


def test_what_one_thread_sets_no_other_sees(spark: SparkSession) -> None:
    context = spark.sparkContext
    has_set, has_read = threading.Barrier(2), threading.Barrier(2)

    def write() -> None:
        context.setLocalProperty("dlmine.test", "mine")
        has_set.wait(timeout=30)
        has_read.wait(timeout=30)

    def read() -> str | None:
        has_set.wait(timeout=30)
        value = context.getLocalProperty("dlmine.test")
        has_read.wait(timeout=30)
        return value

    assert in_parallel(spark, {"write": write, "read": read}) == {"write": None, "read": None}


def test_the_error_of_the_first_action_is_raised_and_no_further_one_started(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "AT_ONCE", 2)
    first_began, second_failed = threading.Event(), threading.Event()
    started: list[str] = []

    def first() -> None:
        first_began.set()
        second_failed.wait(timeout=30)
        raise ValueError("first")

    def second() -> None:
        # Had the first not begun yet, it would not be started any more.
        first_began.wait(timeout=30)
        second_failed.set()
        raise ValueError("second")

    actions = {"first": first, "second": second, **{f"later{n}": lambda: started.append("later") for n in range(20)}}
    with pytest.raises(ValueError, match="first"):
        in_parallel(spark, actions)
    assert started == []


def test_a_failure_is_told_though_an_earlier_action_was_handed_out_and_had_not_begun(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    second_has_ended = threading.Event()
    started: list[str] = []

    def second() -> None:
        raise ValueError("second")

    def slow_to_begin(target: Callable[[], None]) -> Callable[[], None]:
        def begin() -> None:
            if target.args[0] is second:  # type: ignore[attr-defined]  # a partial of the action
                try:
                    target()
                finally:
                    second_has_ended.set()
            else:
                second_has_ended.wait(timeout=30)
                target()

        return begin

    monkeypatch.setattr(parallel, "inheritable_thread_target", lambda _: slow_to_begin)
    with pytest.raises(ValueError, match="second"):
        in_parallel(spark, {"first": lambda: started.append("first"), "second": second})
    assert started == []
