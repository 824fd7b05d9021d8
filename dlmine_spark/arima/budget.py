"""The time that a series may take: looked at between the steps of the work, however long a series is."""

from __future__ import annotations

import time

NEVER = float("inf")
"""A deadline that does not come."""


class TimeIsUp(RuntimeError):
    """The series has used its share of time."""


def check(deadline: float) -> None:
    """Go on only before a deadline.

    Args:
        deadline: on the monotonic clock.

    Raises:
        TimeIsUp: it has passed.
    """
    if time.monotonic() > deadline:
        raise TimeIsUp("arima.timeout is used up")
