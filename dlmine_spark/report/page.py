"""The page as a string: blocks, style, script and plotly's JavaScript in one file that asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from dlmine_spark.report.blocks import Chart, charts_of
from dlmine_spark.report.charts import THEME
from dlmine_spark.report.data import ReportData
from dlmine_spark.report.sections import all_sections


def render(report: ReportData) -> str:
    """The whole page.

    Whatever comes from data is escaped, by jinja in the text and by ``script_json`` inside scripts. A content-security
    policy in the page itself allows the page's own scripts by their hashes and no request to anywhere.
    """
    sections = all_sections(report)
    drawn = [chart for section in sections for chart in charts_of(section.blocks)]
    scripts = [_plotly_js() if drawn else "", _asset("page.js")]
    environment = Environment(
        loader=PackageLoader("dlmine_spark.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        report=report,
        sections=sections,
        figures=Markup(script_json({chart.id: _figure_json(chart) for chart in drawn})),
        theme=Markup(script_json(THEME)),
        style=Markup(_asset("page.css")),
        scripts=[Markup(script) for script in scripts],
        script_hashes=" ".join(f"'sha256-{_sha256(script)}'" for script in scripts),
    )


def script_json(value: Any) -> str:
    """JSON that is safe between script tags: no ``<`` can end the element or start a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in ("<", ">", "&", "\u2028", "\u2029"):
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _figure_json(chart: Chart) -> Any:
    return json.loads(chart.figure.to_json())


@cache
def _plotly_js() -> str:
    """The installed plotly's JavaScript, as it may stand inside a script element."""
    return re.sub(r"</(script)", r"<\\/\1", str(get_plotlyjs()), flags=re.IGNORECASE)


@cache
def _asset(name: str) -> str:
    return resources.files("dlmine_spark.report").joinpath("assets", name).read_text(encoding="utf-8")


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
