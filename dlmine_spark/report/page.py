"""The page as a string: blocks, style and scripts in one file that asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dlmine_spark.report.blocks import Lookup, charts_of
from dlmine_spark.report.data import ReportData
from dlmine_spark.report.sections import all_sections, store_segments


def render(report: ReportData) -> str:
    """The whole page.

    Whatever comes from data is escaped, by jinja in the text and by ``script_json`` inside scripts; the scripts put it
    into text nodes and attributes only. A content-security policy in the page itself allows the page's own style and
    scripts by their hashes, no other ones, and no request to anywhere.
    """
    sections = all_sections(report)
    drawn = [chart for section in sections for chart in charts_of(section.blocks)]
    packed = [block.packed for section in sections for block in section.blocks if isinstance(block, Lookup)]
    style, scripts = _asset("page.css"), [_asset("charts.js"), _asset("page.js")]
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
        segments=store_segments(report),
        has_series=bool(packed),
        figures=Markup(script_json({chart.id: chart.figure for chart in drawn})),
        packed=Markup(script_json(packed[0] if packed else None)),
        style=Markup(style),
        style_hash=_hash(style),
        scripts=[Markup(script) for script in scripts],
        script_hashes=" ".join(_hash(script) for script in scripts),
    )


def script_json(value: Any) -> str:
    """JSON that is safe between script tags: no ``<`` can end the element or start a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in ("<", ">", "&", "\u2028", "\u2029"):
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@cache
def _asset(name: str) -> str:
    return resources.files("dlmine_spark.report").joinpath("assets", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What a content-security policy calls a text by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
