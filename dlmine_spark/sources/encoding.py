"""Encodings of text files: Python's names for them, and how Spark reads what it has no name for. No Spark here."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from dlmine_spark.errors import ConfigError

_WIDE = {"utf-16": "UTF-16", "utf-16-le": "UTF-16LE", "utf-16-be": "UTF-16BE", "utf-32": "UTF-32"}
_UPPER_HALF = bytes(range(128, 256))
_AS_LATIN_1 = _UPPER_HALF.decode("latin-1")


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the bytes of a file become text.

    Attributes:
        codec: Python's name.
        spark: name that Spark knows.
        is_wide: a letter takes two or four bytes, so that a byte does not tell where a line ends.
        upper_half: the letters of the bytes 128 to 255, where Spark reads them as ISO-8859-1; else None.
    """

    codec: str
    spark: str
    is_wide: bool = False
    upper_half: str | None = None

    @property
    def as_latin_1(self) -> str:
        """The letters that stand in the place of ``upper_half`` until they are translated."""
        return _AS_LATIN_1


def encoding_of(encoding: str, name: str) -> Encoding:
    """What is to be done to read a source's text.

    Raises:
        ConfigError: the encoding is not known, or has letters of several bytes without being Unicode.
    """
    key = f"sources.{name}.encoding"
    try:
        codec = codecs.lookup(encoding).name
        upper_half = _UPPER_HALF.decode(codec, errors="replace")
        is_like_ascii = bytes(range(128)).decode(codec, errors="replace") == bytes(range(128)).decode("ascii")
    except (LookupError, TypeError, ValueError, AssertionError):
        raise ConfigError(f"{key}: {encoding!r} is not known: use UTF-8, UTF-16, cp1252 or latin-1") from None
    if codec in ("utf-8", "utf-8-sig", "ascii"):
        return Encoding("utf-8-sig", "UTF-8")
    if codec in _WIDE:
        return Encoding(codec, _WIDE[codec], is_wide=True)
    # Where several bytes make a letter, single ones are none, or swallow the next.
    is_single_byte = len(upper_half) == len(_UPPER_HALF) and upper_half.count("\ufffd") < len(_UPPER_HALF) / 2
    if not is_like_ascii or not is_single_byte:
        raise ConfigError(f"{key}: Spark cannot read {encoding}: convert the file to UTF-8 (iconv -f {encoding})")
    return Encoding(codec, "ISO-8859-1", upper_half=upper_half)
