"""Damaged files and tables of local folders, told without Spark: it would say so in pages of Java, and late."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

_COMMIT = re.compile(r"\d{20}\.json")
_CHECKPOINT = re.compile(r"\d{20}\.checkpoint\..*(?:parquet|json)")
"""Of the second version, too, which may be JSON (Delta protocol, "V2 spec")."""
_PARQUET = b"PAR1"
_LOG_PROBLEMS = re.compile(
    r"DELTA_(?:VERSIONS_NOT_CONTIGUOUS|STATE_RECOVER_ERROR|TRUNCATED_TRANSACTION_LOG|LOG_FILE_NOT_FOUND|LOG_FILE_MALFORMED"
    r"|MISSING_PART_FILES|NO_RECREATABLE_HISTORY_FOUND)\w*"
)


def newest_commit(log_folder: Path) -> int | None:
    """The newest version that a Delta log names: its last commit, whose file is never cleaned up.

    Listing a folder takes a thousandth of the time of a query of the table's history, which every stage would ask
    several times.
    """
    try:
        commits = [name for name in os.listdir(log_folder) if _COMMIT.fullmatch(name)]
    except (FileNotFoundError, NotADirectoryError):
        return None
    return max((_version(name) for name in commits), default=None)


def tables_below(root: Path) -> dict[str, Path]:
    """The folder of every table of a lakehouse in a local folder, by name."""
    folders = sorted(log_folder.parent for log_folder in root.glob("*/*/_delta_log") if log_folder.is_dir())
    return {f"{folder.parent.name}.{folder.name}": folder for folder in folders}


def damage_of_log(log_folder: Path) -> str | None:
    """What a Delta log in a local folder lacks that readers need; None where it is whole, or there is none.

    Looked at is what readers look at: the last checkpoint and the commits after it.
    """
    try:
        names = os.listdir(log_folder)
    except (FileNotFoundError, NotADirectoryError):
        return None
    commits = {_version(name): log_folder / name for name in names if _COMMIT.fullmatch(name)}
    checkpoints = sorted(name for name in names if _CHECKPOINT.fullmatch(name))
    last = _version(checkpoints[-1]) if checkpoints else -1
    for name in checkpoints:
        is_parquet = name.endswith(".parquet")
        if is_parquet and _version(name) == last and damage_of_parquet(log_folder / name) is not None:
            return f"its log's checkpoint {name} is cut off"
    for version in range(last + 1, max(commits, default=last) + 1):
        if version not in commits:
            return f"its log has no commit {version}"
        if not _is_json(commits[version]):
            return f"commit {version} of its log ({commits[version].name}) is no JSON"
    return None


def damaged_table(table: str, place: Path | str, damage: str) -> str:
    """What is said of a table of ours that somebody wants to read."""
    return (
        f"{table} ({place}): is damaged, {damage}: run the stage that writes it with --force, or bring the file back "
        "from a copy"
    )


def damage_of_parquet(file: Path) -> str | None:
    """What is wrong with the ends of a Parquet file; None where nothing is, as far as these tell.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as stream:
        if stream.read(len(_PARQUET)) != _PARQUET:
            return "is no Parquet file"
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - len(_PARQUET)))
        is_whole = size > 2 * len(_PARQUET) and stream.read() == _PARQUET
    return None if is_whole else "is cut off, a Parquet file ends otherwise: copy or write it again"


def unreadable_file(text: str) -> str | None:
    """Which file of data Spark could not read, and why, from the text of its error; None if it tells of none."""
    failed = re.search(r"\[FAILED_READ_FILE[.\w]*\] Encountered error while reading file (\S+?)\.\s", text)
    if failed is None:
        return None
    if "FILE_NOT_EXIST" in failed[0]:
        return f"{failed[1]}: vanished while it was read; run again when nobody writes there"
    causes = re.findall(r"^Caused by: [\w.$]+: (.+)$", text, re.MULTILINE)
    return f"{failed[1]}: cannot be read: {causes[-1] if causes else 'unknown reason'}"


def unreadable_log(text: str) -> str | None:
    """What Delta says of a damaged log, from the text of an error; None if it is of something else."""
    found = _LOG_PROBLEMS.search(text)
    if found is not None:
        return found[0]
    is_of_log = "JsonParseException" in text or "MismatchedInputException" in text
    return "a commit of its log is no JSON" if is_of_log and "delta" in text else None


def _version(name: str) -> int:
    return int(name[:20])


def _is_json(commit: Path) -> bool:
    """Whether each line of a commit is a JSON object, and there is one."""
    try:
        with commit.open(encoding="utf-8") as lines:
            actions = [json.loads(line) for line in lines if line.strip()]
    except (ValueError, OSError):
        return False
    return bool(actions) and all(isinstance(one, dict) for one in actions)
