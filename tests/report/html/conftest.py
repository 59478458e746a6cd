"""Pages in headless Chromium, offline, driven by Selenium; results with stages and raw steps."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from freezekit.results.records import Raw, Result, Row, StageFigures

if TYPE_CHECKING:
    from pathlib import Path

    from selenium.webdriver.chrome.webdriver import WebDriver

MakeResult = Callable[..., Result]

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
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
GET_IT = "get both with `apt-get install chromium chromium-driver`"
STAGES = (("stem", "stem", 9_408), ("layer1", "body", 147_968), ("layer4", "body", 8_393_728))


def stages(trainable_from: int) -> tuple[StageFigures, ...]:
    """Return three stages and a head, frozen up to one of them, the second in part."""
    known = (*STAGES, ("head", "head", 513_000))
    return tuple(
        StageFigures(
            name,
            kind,
            parameters=count,
            trainable=count if at >= trainable_from else count // 2 if at == 1 else 0,
            modules=10,
            held_in_eval=0 if at >= trainable_from else 2 if at == 1 else 10,
            forward_flops=10**9 * (at + 1),
        )
        for at, (name, kind, count) in enumerate(known)
    )


def raw_steps(labels: list[str], blocks: int = 5, rounds: int = 2) -> Raw:
    """Return raw steps that drift: each block is slower than the one before."""
    turns = {
        label: [0.1 * (at + 1) * part for part in (1.2, 1.0, 1.01)]
        for at, label in enumerate(labels)
    }

    def slower(block: int) -> dict[str, list[float]]:
        return {label: [s * (1 + 0.02 * block) for s in steps] for label, steps in turns.items()}

    return Raw(
        order=[[list(labels)] * rounds for _ in range(blocks)],
        steps=[[slower(block)] * rounds for block in range(blocks)],
        warmup=[slower(block) for block in range(blocks)],
    )


@pytest.fixture
def make_whole(make_result: MakeResult) -> MakeResult:
    """Return a maker of results with all that the report shows: stages and raw steps too."""

    def make(**fields: Any) -> Result:  # Any: whatever Result takes
        result = make_result(**fields)
        rows = [
            row if row.status != "ok" else replace(row, stages=stages(at % 4))
            for at, row in enumerate(result.rows)
        ]
        timed = [row.label for row in rows if row.time]
        raw = raw_steps([*timed, "control"]) if timed else None
        return replace(result, rows=tuple(rows), raw=fields.get("raw", raw))

    return make


@pytest.fixture
def nasty() -> Row:
    """Return a failed row whose every text tries to be more than text."""
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}\u2028"
    return Row(f"by-name:contains='{evil}'", status="error", error=evil, warnings=(evil,))


@dataclass
class Opened:
    """A page in the browser.

    Attributes:
        browser: To look into it.
        charts: How many charts the page has.
        drawn: How many were drawn.
        console: What the console shows.
    """

    browser: WebDriver
    charts: int
    drawn: int
    console: list[str]

    def ask(self, script: str, *args: object) -> Any:  # Any: what the script returns
        return self.browser.execute_script(script, *args)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    """Start a browser with a profile of its own, cut off from any network."""
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        missing = "Chromium" if program is None else "chromedriver"
        pytest.skip(f"there is no {missing} here; {GET_IT}")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    try:
        nothing = {"latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        opened.execute_cdp_cmd("Network.enable", {})
        opened.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": True, **nothing})
        yield opened
    finally:
        opened.quit()


@pytest.fixture
def open_page(chromium: WebDriver, tmp_path: Path) -> Callable[..., Opened]:
    """Return a function that opens a page's text and waits until its charts are drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    def open_it(text: str, *, width: int = 1280, scheme: str = "light") -> Opened:
        page = tmp_path / "report.html"
        page.write_text(text, encoding="utf-8")
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
        chromium.get(page.as_uri())
        drawn = "return document.documentElement.dataset.drawn"
        charts = chromium.execute_script("return document.querySelectorAll('.chart').length")
        if charts:
            WebDriverWait(chromium, 60).until(lambda browser: browser.execute_script(drawn))
        log = [f"{line['level']}: {line['message']}" for line in chromium.get_log("browser")]
        return Opened(chromium, charts, int(chromium.execute_script(drawn) or 0), log)

    return open_it
