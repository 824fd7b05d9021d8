"""What tests of several stages are configured with."""

from __future__ import annotations

PROMOTED = [
    "sources.panel={kind: panel, path: p, columns: {unique_id: u, ds: d, y: y}, other_columns: keep, "
    "roles: {promo: known_future, item: known_future}}",
    "sources.lines={kind: lines, path: l, columns: {basket_id: b, item: i, ts: t}}",
]
"""Sources of series, one item of which is promoted, and of baskets: overrides of the configuration."""
