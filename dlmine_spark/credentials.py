"""Who may read a database: from the environment, or from the platform's secrets; never from a configuration."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass, field

from dlmine_spark.errors import EnvironmentProblem

SECRET_SCOPE = "dlmine"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a password; no log shows the latter."""

    user: str
    password: str = field(repr=False)


def credentials_of(name: str, key: str) -> Credentials:
    """The user and password that ``DLMINE_NAME_USER`` and ``DLMINE_NAME_PASSWORD`` hold, or the platform's secrets.

    Args:
        name: of the credentials.
        key: of the configuration that asks, for the error.

    Raises:
        EnvironmentProblem: one of them is not there; the message names the variables, and no value.
    """
    variables = {part: f"DLMINE_{name.upper()}_{part.upper()}" for part in ("user", "password")}
    found = {part: os.environ.get(variable) or _secret(f"{name}_{part}") for part, variable in variables.items()}
    missing = [variables[part] for part, value in found.items() if value is None]
    if missing:
        raise EnvironmentProblem(f"{key} is {name}: set the environment variable{'s' * (len(missing) > 1)} "
                                 f"{' and '.join(missing)}")  # fmt: skip
    return Credentials(str(found["user"]), str(found["password"]))


def _secret(key: str) -> str | None:
    """A secret of Databricks; None elsewhere, and where there is none of this name."""
    if "DATABRICKS_RUNTIME_VERSION" not in os.environ:
        return None
    try:
        secrets = importlib.import_module("databricks.sdk.runtime").dbutils.secrets
        return str(secrets.get(scope=SECRET_SCOPE, key=key))
    except Exception:
        # Its exceptions are Java's; what is missing is said by whoever asked.
        return None
