"""A guess as text: a configuration with its reasons as comments, and a table to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from dlmine_spark.aligned import aligned, one_line
from dlmine_spark.config import ArimaConfig, SourceConfig
from dlmine_spark.frequency import Frequency
from dlmine_spark.guessing.steps import Steps
from dlmine_spark.guessing.tables import Guess, Taken
from dlmine_spark.guessing.together import FEWEST_STEPS, Source, promoted_item

_DEFAULT_NULLS = SourceConfig.model_fields["null_tokens"].default
_MIN_HISTORY: int = ArimaConfig.model_fields["min_history"].default
_WIDEST = 44
_LONGEST = 400
"""Letters of a comment, whatever is in a column's name."""


def config_text(sources: Sequence[Source], root: str, title: str, file: str) -> str:
    """The YAML of a configuration that runs as it is, with why each guess was made.

    Keys and values are written by the YAML library, whatever is in their names; comments are cut to what can stand in
    a line.

    Args:
        sources: what was decided.
        root: of the lakehouse.
        title: of the report.
        file: what the configuration will be called, for its first line.
    """
    lines = [
        *_comment(f"Written by dlmine init. Run it: dlmine run --config {file}"),
        *_comment(
            "Each comment says why the line below it was guessed, and what else it could be. Paths are relative to"
        ),
        *_comment(
            "the folder in which dlmine is run. dlmine clean --profile --config FILE proposes rules for dirty cells."
        ),
        *_entry("lakehouse", {"root": root}),
        "sources:",
    ]
    for source in sources:
        lines += _source_lines(source)
    lines += _general_lines(sources)
    lines += _entry("report", {"title": title})
    return "\n".join(lines) + "\n"


def settings_of(source: Source) -> dict[str, Any]:
    """A source as the configuration has it."""
    sample, guess = source.table.sample, source.guess
    settings: dict[str, Any] = {"kind": guess.kind, "path": sample.path}
    if sample.format != "csv":
        settings["format"] = sample.format
    if sample.database:
        settings["database"] = sample.database
    if sample.delimiter != ",":
        settings["delimiter"] = sample.delimiter
    if sample.encoding != "UTF-8":
        settings["encoding"] = sample.encoding
    if sample.multiline:
        settings["multiline"] = True
    if nulls := _nulls(source):
        settings["null_tokens"] = [*_DEFAULT_NULLS, *nulls]
    if guess.taken:
        settings["columns"] = {one.name: _declaration(one) for one in guess.taken}
    if roles := {one.name: one.role for one in guess.taken if one.role is not None}:
        settings["roles"] = roles
    return settings | {one.key: one.value for one in guess.settings}


def general_settings(sources: Sequence[Source]) -> dict[str, dict[str, Any]]:
    """The sections beside ``sources``."""
    found: dict[str, dict[str, Any]] = {}
    if (promoted := promoted_item(sources)) is not None:
        found["mining"] = {"promoted_item": promoted}
    main = _main(sources)
    if main is None or main.steps is None:
        return found
    if main.kind == "lines" and main.value != "amount":
        found["cleaning"] = {"panel_value": main.value}
    arima: dict[str, Any] = {} if main.season is None else {"season_length": main.season}
    if main.steps.history < _MIN_HISTORY:
        arima["min_history"] = FEWEST_STEPS
    if arima:
        found["arima"] = arima
    found["evaluation"] = {"horizon": main.steps.horizon}
    return found


def table_text(sources: Sequence[Source]) -> str:
    """What was guessed of each file and column, and why, as tables for people."""
    parts = []
    for source in sources:
        guess = source.guess
        rows = [("column", "taken as", "because")]
        for one in guess.taken:
            role = f" ({one.role})" if one.role is not None else ""
            reason = "; ".join(filter(None, [one.because, one.others]))
            rows.append((one.column, f"{one.name}{role}", reason))
        rows += [(column, "-", because) for column, because in guess.left]
        heading = f"{source.table.sample.path}: {guess.kind}, {guess.because}"
        body = [f"  {line}" for line in aligned(rows, widest=_WIDEST, free=2)]
        notes = [f"  {one.key}: {one.because}" for one in guess.settings]
        about_time = [f"  {_time_in_words(guess.steps)}"] if guess.steps is not None else []
        odd = [f"  {_odd_lines(source)}"] if source.table.sample.odd_lines else []
        about_rows = [f"  {sampled(source)}", *odd]
        parts.append("\n".join([one_line(heading), *(body if len(rows) > 1 else []), *notes, *about_time, *about_rows]))
    return "\n\n".join(parts)


def _odd_lines(source: Source) -> str:
    """What is said of lines that are no rows."""
    sample = source.table.sample
    if sample.format != "json":
        return f"{sample.odd_lines:,} lines have more or fewer cells than the header: to the quarantine"
    first = f", the first is line {sample.first_odd:,}" if sample.first_odd else ""
    of = source.table.rows + sample.odd_lines
    return f"{sample.odd_lines:,} of {of:,} lines are no JSON object{first}: to the quarantine"


def sampled(source: Source) -> str:
    """How much of the files was looked at."""
    sample = source.table.sample
    files = "" if sample.files == 1 else f" in {sample.files:,} files"
    count = sample.baskets.baskets if sample.baskets is not None else source.table.rows
    if sample.is_whole:
        return f"guessed from all {count:,} rows{files}"
    if sample.database:
        return f"guessed from the first {count:,} rows that the database gave"
    size = sample.size / 2**20
    return f"guessed from {count:,} rows at the start, in the middle and at the end of {size:,.1f} MB{files}"


def _source_lines(source: Source) -> Iterator[str]:
    guess, sample = source.guess, source.table.sample
    yield from _comment(f"{guess.kind}: {guess.because}; {sampled(source)}.", 2)
    if guess.steps is not None:
        yield from _comment(_time_in_words(guess.steps), 2)
    if sample.odd_lines:
        yield from _comment(_odd_lines(source), 2)
    settings = settings_of(source)
    reasons = {one.key: one.because for one in guess.settings}
    yield f"  {source.name}:"
    for key, value in settings.items():
        if key in reasons:
            yield from _comment(reasons[key], 4)
        if key == "encoding":
            yield from _comment("of bytes that are no UTF-8; in Eastern Europe it may be cp1250, in Russia cp1251", 4)
        if key != "columns":
            yield from _entry(key, value, 4)
            continue
        yield "    columns:"
        for one in guess.taken:
            yield from _comment("; ".join(filter(None, [f"{one.column}: {one.because}", one.others])), 6)
            yield from _entry(one.name, value[one.name], 6)
    for column, because in guess.left:
        yield from _comment(f"not used: {column} ({because})", 4)


def _general_lines(sources: Sequence[Source]) -> Iterator[str]:
    main = _main(sources)
    reasons = {"mining": "the covariate that names the promoted item: its texts are items of the baskets"}
    if main is not None and main.steps is not None:
        frequency = _frequency(main.steps)
        reasons |= {
            "evaluation": f"{frequency.name}s to forecast, and to hold out once for the test; the history has "
            f"{main.steps.history:,} in the sample",
            "arima": "season_length: steps of a season, by the name of the column that counts them"
            if main.season is not None
            else f"the history is shorter than the {_MIN_HISTORY} values that a model asks for by default",
            "cleaning": "what is summed to sales: there is no price and quantity to multiply",
        }
    for key, value in general_settings(sources).items():
        yield from _comment(reasons[key])
        yield from _entry(key, value)


def _main(sources: Sequence[Source]) -> Guess | None:
    """What is forecast: the panel, else the lines."""
    by_kind = {one.guess.kind: one.guess for one in sources}
    return by_kind.get("panel") or by_kind.get("lines")


def _frequency(steps: Steps) -> Frequency:
    assert steps.frequency is not None
    return steps.frequency


def _time_in_words(steps: Steps) -> str:
    frequency = _frequency(steps)
    return f"from {steps.first} to {steps.last}, a row each {frequency.name} (cleaning.frequency: {frequency.alias})"


def _declaration(one: Taken) -> str | dict[str, Any]:
    return {"from": one.column, **one.settings} if one.settings else one.column


def _nulls(source: Source) -> list[str]:
    taken = {one.column for one in source.guess.taken}
    words = {word for one in source.table.columns.values() if one.name in taken for word in one.nulls}
    return sorted(words - set(_DEFAULT_NULLS))


def _entry(key: str, value: Any, indent: int = 0) -> list[str]:
    """A key and its value as YAML, with what is inside of it in one line."""
    # Of a single plain value, None would put braces around the key.
    style = None if isinstance(value, Mapping | list) else False
    text = yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=100_000, default_flow_style=style)
    return [f"{' ' * indent}{line}" for line in text.splitlines()]


def _comment(text: str, indent: int = 0) -> list[str]:
    return [f"{' ' * indent}# {one_line(text, _LONGEST)}"]
