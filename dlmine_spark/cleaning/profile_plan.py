"""A profile as text: a cleaning plan to edit and run, and a table to read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from dlmine_spark.aligned import aligned, one_line
from dlmine_spark.cleaning.dependencies import Dependency
from dlmine_spark.cleaning.names import free_name
from dlmine_spark.cleaning.profile import ColumnProfile, Profile
from dlmine_spark.config import SourceConfig

SURE = 0.95
"""Confidence that the plan suggests for applying repairs."""
_FEW_MISSING = 0.05
_SHOWN = 60
_SUGGESTED_DEPENDENCIES = 40


def plan_text(root: str, sources: Mapping[str, tuple[SourceConfig, Profile]]) -> str:
    """The YAML of a cleaning plan: what was found as settings where nothing is lost by them, else as comments.

    Args:
        root: of the lakehouse that the plan's run writes to.
        sources: name -> declaration and profile.

    Returns:
        Text that ``load_config`` reads.
    """
    lines = [
        "# Written by `dlmine clean --profile`. Edit it, then run it: dlmine clean --config <this file>",
        "# Lines behind a # are suggestions with the evidence for them: take it and one space away to use one.",
        "lakehouse:",
        f"  root: {_quoted(root)}",
        "sources:",
    ]
    for name, (source, profile) in sources.items():
        lines += [f"  {name}:  # {profile.rows:,} rows", *(f"    {line}" for line in _source_lines(source, profile))]
    return "\n".join(lines) + "\n"


def _source_lines(source: SourceConfig, profile: Profile) -> Iterator[str]:
    declared = source.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"columns", "mined"})
    yield from _dumped({"kind": source.kind, "path": source.path, **declared})
    more = sorted(
        {word for one in profile.columns for word in one.nulls if one.marked >= _FEW_MISSING * one.rows}
        - set(source.null_tokens)
    )
    if more:
        tokens = [*source.null_tokens, *more]
        yield f"# null_tokens: {json.dumps(tokens, ensure_ascii=False)}  # frequent words for missing: {_list(more)}"
    for key in profile.keys:
        yield f"# key: [{_quoted(_name_of(key, source))}]  # never blank, all {profile.rows:,} values different"
    yield "columns:"
    by_bronze = {one.name.lower(): one for one in profile.columns}
    for name, spec in source.columns.items():
        found = by_bronze.get((spec.source or name).lower())
        yield f"  {_quoted(name)}:" + (f"  # {_evidence(found)}" if found else "")
        set_ = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        yield from (f"    {line}" for line in _dumped(set_ or {"from": spec.source or name}))
        if found:
            yield from (f"    {line}" for line in _suggestions(found, with_type=spec.type is None, is_active=False))
    mapped = {(spec.source or name).lower() for name, spec in source.columns.items()}
    names: set[str] = {name.lower() for name in source.columns}
    for one in profile.columns:
        if one.name.lower() in mapped:
            continue
        name = free_name(one.name, names)
        sign = "# " if source.columns else ""
        yield f"  {sign}{_quoted(name)}:  # {_evidence(one)}"
        yield f"  {sign}  from: {_quoted(one.name)}"
        yield from (f"  {sign}  {line}" for line in _suggestions(one, with_type=True, is_active=not source.columns))
    for left_out in profile.left_out[:_SHOWN]:
        yield f"  # {left_out}: not profiled"
    yield from _mined_lines(source, profile)


def _mined_lines(source: SourceConfig, profile: Profile) -> Iterator[str]:
    """The section ``mined``: as declared, else on for a table and a suggestion for what other stages build on."""
    if source.mined is not None:
        yield "mined:"
        dumped = source.mined.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        yield from (f"  {line}" for line in _dumped(dumped or {"enabled": source.mined.enabled}))
        sign = "# "
    elif source.kind == "baskets":
        return
    else:
        sign = "# " if source.columns else ""
        yield f"{sign}mined:  # suspicious cells go to silver.suspicions; nothing is changed by that"
        yield f"{sign}  enabled: true"
    yield f"#   apply_above: {SURE}  # apply proposed repairs of at least this confidence"
    yield "#   quarantine_above: 0.95  # refuse rows with a cell at least this suspicious"
    if profile.dependencies:
        yield "#   dependencies found (they are mined again in each run; declare those that must hold):"
        yield "#   dependencies:"
    for one in profile.dependencies[:_SUGGESTED_DEPENDENCIES]:
        left = ", ".join(_quoted(_name_of(name, source)) for name in one.determinant)
        yield f"#     - {{from: [{left}], to: {_quoted(_name_of(one.dependent, source))}}}  # {_holds(one)}"


def _holds(one: Dependency) -> str:
    return f"holds in {1 - one.error:.1%} of {one.rows:,} rows, {one.groups:,} groups"


def _suggestions(one: ColumnProfile, *, with_type: bool, is_active: bool) -> Iterator[str]:
    """Settings of one column: its type where nothing is lost by it, all else as comments."""
    sign = "" if is_active else "# "
    if with_type and one.type != "string":
        yield f"{sign}type: {one.type}"
        if one.type in ("date", "timestamp"):
            yield f"{sign}formats: [{_quoted(one.formats[0])}]"
        if one.decimal == ",":
            yield f'{sign}decimal: ","'
    elif with_type and one.almost is not None:
        type_, share = one.almost
        # What is not all must not read as all.
        shown = f"{min(share, 0.9999):.2%}"
        yield f"# type: {type_}  # {shown} of the known cells read as one; the others would become blank"
        if type_ in ("date", "timestamp"):
            yield f"# formats: [{', '.join(map(_quoted, one.formats[:4]))}]  # in the order they are tried"
    if one.type in ("integer", "double") and one.low is not None:
        yield f"# min: {one.low}  # the smallest value"
        yield f"# max: {one.high}  # the largest value"
        if one.quantiles:
            yield f"# quartiles: {', '.join(f'{value:.6g}' for value in one.quantiles)}"
    if one.labels:
        yield f"# allowed: {json.dumps(list(one.labels), ensure_ascii=False)}  # values there twice or more"
    if one.known == one.rows:
        yield "# required: true  # never blank"
    if one.nulls:
        yield f"# words for missing: {_list(one.nulls)} ({one.marked:,} cells), and {one.blank:,} blank cells"


def _evidence(one: ColumnProfile) -> str:
    """What a column holds, in one line of a comment."""
    parts = [f"{one.missing:.1%} missing", f"about {one.distinct:,} different"]
    if one.low is not None and one.type != "string":
        parts.append(f"{one.low} to {one.high}")
    if one.top:
        parts.append("e.g. " + ", ".join(f"{_shown(value)} ({copies:,})" for value, copies in one.top[:3]))
    if one.usual:
        parts.append("written " + " or ".join(_shown(pattern) for pattern in one.usual))
    return one_line("; ".join(parts))


def table_text(name: str, profile: Profile) -> str:
    """A profile as a table for people: a line per column, then keys and dependencies."""
    rows = [("column", "type", "missing", "different", "lowest", "highest", "most frequent")]
    for one in profile.columns:
        type_ = one.type if one.almost is None else f"{one.type} ({one.almost[0]} {one.almost[1]:.0%})"
        top = ", ".join(f"{_shown(value)} {copies:,}" for value, copies in one.top[:3])
        low, high = (_shown(value or "") for value in (one.low, one.high))
        rows.append((one.name, type_, f"{one.missing:.1%}", f"{one.distinct:,}", low, high, top))
    lines = [f"{name}: {profile.rows:,} rows, {len(profile.columns):,} columns"]
    lines += aligned(rows)
    if profile.left_out:
        lines.append(f"not profiled: {len(profile.left_out):,} further columns")
    lines.append(f"candidate keys: {', '.join(profile.keys) or 'none'}")
    lines += [f"{' + '.join(one.determinant)} -> {one.dependent}: {_holds(one)}" for one in profile.dependencies]
    return "\n".join(lines)


def _name_of(bronze: str, source: SourceConfig) -> str:
    """The name that a column of the file has after cleaning."""
    mapped = {(spec.source or name).lower(): name for name, spec in source.columns.items()}
    return mapped.get(bronze.lower()) or free_name(bronze, set())


def _dumped(values: Mapping[str, Any]) -> list[str]:
    text: str = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=10_000)
    return text.splitlines()


def _quoted(text: str) -> str:
    """A YAML scalar: JSON's strings are YAML's, and plain words need no quotes."""
    is_plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", text) and isinstance(yaml.safe_load(text), str)
    return text if is_plain else json.dumps(text, ensure_ascii=False)


def _shown(text: str) -> str:
    return one_line(text if len(text) <= 30 else f"{text[:29]}…")


def _list(words: Sequence[str]) -> str:
    return ", ".join(json.dumps(word, ensure_ascii=False) for word in words)
