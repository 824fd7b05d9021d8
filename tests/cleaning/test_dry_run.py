"""What would change, told without a change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dlmine_spark.config import Config
from dlmine_spark.errors import ConfigError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import clean, dry_run

pytestmark = pytest.mark.spark


def config(lakehouse: Lakehouse, path: Path, **price: Any) -> Config:
    columns = {"id": None, "price": {"type": "double", **price}}
    sources = {"goods": {"kind": "table", "path": str(path), "columns": columns}}
    return Config.model_validate({"lakehouse": lakehouse.config, "sources": sources})


def test_a_dry_run_tells_what_would_change_and_changes_nothing(lakehouse: Lakehouse, tmp_path: Path) -> None:
    path = tmp_path / "goods.csv"
    path.write_text("id,price\na,1\nb,2\n", encoding="utf-8")
    clean.run(config(lakehouse, path), lakehouse)
    path.write_text("id,price\na,1\nb,€ 3\nc,-5\n", encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))

    told = dry_run.run(config(lakehouse, path, min=0), lakehouse)

    assert told["rows"].split()[-6:] == ["goods", "3", "2", "1", "0", "0"]
    assert "format  price" in told["cells that would be repaired"]
    assert "€ 3" in told["cells that would be repaired"]
    assert "is not at least 0: -5" in told["rows that would be refused"]
    assert told["silver tables"].split()[-5:] == ["silver.goods", "2", "2", "1", "1"]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_needs_a_folder_it_can_remove(lakehouse: Lakehouse, tmp_path: Path) -> None:
    far = config(lakehouse, tmp_path).model_copy(
        update={"lakehouse": lakehouse.config.model_copy(update={"root": "s3a://bucket/house"})}
    )

    with pytest.raises(ConfigError, match=r"--dry-run needs a local or mounted folder.*--set lakehouse.root=FOLDER"):
        dry_run.run(far, lakehouse)
