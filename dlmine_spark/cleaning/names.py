"""Names of columns as bronze has them."""

from __future__ import annotations

import re

from dlmine_spark import schemas as s

_TAKEN = {name.lower() for name in (*s.BRONZE_METADATA, "_metadata")}


def bronze_name(header: str) -> str:
    """The name a column of a file has in bronze: as it came, without the signs that Delta refuses in names.

    A name that bronze itself uses (``_raw``) gets a further underscore.
    """
    name = re.sub(r"[ ,;{}()\n\r\t=.`]+", "_", header.lstrip("\ufeff").strip())
    return f"{name}_" if name.lower() in _TAKEN else name


def bronze_names(headers: list[str]) -> list[str]:
    """The names of all columns of a file; those without one are numbered by their place."""
    names = [bronze_name(header) for header in headers]
    return [name or f"unnamed_{place}" for place, name in enumerate(names, start=1)]


def free_name(bronze: str, taken: set[str]) -> str:
    """A name that a silver table can have; ``taken`` is told of it."""
    name = re.sub(r"[ ,;{}()\n\t=.`]+", "_", bronze).lstrip("_") or "column"
    if name.endswith(s.IMPUTED_SUFFIX):
        name += "_"
    while name.lower() in taken:
        name += "_"
    taken.add(name.lower())
    return name
