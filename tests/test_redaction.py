"""What is told to logs and other programs has no credentials in it."""

from __future__ import annotations

import pytest

from dlmine_spark.redaction import flattened, public, without_credentials


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://ann:pa55@host:5000/x is away", "https://***@host:5000/x is away"),
        ("mysql+pymysql://ann:p%40ss@db/runs", "mysql+pymysql://***@db/runs"),
        ("sc://host:15002/;token=abc;user_id=ann", "sc://host:15002/;token=***;user_id=ann"),
        (
            "jdbc:postgresql://db/x?user=ann&password=pa55&ssl=true",
            "jdbc:postgresql://db/x?user=ann&password=***&ssl=true",
        ),
        ("s3a://bucket/path, sqlite:////data/mlflow.db", "s3a://bucket/path, sqlite:////data/mlflow.db"),
        ("mail ann@example.org", "mail ann@example.org"),
    ],
)
def test_credentials_in_addresses(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


def test_settings_that_are_secret_by_name_are_there_without_their_value() -> None:
    settings = {
        "spark": {
            "master": None,
            "remote": "sc://host/;token=abc",
            "conf": {"spark.hadoop.fs.s3a.secret.key": "abc", "spark.hadoop.fs.s3a.access.key": "AKIA", "spark.x": 1},
        },
        "sources": {"sales": {"path": ["https://ann:pa55@host/a.csv"], "keys": ["unique_id", "ds"], "rules": []}},
    }
    assert dict(flattened(public(settings))) == {
        "spark.remote": "sc://host/;token=***",
        "spark.conf.spark.hadoop.fs.s3a.secret.key": "***",
        "spark.conf.spark.hadoop.fs.s3a.access.key": "***",
        "spark.conf.spark.x": "1",
        "sources.sales.path": '["https://***@host/a.csv"]',
        "sources.sales.keys": '["unique_id", "ds"]',
    }
