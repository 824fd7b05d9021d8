"""Names of columns as bronze has them."""

from __future__ import annotations

import re


def bronze_name(header: str) -> str:
    """The name a column of a file has in bronze: as it came, without the signs that Delta refuses in names."""
    return re.sub(r"[ ,;{}()\n\t=.`]+", "_", header.strip().lstrip("\ufeff")) or "unnamed"
