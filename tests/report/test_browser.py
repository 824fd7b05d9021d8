"""The page in headless Chromium: no error, no request, every chart drawn, tables that sort, on a desk and a phone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dlmine_spark.report.page import render
from tests.report.fake import NASTY, fake_report

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

pytestmark = pytest.mark.browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
OWN = ("data:", "blob:", "chrome:", "chrome-untrusted:")
"""Addresses within the page or the browser itself (its start page)."""


@pytest.fixture(scope="module")
def page_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(render(fake_report()), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(params=[(1280, 900, False), (390, 844, True)], ids=["desk", "phone"])
def browser(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    binary = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("there is no Chromium with its driver: apt-get install chromium chromium-driver")
    width, height, is_phone = request.param
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    if is_phone:
        metrics = {"width": width, "height": height, "pixelRatio": 2, "touch": True}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


def open_page(browser: Any, url: str) -> None:
    browser.get(url)
    drawn = "return [...document.querySelectorAll('.chart')].every(chart => chart.querySelector('.main-svg'))"
    WebDriverWait(browser, 60).until(lambda _: browser.execute_script(drawn))


def requests_of(browser: Any) -> list[str]:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]


def test_the_page_draws_everything_and_asks_for_nothing(browser: Any, page_url: str) -> None:
    open_page(browser, page_url)
    assert browser.get_log("browser") == []
    assert [url for url in requests_of(browser) if not url.startswith(OWN)] == [page_url]
    assert len(browser.find_elements(By.CSS_SELECTOR, ".chart")) == 18
    assert browser.execute_script("return window.hacked") is None
    assert (
        browser.execute_script("return document.querySelectorAll('img, .chart a, .chart tspan[style*=bold]').length")
        == 0
    )
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_series_are_chosen_by_click_and_by_key(browser: Any, page_url: str) -> None:
    open_page(browser, page_url)
    tabs = browser.find_elements(By.CSS_SELECTOR, "[role=tab]")
    assert [pane.is_displayed() for pane in browser.find_elements(By.CSS_SELECTOR, ".pane")] == [True] + [False] * 3
    browser.execute_script("arguments[0].click()", tabs[2])
    tabs[2].send_keys(Keys.ARROW_RIGHT)
    panes = browser.find_elements(By.CSS_SELECTOR, ".pane")
    assert [pane.is_displayed() for pane in panes] == [False] * 3 + [True]
    assert NASTY in panes[3].find_element(By.TAG_NAME, "h4").text
    chart = panes[3].find_element(By.CSS_SELECTOR, ".chart")
    assert chart.find_element(By.CSS_SELECTOR, ".main-svg").size["width"] == pytest.approx(chart.size["width"], abs=2)
    assert browser.get_log("browser") == []


def test_the_rule_table_sorts_by_number_and_by_text(browser: Any, page_url: str) -> None:
    open_page(browser, page_url)
    table = browser.find_element(By.CSS_SELECTOR, "#rules table.sortable")
    heads = table.find_elements(By.CSS_SELECTOR, "th button")

    def column(index: int) -> list[str]:
        script = "return [...arguments[0].tBodies[0].rows].map(row => row.cells[arguments[1]].textContent)"
        texts: list[str] = browser.execute_script(script, table, index)
        return texts

    def click(index: int) -> None:
        browser.execute_script("arguments[0].click()", heads[index])

    click(3)
    falling = [float(text.removesuffix(" %")) for text in column(3)]
    assert falling == sorted(falling, reverse=True)
    click(3)
    rising = [float(text.removesuffix(" %")) for text in column(3)]
    assert rising == sorted(rising)
    click(1)
    assert column(1) == sorted(column(1))
    assert [head.find_element(By.XPATH, "..").get_attribute("aria-sort") for head in heads] == [
        None,
        "ascending",
        None,
        None,
        None,
    ]
