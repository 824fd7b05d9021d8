"""The page in headless Chromium, on a desk, a phone and paper: no error, no request, all drawn, filter and sorting."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from dlmine_spark.report.page import render
from tests.report.fake import NASTY, VICIOUS, fake_report

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

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
    path.write_text(render(fake_report(further=40)), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module", params=[(1280, 900, False), (390, 844, True)], ids=["desk", "phone"])
def chromium(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    binary = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("there is no Chromium with its driver: apt-get install chromium chromium-driver")
    width, height, is_phone = request.param
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    profile = tmp_path_factory.mktemp("profile")
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    if is_phone:
        metrics = {"width": width, "height": height, "pixelRatio": 2, "touch": True}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


@pytest.fixture
def browser(chromium: Any, page_url: str) -> Iterator[Any]:
    """The page, opened anew; whatever a test does with it, nothing goes wrong on it."""
    chromium.get(page_url)
    drawn = "return [...document.querySelectorAll('.chart')].every(chart => chart.querySelector('svg'))"
    WebDriverWait(chromium, 60).until(lambda _: chromium.execute_script(drawn))
    yield chromium
    assert chromium.get_log("browser") == []


def requests_of(browser: Any) -> list[str]:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]


def press(browser: Any, element: Any) -> None:
    browser.execute_script("arguments[0].click()", element)


def unfold_filter(browser: Any) -> None:
    browser.execute_script("document.getElementById('filter').open = true")


def test_the_page_draws_everything_and_asks_for_nothing(browser: Any, page_url: str) -> None:
    assert {url for url in requests_of(browser) if not url.startswith(OWN)} == {page_url}
    assert len(browser.find_elements(By.CSS_SELECTOR, ".chart")) == 24
    assert browser.execute_script("return window.hacked") is None
    assert browser.execute_script("return document.querySelectorAll('img, b, .chart a, .chart script').length") == 0
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    shown = browser.execute_script("return [...document.querySelectorAll('.node text')].map(t => t.textContent)")
    assert {text[:8] for text in shown} >= {NASTY[:8], VICIOUS[:8]}


def test_the_policy_stops_what_is_not_the_pages_own(browser: Any) -> None:
    script = """
      const done = arguments[0], stopped = [];
      document.addEventListener("securitypolicyviolation", event => stopped.push(event.effectiveDirective));
      const holder = document.createElement("div");
      holder.innerHTML = "<p style='color:red' onclick='1'>x</p><style>p{color:red}</style>";
      document.body.append(holder);
      const added = document.createElement("script");
      added.textContent = "window.hacked = 3";
      document.body.append(added);
      new Image().src = "file:///nowhere.png";
      setTimeout(() => done([[...new Set(stopped)].sort(), window.hacked ?? null]), 200);
    """
    stopped, hacked = browser.execute_async_script(script)
    assert stopped == ["img-src", "script-src-attr", "script-src-elem", "style-src-attr", "style-src-elem"]
    assert hacked is None
    assert len(browser.get_log("browser")) >= 5, "each is told, so that a page without a word has none"


def test_series_are_chosen_by_click_and_by_key(browser: Any) -> None:
    tabs = browser.find_elements(By.CSS_SELECTOR, "[role=tab]")
    assert [pane.is_displayed() for pane in browser.find_elements(By.CSS_SELECTOR, ".pane")] == [True] + [False] * 3
    press(browser, tabs[2])
    tabs[2].send_keys(Keys.ARROW_RIGHT)
    panes = browser.find_elements(By.CSS_SELECTOR, ".pane")
    assert [pane.is_displayed() for pane in panes] == [False] * 3 + [True]
    assert NASTY in panes[3].find_element(By.TAG_NAME, "h4").text
    chart = panes[3].find_element(By.CSS_SELECTOR, ".chart")
    drawing = chart.find_element(By.CSS_SELECTOR, ".plot svg")
    WebDriverWait(browser, 10).until(lambda _: abs(drawing_width(chart) - chart.size["width"]) <= 2)
    assert drawing is not None


def drawing_width(chart: Any) -> float:
    return float(chart.find_element(By.CSS_SELECTOR, ".plot svg").size["width"])


def test_the_rule_table_sorts_by_number_and_by_text_and_by_key(browser: Any) -> None:
    table = browser.find_element(By.CSS_SELECTOR, "#rules .sheet table.sortable")
    heads = table.find_elements(By.CSS_SELECTOR, "th button")

    def column(index: int) -> list[str]:
        script = "return [...arguments[0].tBodies[0].rows].map(row => row.cells[arguments[1]].textContent)"
        texts: list[str] = browser.execute_script(script, table, index)
        return texts

    heads[3].send_keys(Keys.ENTER)
    falling = [float(text.removesuffix(" %")) for text in column(3)]
    assert falling == sorted(falling, reverse=True)
    heads[3].send_keys(Keys.SPACE)
    rising = [float(text.removesuffix(" %")) for text in column(3)]
    assert rising == sorted(rising)
    press(browser, heads[1])
    assert column(1) == sorted(column(1))
    assert [head.find_element(By.XPATH, "..").get_attribute("aria-sort") for head in heads] == [
        None,
        "ascending",
        None,
        None,
        None,
    ]


def test_the_filter_narrows_lists_tables_and_charts(browser: Any) -> None:
    unfold_filter(browser)

    def left(selector: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].filter(e => !e.hidden).map(e => e.dataset.series)"
        names: list[str] = browser.execute_script(script, selector)
        return names

    def lit(selector: str) -> list[str]:
        script = (
            "return [...new Set([...document.querySelectorAll(arguments[0])]"
            ".filter(e => !e.classList.contains('off')).map(e => e.dataset.segment))].sort()"
        )
        segments: list[str] = browser.execute_script(script, selector)
        return segments

    segment = Select(browser.find_element(By.ID, "filter-segment"))
    segment.select_by_value("1")
    assert left(".lookup tbody tr") == ["store_23", *(f"store_{number:04d}" for number in range(41, 80, 4))]
    assert left("[role=tab]") == ["store_23"]
    assert browser.find_element(By.CSS_SELECTOR, ".pane:not([hidden]) h4").text == "store_23"
    assert lit("[data-chart=map-store] [data-segment]") == ["1"]
    assert lit("[data-chart=by-segment] [data-segment]") == ["1"]
    assert browser.find_element(By.ID, "filter-status").text == "11 of 44 series"

    browser.find_element(By.ID, "filter-series").send_keys("STORE_004")
    assert left(".lookup tbody tr") == ["store_0041", "store_0045", "store_0049"]
    assert left("[role=tab]") == []
    assert browser.find_element(By.CSS_SELECTOR, ".lookup figure h4").text == "store_0041, segment 1"
    assert browser.find_element(By.CSS_SELECTOR, ".tabs .none").is_displayed()

    browser.find_element(By.ID, "filter-clear").send_keys(Keys.ENTER)
    assert len(left(".lookup tbody tr")) == 44
    assert lit("[data-chart=map-store] [data-segment]") == ["0", "1", "2", "3"]


def test_any_series_is_looked_up_with_its_numbers(browser: Any) -> None:
    row = browser.find_element(By.CSS_SELECTOR, "tr[data-series=store_0052]")
    row.find_element(By.CSS_SELECTOR, "button").send_keys(Keys.ENTER)
    figure = browser.find_element(By.CSS_SELECTOR, ".lookup figure")
    assert figure.find_element(By.TAG_NAME, "h4").text == "store_0052, segment 0"
    press(browser, figure.find_element(By.TAG_NAME, "summary"))
    body = (
        "return [...document.querySelectorAll('.lookup figure tbody tr')]"
        ".map(row => [...row.cells].map(cell => cell.textContent))"
    )
    rows = WebDriverWait(browser, 10).until(lambda _: browser.execute_script(body))
    report = fake_report(further=40)
    actual = report.history[report.history["unique_id"] == "store_0052"].set_index("ds")["y"]
    assert len(rows) == len(actual) + 28
    assert rows[0][0] == str(actual.index[0])
    assert float(rows[0][1].replace(",", "")) == pytest.approx(actual.iloc[0], rel=1e-3)
    assert rows[-1][1] == "–"


def test_on_paper_every_series_is_there_and_the_filter_is_not(browser: Any) -> None:
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") + pdf.count(b"/Type /Page/") > 5
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert all(pane.is_displayed() for pane in browser.find_elements(By.CSS_SELECTOR, ".pane"))
    assert not browser.find_element(By.ID, "filter").is_displayed()
    background = "return getComputedStyle(document.body).backgroundColor"
    assert browser.execute_script(background) == "rgb(255, 255, 255)"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
