"""What is said of a cluster that lacks something, by addresses and traces; tests/test_cluster.py has a real one."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from dlmine_spark.clusters import cause, require_answer, why_no_python
from dlmine_spark.config import load_config
from dlmine_spark.errors import EnvironmentProblem


@pytest.fixture
def nobody() -> str:
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def somebody() -> Iterator[str]:
    """An address at which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("scheme", ["spark", "sc"])
def test_an_address_without_a_cluster_is_told_at_once(scheme: str, nobody: str) -> None:
    with pytest.raises(
        EnvironmentProblem, match=rf"no Spark cluster answers at {scheme}://{nobody} .*scripts/cluster up"
    ):
        require_answer(f"{scheme}://{nobody}")


def test_one_master_of_several_is_enough(nobody: str, somebody: str) -> None:
    require_answer(f"spark://{nobody},{somebody}")


def test_options_of_an_address_are_no_part_of_the_host(somebody: str) -> None:
    require_answer(f"sc://{somebody}/;use_ssl=true;token=secret")


def test_a_port_that_is_none_is_a_wrong_address() -> None:
    with pytest.raises(EnvironmentProblem, match=r"no Spark cluster answers at spark://127\.0\.0\.1:many"):
        require_answer("spark://127.0.0.1:many")


@pytest.mark.parametrize("master", ["local[2]", "yarn", "k8s://https://nowhere.invalid:6443", ""])
def test_other_masters_are_found_by_their_own_clients(master: str) -> None:
    require_answer(master)


@pytest.mark.parametrize(
    ("trace", "said"),
    [
        (
            "org.apache.spark.api.python.PythonException: PySparkRuntimeError: [PYTHON_VERSION_MISMATCH] Python in "
            "worker has different version: 3.9 than that in driver: 3.11, PySpark cannot run",
            "the executors' Python (./environment/bin/python) is 3.9: they need Python 3.",
        ),
        (
            'java.io.IOException: Cannot run program "./environment/bin/python": error=2, No such file or directory',
            "the executors have no Python at ./environment/bin/python (No such file or directory): they need Python 3.",
        ),
        (
            "An error occurred while calling o1.x.\n: Job aborted\n\tat S.java\nCaused by: java.io.EOFException: x",
            "does not run (java.io.EOFException: x)",
        ),
    ],
)
def test_why_executors_run_no_python(trace: str, said: str) -> None:
    told = why_no_python(trace, "./environment/bin/python")

    assert said in told
    assert "--archives" in told


@pytest.mark.parametrize(
    ("trace", "innermost"),
    [("", "no word"), ("one line", "one line"), ("a\nCaused by: b\n\tat x\nCaused by: c\n\t... 3 more", "c")],
)
def test_the_innermost_cause_counts(trace: str, innermost: str) -> None:
    assert cause(trace) == innermost


def test_a_setting_of_spark_can_be_given_on_the_command_line() -> None:
    config = load_config([], ["spark.conf.spark.executor.memory=16g", "spark.conf.spark.ui.enabled=false"], {})

    assert config.spark.conf == {"spark.executor.memory": "16g", "spark.ui.enabled": False}
