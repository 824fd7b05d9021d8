from __future__ import annotations

import pytest

from dlmine_spark.explain.inputs import KnownInput, known_input

COVARIATES = ["promo", "Promo Kind", "temperature", "region"]


@pytest.mark.parametrize(
    ("column", "name", "role"),
    [
        ("kf_promo", "promo", "known_future"),
        ("kf_promo_before", "promo", "known_future"),
        ("kf_promo_kind_leaflet", "Promo Kind", "known_future"),
        ("kf_calendar_weekday_3", "calendar", "known_future"),
        ("kf_season_profile", "season profile", "known_future"),
        ("kf_mined_rules_pull", "rules", "mined"),
        ("po_mined_sequences_due", "sequences", "mined"),
        ("po_mined_activations_gin_tonic", "activations", "mined"),
        ("po_temperature", "temperature", "past_only"),
        ("sn_mined_segments_0", "segments", "mined"),
        ("sc_region", "region", "static"),
    ],
)
def test_a_column_is_told_by_the_name_people_know(column: str, name: str, role: str) -> None:
    assert known_input(column, COVARIATES) == KnownInput(name, role)


def test_what_is_no_covariate_keeps_its_own_name() -> None:
    assert known_input("history", COVARIATES) is None
