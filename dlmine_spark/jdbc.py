"""A database that Spark reads and writes through JDBC: who may, how long to wait, and what its errors mean."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from dlmine_spark.credentials import credentials_of
from dlmine_spark.errors import DlmineError, EnvironmentProblem, SourceError

DRIVERS = {
    "postgresql": "org.postgresql:postgresql:42.7.7",
    "mysql": "com.mysql:mysql-connector-j:9.3.0",
    "mariadb": "org.mariadb.jdbc:mariadb-java-client:3.5.3",
    "sqlserver": "com.microsoft.sqlserver:mssql-jdbc:12.10.0.jre11",
    "oracle": "com.oracle.database.jdbc:ojdbc11:23.8.0.25.04",
}
"""Maven coordinates of the drivers that users ask for."""

_PATIENCE: dict[str, dict[str, str]] = {
    "postgresql": {"loginTimeout": "30", "connectTimeout": "30"},
    "mysql": {"connectTimeout": "30000"},
    "mariadb": {"connectTimeout": "30000"},
}
"""How long to wait for a database that does not answer, in the words of its driver; others have limits of their own."""
_SAID = re.compile(r"(?:SQL\w*|Communications)Exception: ([^\n]+)")
_SPARK_SAID = re.compile(r"\[FAILED_JDBC\.\w+\] .* on the operation: ([^\n]+?) SQLSTATE")
_REFUSALS = {
    "credentials": "(?i)password|authentication|access denied|login failed",
    "address": (
        "(?i)database .* does not exist|unknown database|refused|timed? ?out|unknown host|connection attempt failed|"
        "link failure|connect to the database"
    ),
    "table": "(?i)does not exist|doesn't exist|invalid object name",
}
"""What a database says, and the setting that is to be looked at then."""


@dataclass(frozen=True, slots=True)
class Database:
    """A database as one table of it is asked for.

    Attributes:
        address: ``jdbc:postgresql://host:5432/name``; it holds no credentials.
        where: what errors begin with: address, table and who asks.
        credentials: name of the variables that hold user and password; None: the driver's own ways.
        driver: class of the driver; None: the one that claims the address.
        keys: what users call ``address``, ``table``, ``credentials`` and ``driver``: keys of the configuration, or
            options of a command.
    """

    address: str
    where: str
    credentials: str | None
    driver: str | None
    keys: Mapping[str, str]

    @property
    def product(self) -> str:
        """``postgresql``, ``mysql`` and so on, as the address says."""
        return self.address.split(":")[1].lower()

    def options(self) -> dict[str, str]:
        """What Spark is told; holds the password, which Spark shows nowhere.

        Raises:
            EnvironmentProblem: the variables of the credentials are not set.
        """
        options = {"url": self.address, **_PATIENCE.get(self.product, {})}
        if self.driver is not None:
            options["driver"] = self.driver
        if self.credentials is not None:
            found = credentials_of(self.credentials, self.keys["credentials"])
            options |= {"user": found.user, "password": found.password}
        return options

    def quoted(self, name: str) -> str:
        """The name of a column or table, in its quotes."""
        sign = "`" if self.product in ("mysql", "mariadb") else '"'
        return sign + name.replace(sign, 2 * sign) + sign

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Turn what the database, or the lack of its driver, says through Spark into one line that names the table.

        Raises:
            SourceError: the database said no, or nothing.
            EnvironmentProblem: its driver is not there.
        """
        try:
            yield
        except DlmineError:
            raise
        except Exception as error:
            # Why a connection failed stands in the trace only, which a session of Spark Connect may keep back.
            text = f"{error}\n{getattr(error, '_stackTrace', None) or ''}"
            if re.search("No suitable driver|ClassNotFoundException", text):
                raise EnvironmentProblem(self._no_driver()) from error
            said = _SAID.search(text) or _SPARK_SAID.search(text)
            if said is None:
                raise
            reason = said[1].strip().removeprefix("ERROR: ").rstrip(".")
            raise SourceError(f"{self.where}: {reason}{self._hint(reason)}") from error

    def _no_driver(self) -> str:
        if self.product in DRIVERS:
            way = f"--set spark.conf.spark.jars.packages={DRIVERS[self.product]}, or put this jar beside Spark's"
        else:
            way = f"put the driver's jar beside Spark's, and name its class by {self.keys['driver']}"
        return f"{self.where}: Spark has no JDBC driver for jdbc:{self.product}: {way}"

    def _hint(self, reason: str) -> str:
        found = next((key for key, pattern in _REFUSALS.items() if re.search(pattern, reason)), None)
        if found is None:
            return ""
        if found == "credentials" and self.credentials is not None:
            variable = f"DLMINE_{self.credentials.upper()}"
            return f"; check {variable}_USER and {variable}_PASSWORD"
        return f"; check {self.keys[found]}"


def literal(value: str) -> str:
    """A text in SQL's quotes."""
    return "'" + value.replace("'", "''") + "'"
