"""The only place that talks to MLflow: an experiment's runs, what is logged to them, and registered models.

Nothing global of MLflow's is touched: no current run, no address set for the process, so that a notebook's own runs
and automatic logging stay as they are. Its client is told the address each time; credentials it takes from the
environment itself, and they are in no message of ours.
"""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from dlmine_spark import __version__
from dlmine_spark.config import Config
from dlmine_spark.errors import ConfigError, EnvironmentProblem
from dlmine_spark.places import files_root
from dlmine_spark.redaction import HIDDEN, without_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from dlmine_spark.scoring import Column

log = logging.getLogger(__name__)

Status = Literal["FINISHED", "FAILED", "KILLED"]
FOLDER = "tracking"
"""Below the lakehouse's root, where no server is named: ``mlflow.db`` and the runs' files."""
RUN_TAG = "dlmine.run_id"
"""The id that ``ops.runs`` has; an attempt that goes on with a killed one has the same, and so the same MLflow run."""
MODEL_FOLDER = "model"
CONNECT_SECONDS = 5.0
FIRST_WORD = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "8", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
"""How long a server may take to say its first word; MLflow's own patience is of minutes."""
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "30", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
"""The same while a job goes on: a stage may wait for a minute for a server that is gone."""
DEFAULT_PORTS = {"https": 443, "http": 80, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
MAX_TEXT = 5_000
"""Letters of a parameter or tag that MLflow's stores take."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A number that was measured, at a step of a curve."""

    name: str
    value: float
    step: int = 0


@dataclass(frozen=True, slots=True)
class Address:
    """Where runs are logged.

    Attributes:
        uri: as MLflow takes it; may hold credentials, if it came from the environment.
        files: where the files of runs go; None: the server says.
    """

    uri: str
    files: str | None = None

    def __repr__(self) -> str:
        """Without credentials."""
        return f"Address({self.shown})"

    @property
    def shown(self) -> str:
        """The address without credentials."""
        return without_credentials(self.uri)


def address_of(config: Config, environment: Mapping[str, str]) -> Address:
    """Where runs are logged: as the configuration says, or the platform, or the environment, or beside the tables.

    Raises:
        ConfigError: nothing says so, or it is an address of MLflow's retired file store.
    """
    uri = config.tracking.uri
    if uri is None and "DATABRICKS_RUNTIME_VERSION" in environment:
        uri = "databricks"
    uri = uri or environment.get("MLFLOW_TRACKING_URI")
    root = files_root(config.lakehouse) if config.lakehouse.catalog is None else None
    if uri is None:
        if root is None:
            raise ConfigError(
                "tracking.enabled: the lakehouse is no local folder that a database could lie in; set tracking.uri, or "
                "MLFLOW_TRACKING_URI, to a server or database"
            )
        uri = f"sqlite:///{root / FOLDER / 'mlflow.db'}"
    if ("://" not in uri and uri != "databricks") or uri.startswith("file:"):
        raise ConfigError(
            f"tracking.uri {without_credentials(uri)} is a folder, and MLflow has retired its file store: give "
            "sqlite:///FILE, a database, or the address of a server"
        )
    if not uri.startswith("sqlite:"):
        return Address(uri)
    file = Path(uri.partition(":///")[2]).absolute()
    return Address(f"sqlite:///{file}", (file.parent / "artifacts").as_uri())


class Tracking:
    """An experiment that answers."""

    def __init__(self, client: MlflowClient, address: Address, experiment_id: str) -> None:
        self._client = client
        self._address = address
        self._experiment_id = experiment_id

    def begin(self, key: str, name: str, *, parameters: Mapping[str, str], tags: Mapping[str, str]) -> str:
        """The id of the MLflow run that has this key, begun or gone on with.

        Parameters of a run that is gone on with stay as they were where they are there.
        """
        from mlflow.entities import Param, RunTag

        with _patience(PATIENCE):
            found = self._client.search_runs([self._experiment_id], f"tags.`{RUN_TAG}` = '{key}'", max_results=1)
            if found:
                run = found[0]
                self._client.update_run(run.info.run_id, status="RUNNING")
            else:
                run = self._client.create_run(self._experiment_id, run_name=name, tags={RUN_TAG: key})
            known = run.data.params
            new = {_name(key): value for key, value in parameters.items()}
            self._client.log_batch(
                run.info.run_id,
                params=[Param(key, value[:MAX_TEXT]) for key, value in new.items() if key not in known],
                tags=[RunTag(_name(key), value[:MAX_TEXT]) for key, value in tags.items()],
            )
        run_id: str = run.info.run_id
        return run_id

    def add(self, run_id: str, *, measures: Sequence[Measure] = (), tags: Mapping[str, str] | None = None) -> None:
        """Log numbers and tags; a number that is none is left out."""
        from mlflow.entities import Metric, RunTag

        now = int(time.time() * 1000)
        finite = [one for one in measures if math.isfinite(one.value)]
        with _patience(PATIENCE):
            self._client.log_batch(
                run_id,
                metrics=[Metric(_name(one.name), one.value, now, one.step) for one in finite],
                tags=[RunTag(_name(key), value[:MAX_TEXT]) for key, value in (tags or {}).items()],
            )

    def add_file(self, run_id: str, file: Path, name: str | None = None) -> None:
        """Log a copy of a file, under another name if it is to have one."""
        with tempfile.TemporaryDirectory(prefix="dlmine-file-") as scratch, _patience(PATIENCE):
            named = file if name is None else Path(shutil.copyfile(file, Path(scratch) / name))
            self._client.log_artifact(run_id, str(named))

    def add_text(self, run_id: str, text: str, name: str) -> None:
        """Log a text as a file."""
        with _patience(PATIENCE):
            self._client.log_text(run_id, text, name)

    def add_model(
        self,
        run_id: str,
        folder: Path,
        loader: str,
        signature: tuple[Sequence[Column], Sequence[Column]],
        registered: str | None,
    ) -> str:
        """Log a model of files that a module of ours loads, and register it if it is to have a name.

        Args:
            run_id: of the run it comes from.
            folder: with the model's files.
            loader: module whose ``_load_pyfunc`` loads them.
            signature: columns that it reads, and returns.
            registered: name that it becomes a version of, if any.

        Returns:
            Its address: ``models:/<name>/<version>``, or ``runs:/<run>/model``.
        """
        from mlflow import pyfunc
        from mlflow import version as of_mlflow
        from mlflow.models import ModelSignature

        address = f"runs:/{run_id}/{MODEL_FOLDER}"
        with tempfile.TemporaryDirectory(prefix="dlmine-model-") as scratch, _patience(PATIENCE):
            whole = Path(scratch) / MODEL_FOLDER
            inputs, outputs = signature
            pyfunc.save_model(
                path=str(whole),
                loader_module=loader,
                data_path=str(folder),
                signature=ModelSignature(inputs=_schema(inputs), outputs=_schema(outputs)),
                pip_requirements=[f"dlmine-spark[train]=={__version__}", f"mlflow-skinny=={of_mlflow.VERSION}"],
            )
            self._client.log_artifacts(run_id, str(whole), MODEL_FOLDER)
            if registered is None:
                return address
            return self._register(registered, address, run_id)

    def _register(self, name: str, source: str, run_id: str) -> str:
        from mlflow.exceptions import MlflowException

        # Whether it is there cannot be asked of every registry without an error.
        with suppress(MlflowException):
            self._client.create_registered_model(name)
        artifacts = self._client.get_run(run_id).info.artifact_uri
        version = self._client.create_model_version(name, f"{artifacts}/{MODEL_FOLDER}", run_id)
        log.debug("%s is version %s of %s", source, version.version, name)
        return f"models:/{name}/{version.version}"

    def end(self, run_id: str, status: Status) -> None:
        """Note what became of a run."""
        with _patience(PATIENCE):
            self._client.set_terminated(run_id, status)

    def told(self, error: BaseException) -> str:
        """What an error says, in one line and without credentials."""
        return _told(error, self._address)


def require_tracking(config: Config, environment: Mapping[str, str]) -> Address:
    """Where runs are logged, once it is sure that MLflow is installed and somebody answers there; writes nothing.

    Raises:
        EnvironmentProblem: MLflow is not installed, or nobody answers.
        ConfigError: the address is none.
    """
    address = address_of(config, environment)
    _import_quietly()
    _require_answer(address)
    return address


def open_tracking(config: Config, environment: Mapping[str, str]) -> Tracking:
    """The configured experiment, made if there is none, at a server that answers within seconds.

    Raises:
        EnvironmentProblem: MLflow is not installed, nobody answers, or the answer is a refusal.
        ConfigError: the address or the name is none.
    """
    address = require_tracking(config, environment)
    name = config.tracking.experiment
    if address.uri == "databricks" and not name.startswith("/"):
        # There, an experiment is a file of the workspace.
        name = f"/Shared/{name}"
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        if address.uri.startswith("sqlite:"):
            Path(address.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        with _patience(FIRST_WORD):
            client = MlflowClient(tracking_uri=address.uri)
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                return Tracking(client, address, client.create_experiment(name, artifact_location=address.files))
    except (MlflowException, OSError, ImportError, RuntimeError) as error:
        raise _unusable(error, address) from error
    except Exception as error:
        # Databases raise errors of drivers that this program does not know.
        if type(error).__module__.partition(".")[0] not in ("sqlalchemy", "alembic", "requests"):
            raise
        raise _unusable(error, address) from error
    if experiment.lifecycle_stage != "active":
        raise EnvironmentProblem(
            f"tracking.experiment {name} at {address.shown} was deleted: restore it "
            f"(mlflow experiments restore -x {experiment.experiment_id}), or name another one"
        )
    return Tracking(client, address, experiment.experiment_id)


def _unusable(error: BaseException, address: Address) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"MLflow at {address.shown} cannot be used: {_told(error, address)}; check tracking.uri and the environment's "
        "credentials (MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN), or go without: "
        "--set tracking.enabled=false"
    )


def _told(error: BaseException, address: Address) -> str:
    # What a database's driver says stands last, after the query.
    said = [getattr(one, "orig", None) for one in (error, error.__cause__)]
    lines = [line.strip() for line in str(next(filter(None, said), error)).splitlines() if line.strip()]
    text = (lines or [type(error).__name__])[0].replace(address.uri, address.shown)
    secrets = (os.environ.get(name) for name in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD"))
    for secret in filter(None, secrets):
        text = text.replace(secret, HIDDEN)
    return without_credentials(text)[:500]


def _import_quietly() -> None:
    """Import MLflow without what it does beside: a log of its own, and reports of its use to its makers."""
    for name, value in {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_CONFIGURE_LOGGING": "false"}.items():
        os.environ.setdefault(name, value)
    try:
        import alembic  # noqa: F401
        import mlflow  # noqa: F401
        import sqlalchemy  # noqa: F401
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            f"tracking.enabled needs the package {error.name}: pip install 'dlmine-spark[mlflow]', or go without: "
            "--set tracking.enabled=false"
        ) from error
    # A new database is told of step by step, and every error with its trace before it is raised anyway.
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _require_answer(address: Address) -> None:
    """See whether anybody listens, before clients begin to wait and to try again."""
    place = urlsplit(address.uri)
    port = DEFAULT_PORTS.get(place.scheme.partition("+")[0])
    if not place.hostname or port is None:
        return
    try:
        target = (place.hostname, place.port or port)
        socket.create_connection(target, CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise EnvironmentProblem(
            f"no MLflow answers at {address.shown} ({error}): is it running, and is that its address (tracking.uri, "
            "MLFLOW_TRACKING_URI)? To go without: --set tracking.enabled=false"
        ) from error


@contextmanager
def _patience(limits: Mapping[str, str]) -> Iterator[None]:
    """Limits of time and tries, which MLflow reads from the environment; what the user has set counts more."""
    ours = {name: value for name, value in limits.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def _name(text: str) -> str:
    """A name that MLflow takes: letters, digits, and few signs."""
    return re.sub(r"[^\w\-. :/]", "_", text)[:250]


def _schema(columns: Sequence[Column]) -> Any:
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    types: dict[str, Any] = {
        "number": DataType.double,
        "text": DataType.string,
        "moment": DataType.datetime,
        "count": DataType.long,
        "numbers": Array(DataType.double),
    }
    return Schema([ColSpec(types[one.kind], one.name, required=one.required) for one in columns])
