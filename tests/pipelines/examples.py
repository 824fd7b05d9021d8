"""What tests of several stages are configured with."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dlmine_spark import schemas as s
from dlmine_spark.lakehouse import Lakehouse
from tests.training.panels import FINAL

PROMOTED = [
    "sources.panel={kind: panel, path: p, columns: {unique_id: u, ds: d, y: y}, other_columns: keep, "
    "roles: {promo: known_future, item: known_future}}",
    "sources.lines={kind: lines, path: l, columns: {basket_id: b, item: i, ts: t}}",
]
"""Sources of series, one item of which is promoted, and of baskets: overrides of the configuration."""

BACKTEST = FINAL - timedelta(days=7)
"""The one cutoff that can be evaluated, a horizon before the end."""


def with_training_panel(lakehouse: Lakehouse, folder: Path, rows: pa.Table) -> Lakehouse:
    """The rows of ``panel_rows`` as the training panel, also as of the backtest cutoff, and as the panel."""
    pq.write_table(pa.concat_tables([rows, as_of(rows)]), folder / "panel.parquet")
    panel = lakehouse.spark.read.parquet(str(folder / "panel.parquet"))
    lakehouse.overwrite(s.TRAINING_PANEL.name, panel)
    values = panel.where(f"cutoff = DATE'{FINAL}' AND y IS NOT NULL")
    lakehouse.overwrite(s.PANEL.name, values.selectExpr("unique_id", "ds", "y", "open", "false AS y_imputed"))
    return lakehouse


def as_of(rows: pa.Table) -> pa.Table:
    """The same panel as of the backtest cutoff."""
    rows = rows.filter(pc.less_equal(rows["ds"], pa.scalar(BACKTEST + timedelta(days=7))))
    is_known = pc.less_equal(rows["ds"], pa.scalar(BACKTEST))
    changed = {
        "cutoff": pa.array([BACKTEST] * rows.num_rows, pa.date32()),
        "y": pc.if_else(is_known, rows["y"], pa.scalar(None, pa.float64())),
        "mask": pc.if_else(is_known, rows["mask"], pa.scalar(0, pa.int32())),
        "po_traffic": pc.if_else(is_known, rows["po_traffic"], pa.scalar(0.0)),
    }
    for name, values in changed.items():
        rows = rows.set_column(rows.column_names.index(name), name, values)
    return rows
