"""What must not be shown: credentials in addresses and settings, in logs, errors and what others are told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

HIDDEN = "***"
_USERINFO = re.compile(r"(?<=://)[^/@\s'\"]+@")
_ASSIGNED = re.compile(
    r"\b(password|passwd|pwd|token|secret|sig|signature|(?:access|account|api|secret|private)[-_.]?key(?:[-_.]?id)?)"
    r"=[^&;,\s'\"]+",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(
    r"secret|passw|pwd|token|credential|(access|account|api|private|encryption)[-_.]?key|(^|[-_.])sas([-_.]|$)",
    re.IGNORECASE,
)


def without_credentials(text: str) -> str:
    """A text whose addresses have lost their user, password and signed parameters: ``https://***@host?token=***``."""
    return _ASSIGNED.sub(rf"\1={HIDDEN}", _USERINFO.sub(f"{HIDDEN}@", text))


def is_secret(name: str) -> bool:
    """Whether a setting of this name holds, by its name, what nobody else may know."""
    return _SECRET_NAME.search(name) is not None


def public(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings without credentials: a setting whose name says that it is secret is there, its value is not.

    Args:
        settings: plain values, lists and mappings.
        prefix: of the names, where they are part of something greater.
    """
    return {key: _public_value(value, f"{prefix}{key}") for key, value in settings.items()}


def _public_value(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return public(value, f"{name}.")
    if value is None:
        return None
    if is_secret(name):
        return HIDDEN
    if isinstance(value, list | tuple):
        return [_public_value(one, name) for one in value]
    return without_credentials(value) if isinstance(value, str) else value


def flattened(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings by their dotted names, as text; lists are JSON, and what is not set is left out."""
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flattened(value, f"{name}.")
        elif value is not None and value not in ([], ""):
            yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
