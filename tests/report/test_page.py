"""The page as text: nothing leaves it, nothing breaks out of it, and a missing stage leaves a sentence."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from html.parser import HTMLParser

import pandas as pd
import pytest

from dlmine_spark.report.blocks import Note, charts_of
from dlmine_spark.report.data import ReportData, Truth
from dlmine_spark.report.page import render, script_json
from dlmine_spark.report.sections import all_sections, tuning_sentences, winner_sentence
from dlmine_spark.report.series import pack
from tests.report.fake import NASTY, VICIOUS, fake_report

EMPTY = ReportData(title="Nothing yet", created=datetime(2024, 7, 1, tzinfo=UTC))


class Outline(HTMLParser):
    """Elements with their attributes, the text of headings, and the scripts."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.texts: list[str] = []
        self._in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in_script = tag in ("script", "style")
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script and self.elements[-1][0] == "script":
            self.scripts[-1] += data
        elif not self._in_script:
            self.texts.append(data)


@pytest.fixture(scope="module")
def page() -> str:
    return render(fake_report())


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    parsed = Outline()
    parsed.feed(page)
    return parsed


def test_nothing_is_fetched(outline: Outline) -> None:
    for tag, attributes in outline.elements:
        for name in ("src", "href", "action", "data", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, attributes)


def test_the_policy_names_every_script_the_style_and_no_address(page: str, outline: Outline) -> None:
    policy = next(a["content"] for tag, a in outline.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "unsafe" not in policy
    assert all("style" not in attributes for _, attributes in outline.elements), "the policy forbids them"
    kinds = [attributes for tag, attributes in outline.elements if tag == "script"]
    for attributes, script in zip(kinds, outline.scripts, strict=True):
        if "type" not in attributes:
            digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy
    style = page.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}';" in policy


def test_names_from_data_stay_text(page: str, outline: Outline) -> None:
    assert "<img" not in page
    assert "<!--" not in page
    assert "*{display:none}</style>" not in page
    assert not any(tag in ("img", "b") for tag, _ in outline.elements)
    assert len([tag for tag, _ in outline.elements if tag == "script"]) == 4
    for name in (NASTY, VICIOUS):
        assert any(name in text for text in outline.texts)


def test_sequences_read_as_one_basket_after_another(outline: Outline) -> None:
    text = " ".join(outline.texts)
    assert f"razors, then shaving foam + {NASTY}" in text
    assert "flour, then sugar, then flour" in text


def test_names_from_data_reach_the_scripts_whole_and_harmless(outline: Outline) -> None:
    figures, packed = outline.scripts[:2]
    for text in (figures, packed):
        assert not set("<>&\u2028\u2029") & set(text)
    tips = [point["tip"] for point in json.loads(figures)["rule-cloud"]["points"]]
    assert any(tip.startswith(f"{NASTY} → ") for tip in tips)
    assert any(tip.startswith(f"{VICIOUS} → ") for tip in tips)
    assert VICIOUS in json.loads(figures)["by-part"]["segments"]
    assert NASTY in [one["id"] for one in json.loads(packed)["series"]]


def test_json_in_a_script_cannot_end_it() -> None:
    dangerous = {"a": "</script><!--", "b": "\u2028&", "</SCRIPT": ["]]>"]}
    text = script_json(dangerous)
    assert "<" not in text
    assert "\u2028" not in text
    assert json.loads(text) == dangerous


def test_every_chart_has_its_figure_and_its_caption(outline: Outline) -> None:
    figures = json.loads(outline.scripts[0])
    charts = [a for _, a in outline.elements if "data-chart" in a]
    assert [a["data-chart"] for a in charts] == list(figures)
    assert len(charts) == len({a["data-chart"] for a in charts}) == 23
    assert all(a["aria-label"] for a in charts)


def test_every_chart_has_its_numbers_in_a_table() -> None:
    charts = [chart for section in all_sections(fake_report()) for chart in charts_of(section.blocks)]
    assert [chart.id for chart in charts if chart.table is None or not chart.table.rows] == []


def test_navigation_leads_to_every_section(outline: Outline) -> None:
    sections = [a["id"] for tag, a in outline.elements if tag == "section"]
    links = [a["href"] for tag, a in outline.elements if tag == "a"]
    assert sections == [
        "summary",
        "quality",
        "segments",
        "rules",
        "forecasts",
        "accuracy",
        "mining",
        "tuning",
        "drivers",
        "run",
    ]
    assert {f"#{section}" for section in sections} <= set(links)


def test_rows_say_what_the_filter_goes_by(outline: Outline) -> None:
    rows = [a for tag, a in outline.elements if tag == "tr" and a]
    listed = [row for row in rows if row.get("data-series", "").startswith("store_004")]
    assert {"data-segment": "1", "data-series": "store_0041"} in listed
    options = [a["value"] for tag, a in outline.elements if tag == "option"]
    assert options == ["", "0", "1", "2", "3"]
    customers = [a for tag, a in outline.elements if "customer" in a.get("data-series", "")]
    assert customers == [], "their segments have the same numbers as those of series and are others"


def test_series_that_do_not_fit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    report = fake_report(further=300)
    monkeypatch.setattr("dlmine_spark.report.sections.pack", partial(pack, most_bytes=100_000))
    page = render(report)
    fitting = page.count('class="pick"')
    assert 4 < fitting < 100
    assert f"{fitting} of 304 series are here, spread evenly" in page


def test_an_empty_lakehouse_gives_a_page_that_says_so() -> None:
    page = render(replace(EMPTY, absent={"rules": "Empty, since there are no baskets."}))
    assert "Empty, since there are no baskets." in page
    for sentence in ("No source was cleaned", "Nothing was segmented", "Nothing was forecast", "There was no backtest"):
        assert sentence in page
    assert len(page) < 80_000
    assert 'id="filter"' not in page


def test_where_no_rule_is_kept_the_page_says_what_was_mined() -> None:
    page = render(replace(EMPTY, mining_note="9 itemsets and 5 rules; 5 insignificant ones marked, 0 kept"))
    assert "No rule is worth showing. Mining: 9 itemsets and 5 rules; 5 insignificant ones marked, 0 kept" in page


@pytest.mark.parametrize(
    "missing",
    [
        "sources",
        "repairs",
        "profiles",
        "members",
        "rules",
        "rule_cloud",
        "map_entities",
        "map_centres",
        "quality_runs",
        "itemsets",
        "history",
        "forecasts",
        "metrics",
        "wape_by_step",
        "wape_by_segment",
        "wape_by_part",
        "coverage",
        "effects",
        "importance",
        "error_patterns",
        "surrogates",
        "runs",
        "rejections",
        "set_aside",
        "repair_examples",
    ],
)
def test_any_single_stage_may_be_missing(missing: str) -> None:
    sections = all_sections(replace(fake_report(), **{missing: pd.DataFrame()}))
    assert [section.id for section in sections][-1] == "run"


def test_rules_that_imitate_the_network_say_how_far_they_may_be_believed() -> None:
    def told(report: ReportData) -> str:
        drivers = next(section for section in all_sections(report) if section.id == "drivers")
        return next(
            block.text for block in drivers.blocks if isinstance(block, Note) and "imitate the network" in block.text
        )

    assert told(fake_report()) == (
        "2 rules that imitate the network. They account for 67.0 % of what its forecasts vary by (R2). 81.0 % of the "
        "forecasts lie within a tenth of what the rule says. All figures are of forecasts that the rules were not made "
        "from."
    )
    # Nothing is said of what is not known, and worse than the mean is no share.
    assert "account for" not in told(replace(fake_report(), surrogate_scores={"within_a_tenth": 0.5}))
    assert "account for 0 %" in told(replace(fake_report(), surrogate_scores={"r2": -0.4}))


def test_the_winner_is_named_with_its_margin() -> None:
    assert winner_sentence(fake_report()) == (
        "The LSTM forecast best: WAPE 8.1 %, against 9.3 % for ARIMA and 12.8 % for seasonal naive. "
        "Its lead over ARIMA is beyond chance (p < 0.001). "
        "No forecast could be expected below 6.6 %: the rest is chance."
    )


def test_a_lead_that_may_be_chance_is_said_to_be_so() -> None:
    comparisons = fake_report().comparisons.assign(p_value=0.21)
    assert "Its lead over ARIMA may be chance (p = 0.210)." in winner_sentence(
        replace(fake_report(), comparisons=comparisons)
    )
    single_date = fake_report().comparisons.assign(p_value=None)
    assert "chance (" not in winner_sentence(replace(fake_report(), comparisons=single_date))


def test_a_network_that_lost_is_said_to_have_lost() -> None:
    metrics = pd.DataFrame([("lstm", "wape", 0.11), ("arima", "wape", 0.1)], columns=["model", "metric", "value"])
    report = replace(fake_report(), metrics=metrics, comparisons=pd.DataFrame(), truth=Truth())
    assert winner_sentence(report) == (
        "ARIMA forecast best: WAPE 10.0 %, against 11.0 % for the LSTM. "
        "The LSTM did not win here: its error is 10.0 % larger."
    )
    # A blend's lead is no defeat of what it is a mean of.
    with_blend = pd.concat([metrics, metrics.head(1).assign(model="blend", value=0.09)])
    assert winner_sentence(replace(report, metrics=with_blend)) == (
        "The blend of all forecast best: WAPE 9.0 %, against 10.0 % for ARIMA and 11.0 % for the LSTM."
    )


def test_what_mining_adds_is_said_in_words_whether_it_helps_or_not(outline: Outline) -> None:
    text = " ".join(outline.texts)
    assert (
        "Without segments, the error changes by +0.37 pp, from 8.1 % (95 % range +0.12 pp to +0.62 pp): worse beyond "
        "chance, so it helps." in text
    )
    assert "Without ARIMA's forecasts, the error changes by +0.05 pp, from 8.1 % (95 % range -0.11 pp" in text
    assert "no difference beyond chance." in text
    assert "Without the pull of rules, the error changes by -0.13 pp" in text
    assert "better beyond chance, so it does harm here." in text
    assert "nobody can tell whether that is chance." in text
    assert "from 3 random starts, for 2 dates to forecast from." in text
    assert "run dlmine backtest --ablation" in render(EMPTY)


def test_what_tuning_brought_is_said_in_words_and_as_sure_as_it_is(outline: Outline) -> None:
    text = " ".join(outline.texts)
    assert "4 networks with different settings were trained" in text
    assert "2 to the end, 1 stopped early for being worse than others, 1 without success." in text
    assert "Trial 1 was the best, with a WAPE of 8.1 % on these windows; the configured settings have 8.4 %." in text
    assert "8.1 % as configured and 8.1 % with the best settings, by 2 random starts each (95 % range of" in text
    assert "+0.21 pp): no difference beyond chance." in text
    assert "run dlmine tune" in render(EMPTY)

    report = fake_report()
    trials, effect = report.trials, report.tuning_effect

    def told(**changes: pd.DataFrame) -> str:
        return " ".join(tuning_sentences(replace(report, **changes)))

    assert "better beyond chance." in told(tuning_effect=effect.assign(lo_95=0.001))
    assert "worse beyond chance, so better left as they are." in told(tuning_effect=effect.assign(hi_95=-0.001))
    assert "nobody can tell" in told(tuning_effect=effect.assign(lo_95=None, hi_95=None))
    assert "Nothing was better than the configured settings: WAPE 8.4 %" in told(trials=trials[trials["number"] != 1])
    assert "the configured settings could not be trained" in told(
        trials=trials.assign(state=["failed", *["complete"] * 3])
    )
    assert told(trials=trials.assign(state="failed")) == "No network could be trained to the end."


def test_when_the_forecast_is_far_off_is_said_in_words(outline: Outline) -> None:
    text = " ".join(outline.texts)
    assert (
        "When promo = 1 and segment = 3, 41.0 % of 112 forecasts were among the largest tenth of errors, the forecast "
        "much too high: 4.1 times as often as usual." in text
    )
    assert f"region = {NASTY}" in text


def test_counts_on_the_page_add_up(outline: Outline) -> None:
    sources = fake_report().sources
    assert (sources["rows_in"] == sources[["accepted", "quarantined", "duplicates", "superseded"]].sum(axis=1)).all()
    shown = re.sub(r"\s+", " ", " ".join(outline.texts))
    assert "214,332" in shown
    assert "250,912" in shown
