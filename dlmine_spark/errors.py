"""Errors a user can act on: each carries one line for the terminal and the exit code of its kind.

A message says which file, table, column or key is concerned, what was expected, what was found and what to try.
"""

from __future__ import annotations


class DlmineError(Exception):
    """Base of every error raised on purpose; anything else that reaches the command line is a defect."""

    exit_code = 1


class ConfigError(DlmineError):
    """The configuration or the command line is wrong."""

    exit_code = 2


class SourceError(DlmineError):
    """A source file cannot be used: missing, empty, unreadable or without a mapped column."""


class NoRowsError(SourceError):
    """The files of a source hold headers and nothing else."""


class TableContractError(DlmineError):
    """A table lacks what its readers rely on: a column, a type, a unique key, enough history."""


class TrainingError(DlmineError):
    """Training cannot start or go on: ranks, shards, checkpoints, a loss that is no number."""


class EnvironmentProblem(DlmineError):
    """Something the machine should provide is missing: Java, jars, Horovod, memory, slots."""

    exit_code = 3
