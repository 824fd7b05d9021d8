"""The documentation names only what there is: commands, options, settings, files and places to read on."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import click
import pytest
import typer.main
from pydantic import BaseModel

from dlmine_spark.cli import app
from dlmine_spark.config import Config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
COMMANDS: dict[str, click.Command] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
FOLDERS = ("conf", "docker", "docs", "dlmine_spark", "jobs", "resources", "scripts", "tests")
_ENDS = re.compile(r"[|>;&#]+|2>.*|->|=>")
"""Words that end a command: what follows is another one, a file or a remark."""
_CALLED = (
    re.compile(r"(?:^|[$:&|(;'\"] ?)(?:\.venv/bin/)?dlmine (.*)"),
    # The scripts for spark-submit are called as the commands, and take the same.
    re.compile(r"(?<![\w.-])jobs/(\w+)\.py (.*)"),
)


def code_of(page: str) -> Iterator[str]:
    """Lines of code blocks, those that go on joined, and pieces of code within sentences."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    for block in blocks:
        yield from re.sub(r"\\\n\s*", "", block).splitlines()
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE))


def commands_of(page: str) -> Iterator[list[str]]:
    """Words of every command line of ours: the command and what it is given."""
    for line in code_of(page):
        for called in (match for pattern in _CALLED for match in pattern.finditer(line.strip())):
            told = " ".join(called.groups())
            try:
                words = shlex.split(told)
            except ValueError:
                words = told.split()
            ends = next((place for place, word in enumerate(words) if _ENDS.fullmatch(word)), len(words))
            yield [word.rstrip(";,.:)'\"") for word in words[:ends]]


def problems_of(words: Sequence[str]) -> Iterator[str]:
    """What of a command line the program would not understand."""
    if not words or not words[0][:1].isalpha():
        return
    command = COMMANDS.get(words[0])
    if command is None:
        yield f"no command {words[0]}"
        return
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for place, word in enumerate(words):
        name = word.partition("=")[0]
        if name.startswith("-") and name not in known | {"--help", "-h"}:
            yield f"dlmine {words[0]} has no option {name}"
        if name in ("--set", "-s") and place + 1 < len(words):
            setting = words[place + 1].partition("=")[0]
            if not is_setting(setting):
                yield f"there is no setting {setting}"


def is_setting(dotted: str) -> bool:
    """Whether a path leads to a setting; below names that users choose, anything may."""
    section: type[BaseModel] | None = Config
    for key in dotted.split("."):
        if section is None:
            return True
        fields = {field.alias or name: field for name, field in section.model_fields.items()}
        if key not in fields:
            return False
        within = [one for one in (fields[key].annotation, *get_args(fields[key].annotation)) if isinstance(one, type)]
        section = next((one for one in within if issubclass(one, BaseModel)), None)
        if isinstance(fields[key].annotation, type) is False and "dict" in str(fields[key].annotation):
            section = None
    return True


def anchors_of(page: str) -> set[str]:
    """The headings, as a link to one names it."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_command_is_one(page: Path) -> None:
    commands = list(commands_of(page.read_text(encoding="utf-8")))
    wrong = {f"{' '.join(words)}: {problem}" for words in commands for problem in problems_of(words)}
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_file_of_the_project_is_there(page: Path) -> None:
    named = {
        word.rstrip(".,;:)")
        for line in code_of(page.read_text(encoding="utf-8"))
        for word in re.findall(r"(?<![\w./$<{*-])[\w.-]+(?:/[\w.-]+)+", line)
        if word.split("/")[0] in FOLDERS or word.endswith(".py")
    }
    missing = {name for name in named if not any((place / name).exists() for place in (ROOT, ROOT / "dlmine_spark"))}
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    broken = set()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        other = page.parent / file if file else page
        if not other.exists() or (anchor and anchor not in anchors_of(other.read_text(encoding="utf-8"))):
            broken.add(target)
    assert not broken


def test_every_page_is_linked_from_the_readme() -> None:
    readme = PAGES[0].read_text(encoding="utf-8")
    listed = {(ROOT / target.partition("#")[0]).resolve() for target in re.findall(r"\]\(([^)\s]+)\)", readme)}
    assert [page for page in PAGES[1:] if page.resolve() not in listed] == []


def texts_of_the_program() -> Iterator[str]:
    """Every text in the code, with … where it is filled in."""
    for file in [*(ROOT / "dlmine_spark").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%[.\d]*[sd] ?%?%?", "…", node.value)


def test_errors_are_told_as_the_program_prints_them() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    symptoms = re.findall(r"^\*\*`(.+?)`\*\*", page, re.MULTILINE)
    texts = set(texts_of_the_program())
    assert len(symptoms) > 50
    unknown = [one for one in symptoms if not any(re.search(_as_pattern(one), text) for text in texts)]
    assert unknown == []


def _as_pattern(symptom: str) -> str:
    return ".*".join(re.escape(part.strip()) for part in symptom.split("…"))


@pytest.mark.parametrize(
    ("line", "problems"),
    [
        ("`dlmine mine --by half`", []),
        ("`dlmine mien`", ["no command mien"]),
        ("`dlmine clean --fast`", ["dlmine clean has no option --fast"]),
        ("`dlmine run --set mining.min_suport=.1`", ["there is no setting mining.min_suport"]),
        ("`dlmine run --set sources.x.columns.y=z --set spark.conf.spark.executor.memory=1g`", []),
        (
            "```sh\n$ .venv/bin/dlmine show forecasts \\\n    --rows 2 --were x | head -3\n```",
            ["dlmine show has no option --were"],
        ),
        ("`jobs/run.py --conf x`", ["dlmine run has no option --conf"]),
        ("the words dlmine mien, which are no code", []),
    ],
)
def test_what_is_no_command_is_found(line: str, problems: list[str]) -> None:
    assert [problem for words in commands_of(line) for problem in problems_of(words)] == problems
