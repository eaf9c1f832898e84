"""A real browser goes through the pages, with the mouse and with the keyboard, light and dark."""

import importlib.util
import json
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import CHROMIUM, Page, browser
from served import PLAIN

AXE = importlib.util.find_spec("axe_playwright_python")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed here")
needs_axe = pytest.mark.skipif(AXE is None, reason="axe-playwright-python is not installed here")


@contextmanager
def opened(results, folder: Path):
    """Give a signed-in page of a real server, and its address."""
    server = subprocess.Popen(
        [sys.executable, "-m", "scanner", "serve", results.root, "--port", "0"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        link = server.stdout.readline().split()[1]
        base = link.partition("?")[0]
        with browser(folder) as page:
            page.resize(1200, 900)
            page.call("Page.navigate", url=link)
            page.until("!!document.querySelector('.scripted #part')")
            yield page, base
    finally:
        server.terminate()
        server.wait()


def typed(page: Page, text: str) -> None:
    page.call("Input.insertText", text=text)


@needs_chromium
def test_a_person_finds_a_caption_moves_a_threshold_and_marks_it(results, tmp_path):
    with opened(results, tmp_path) as (page, base):
        assert page.run("location.search") == ""  # no token stays in the address
        page.run("window.stays = true")
        page.press("/")
        typed(page, "script")
        page.until("document.querySelector('#count').textContent.startsWith('1–1 of 1')")
        assert page.run("location.search") == "?q=script&run=r2"
        page.press("Escape")
        page.press("j")
        page.press("m")
        assert page.until("document.querySelector('#mark').open")
        page.press("Escape")
        page.until("!document.querySelector('#mark').open")
        assert page.run("window.stays")  # the page was never loaded anew
        page.press("Enter")
        page.until("document.querySelectorAll('.slider:not([hidden])').length > 0")
        said = "document.querySelector('[data-values*=delta_h] output').textContent"
        before = page.until(said)
        assert str(before).startswith("above 40: ")
        page.run("document.querySelector('[data-values*=delta_h] input').focus()")
        page.press("ArrowRight")
        page.until(f"{said} !== {before!r}")
        page.click("[data-values*=delta_h] button")
        page.until(f"{said} === {before!r}")
        page.click("#mark-form input[value=licensed]")
        for name, text in (("reason", "we bought it"), ("name", "ann")):
            page.run(f"document.querySelector('#mark-form [name={name}]').focus()")
            typed(page, text)
        page.click("#mark-form button")
        page.until("document.querySelector('.history')?.textContent.includes('we bought it')")
        page.press("u")
        page.until("document.querySelector('.mark-licensed') !== null")
        page.visit(f"{base}sql", base)
        page.press("/")
        typed(page, "SELECT count(*) AS n FROM captions")
        page.call("Input.dispatchKeyEvent", type="rawKeyDown", key="Enter", modifiers=2)
        page.until("document.querySelector('.answer td')?.textContent === '9'")
        page.press("t")
        dark = page.run("document.documentElement.dataset.theme")
        page.visit(f"{base}compare", base)
        assert page.run("document.documentElement.dataset.theme") == dark
        assert [url for url in page.requests if not url.startswith((base, "data:"))] == []
        assert page.problems == []
    line = json.loads((Path(results.root) / "marks.jsonl").read_text())
    assert (line["mark"], line["reason"], line["name"]) == ("licensed", "we bought it", "ann")


@needs_chromium
@needs_axe
def test_axe_finds_nothing_serious_in_light_and_dark_wide_and_narrow(results, tmp_path):
    assert AXE is not None
    assert AXE.origin is not None
    script = (Path(AXE.origin).parent / "axe.min.js").read_text(encoding="utf-8")
    with opened(results, tmp_path) as (page, base):
        row = page.run("document.querySelector('tr[data-id]').dataset.id")
        paths = ["", f"caption?id={row}", "sql?sql=SELECT+1", "sql?sql=x", "compare?a=r1&b=r2",
                 "rejects", f"?q={PLAIN[0][:5]}&mark=false", "?match=maybe"]  # fmt: skip
        found = {}
        for path in paths:
            page.visit(base + path, base)
            page.run(script)
            for dark, width in ((False, 1200), (True, 1200), (True, 390)):
                page.resize(width, 900, dark=dark)
                time.sleep(0.3)  # colours have changed
                ran = page.run(
                    "axe.run({resultTypes: ['violations']}).then((r) => r.violations.filter("
                    "(v) => ['serious', 'critical'].includes(v.impact)).map("
                    "(v) => [v.id, v.nodes.slice(0, 3).map((n) => n.html)]))"
                )
                narrow = page.run("document.documentElement.scrollWidth <= innerWidth")
                if ran or not narrow:
                    found[path, dark, width] = ran, narrow
        assert found == {}
