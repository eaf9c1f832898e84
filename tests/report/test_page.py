import json
import re
import time
import xml.etree.ElementTree as ET
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from browser import CHROMIUM, browser
from made_results import commit, jpeg, mask, record, score
from markupsafe import escape

from scanner.analysis.evidence import picture
from scanner.analysis.findings import Finding, cutoff_of, findings
from scanner.analysis.query import connect
from scanner.report.canvas import overlay
from scanner.report.histogram import as_svg, histogram
from scanner.report.items import RowMark, item
from scanner.report.page import PageOptions, Remarks, page
from scanner.report.thumbnails import gallery
from scanner.statistics.calibration import Calibration
from scanner.text import printable

HOSTILE = [
    "<script>document.title='pwned'</script>",
    "</script><img src=x onerror=\"document.title='pwned'\">",
    "\"quotes\" & 'more' <b>bold</b>",
    "\u202eright to left\u2066 and \x00\x1b[31m controls",
    "<!--<script>",
    "javascript:alert(1) \U0001f469\u200d\U0001f680 \u6f22\u5b57",
    "sixty-four KiB " * 4400,
    "two\nlines\r\n\tand a tab",
]
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed here")
PATTERN = np.where(np.arange(64).reshape(8, 8) < 32, 5.0, -1.0)


@pytest.fixture
def hostile(make):
    results = make()
    scores = [
        score(text, 10.0 + n, key=f"<i>k{n}</i>", flagged=True, p_value=0.01, stage="localize")
        for n, text in enumerate(HOSTILE)
    ]
    maps = [
        mask(text, PATTERN, threshold=1.0, image=jpeg(), key=f"<i>k{n}</i>")
        for n, text in enumerate(HOSTILE)
    ]
    commit(results, "r1", [*scores, score("clear", 0.5, flagged=False, p_value=0.7)], maps)
    return results


def training(shard, keys):
    return ((key, jpeg(64)) for key in sorted(keys))


def items_of(html):
    block = re.search(r'<script type="application/json" id="items">(.*?)</script>', html, re.S)
    assert block
    return json.loads(block[1])


def test_a_page_holds_every_finding_and_runs_no_script_but_its_own(hostile):
    html = page(hostile, "r1", PageOptions(images=training))
    assert len(items_of(html)) == len(HOSTILE)
    assert all(item["i"] for item in items_of(html))
    assert "pwned'</" not in html
    assert "<i>k" not in html
    assert html.count("<script") == 2 + len(HOSTILE)
    assert not re.search(r"[\u202a-\u202e\u2066-\u2069\x00\x1b]", html)
    assert "script-src 'sha256-" in html
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", html)
    assert max(len(item["c"]) for item in items_of(html)) <= 2000


@pytest.mark.parametrize("text", HOSTILE[:5])
def test_whatever_an_audit_adds_is_escaped(hostile, text):
    remarks = Remarks(notes=[text], facts=[(text, text)], date=text)
    html = page(hostile, "r1", PageOptions(title=text, redact=True), remarks=remarks)
    root = re.sub(r"<(script|style).*?</\1>", "", html, flags=re.S)
    assert not re.search("<(script|img|b)[ >]", root)
    assert root.count(escape(printable(text))) >= 6
    assert not re.search(r"[\u202a-\u202e\u2066-\u2069\x00\x1b]", html)


def test_a_page_without_pictures_and_captions_has_neither(hostile):
    html = page(hostile, "r1", PageOptions(redact=True))
    assert "data:image" not in html
    assert [item["c"] for item in items_of(html)] == [None] * len(HOSTILE)
    assert "left out on request" in html


def test_pictures_end_at_the_cap_and_the_page_says_so(hostile):
    with closing(connect(hostile, runs=["r1"])) as con:
        found = findings(con)
        whole = gallery(con, found, training, cap=10**9, most_shards=9)
        least = gallery(con, found, training, cap=1500, most_shards=9)
    assert (whole.side, whole.left_out, len(whole.illustrations)) == (448, 0, len(HOSTILE))
    assert list(least.illustrations) == [
        f.caption_sha256 for f in found[: len(least.illustrations)]
    ]
    assert sum(one.num_bytes for one in least.illustrations.values()) <= 1500
    assert 0 < len(least.illustrations) < len(found)
    assert least.left_out == len(found) - len(least.illustrations)
    html = page(hostile, "r1", PageOptions(images=training, image_cap=1500))
    assert f"last {least.left_out} findings are left out" in html


def test_pictures_become_smaller_before_any_is_left_out(make):
    results = make()
    large = [jpeg(640, level) for level in range(6)]
    scores = [score(f"c{n}", 10.0 + n, flagged=True, stage="localize") for n in range(6)]
    maps = [mask(f"c{n}", PATTERN, image=large[n]) for n in range(6)]
    commit(results, "r1", scores, maps)
    with closing(connect(results, runs=["r1"])) as con:
        found = findings(con)
        whole = gallery(con, found, training, cap=10**9, most_shards=9)
        half = sum(one.num_bytes for one in whole.illustrations.values()) // 2
        fitted = gallery(con, found, training, cap=half, most_shards=9)
    assert fitted.side < whole.side == 448
    assert fitted.left_out == 0
    html = page(results, "r1", PageOptions(images=training, image_cap=half))
    assert f"Pictures are at most {fitted.side} pixels wide" in html


def test_the_page_compares_with_the_null_captions(hostile):
    null = Calibration("m", "s", (0.2, 0.3, 0.4), {}, 0.01, 3, "")
    html = page(hostile, "r1", PageOptions(calibration=null))
    assert html.count("3 null captions (calibration)</text>") == 2
    assert "null captions" not in page(hostile, "r1", PageOptions())


@needs_chromium
def test_p_values_of_the_tail_model_are_marked(make, window, tmp_path):
    results, kinds = make(), {"far": ("tail", 1e-5), "near": ("conformal", 0.002)}
    commit(results, "r1", [
        score(text, 9.0, flagged=True, p_value=p, p_kind=kind) for text, (kind, p) in kinds.items()
    ])  # fmt: skip
    shown_in(window, page(results, "r1", PageOptions()), tmp_path)
    said = window.run("[...document.querySelectorAll('.card')].map(e => e.textContent)")
    assert {("far" in text, "(tail model)" in text) for text in said} == {
        (True, True),
        (False, False),
    }


def test_shards_beyond_the_limit_are_not_opened(hostile):
    with closing(connect(hostile, runs=["r1"])) as con:
        made = gallery(con, findings(con), training, cap=10**9, most_shards=0)
    assert made.unread == 1
    assert not any(one.training for one in made.illustrations.values())


def test_findings_come_worst_first_a_proven_copy_before_a_score(make):
    results = make()
    shown = mask("copied", PATTERN, threshold=1.0)
    shown = type(shown)(**{**{n: getattr(shown, n) for n in shown.__slots__}, "match": "template"})
    commit(
        results,
        "r1",
        [
            score("copied", 2.0, flagged=True, p_value=0.02, stage="localize"),
            score("higher", 9.0, flagged=True, p_value=0.01),
            score("copied", 2.0, flagged=True, p_value=0.02, key="again"),
            score("clear", 0.1, flagged=False, p_value=0.5),
        ],
        [shown],
    )
    with closing(connect(results, runs=["r1"])) as con:
        found = findings(con)
    assert [(f.caption, f.copies, f.match) for f in found] == [
        ("copied", 2, "template"),
        ("higher", 1, None),
    ]
    assert found[0].key == "copied"


@pytest.mark.parametrize("doubt", [None, 0.25])
def test_the_doubt_of_a_mask_is_among_the_evidence_where_it_is_known(make, doubt):
    results, shown = make(), replace(mask("copied", PATTERN, threshold=1.0), mask_doubt=doubt)
    rows = [score("copied", 2.0, flagged=True, p_value=0.02, stage="localize")]
    commit(results, "r1", rows, [replace(shown, outside_doubt=doubt and 0.01)])
    with closing(connect(results, runs=["r1"])) as con:
        (found,) = findings(con)
    rows = item(found, None, "", redact=False).get("x", [])
    told = ["mask's pixels in doubt", "25% of the mask, 1% of the rest"]
    assert (told in rows) == (doubt is not None)


def test_flags_by_false_discovery_rate_replace_the_scans(hostile):
    with closing(connect(hostile, runs=["r1"])) as con:
        assert cutoff_of(con) is None
    with closing(connect(hostile, runs=["r1"], fdr=0.012)) as con:
        assert cutoff_of(con) == (0.012, 0.01)
        assert len(findings(con)) == len(HOSTILE)
    with closing(connect(hostile, runs=["r1"], fdr=0.001)) as con:
        assert cutoff_of(con) == (0.001, -1)
        assert findings(con) == []
    assert "no caption passes" in page(hostile, "r1", PageOptions(fdr=0.001))


def test_no_bin_straddles_the_threshold(make):
    results = make()
    levels = np.geomspace(0.1, 1000, 200)
    rows = [score(f"c{i}", float(x), flagged=bool(x > 3.3)) for i, x in enumerate(levels)]
    commit(results, "r1", rows)
    with closing(connect(results, runs=["r1"])) as con:
        found = histogram(con, 3.3)
    assert found
    assert not ((found.clear > 0) & (found.flagged > 0)).any()
    assert found.clear.sum() + found.flagged.sum() == 200
    assert found.flagged.sum() == (levels > 3.3).sum()


def test_captions_unlike_the_null_captions_have_a_section(make):
    results = make(runs=())
    usual = [
        score(f"a man number {n}", 1.0, key=f"u{n:03d}", novelty=(n + 0.5) / 95, flagged=False)
        for n in range(95)
    ]
    plain = [
        score(f"a plain <b>{n}</b>", 9.0, key=f"p{n}", novelty=0.001, flagged=True, p_value=0.01)
        for n in range(25)
    ]
    results.write_run("r1", {**record(), "null_captions": 500})
    commit(results, "r1", [*usual, *plain])
    html = page(results, "r1", PageOptions())
    assert '<h2 id="h-unlike">Captions unlike the null captions</h2>' in html
    assert "Warning: 30 of 120 captions (25.0%) are unlike the null captions" in html
    assert "Of 25 flagged captions 25 are among them" in html
    assert re.search(r"<th scope=row>b plain</th><td>25</td><td>25</td>", html)
    redacted = page(results, "r1", PageOptions(redact=True))
    assert "<th scope=row>withheld</th><td>25</td>" in redacted
    assert "h-unlike" not in page(make("old"), "r1", PageOptions())


@pytest.mark.parametrize("levels", [[0.02, 3.5, 8e6], [4.1, 4.2, 4.3], [-3.0, 0.0, 7.0], [2.0]])
def test_the_histogram_has_its_numbers_and_the_colours_of_the_page(make, levels):
    results = make()
    rows = [score(f"c{i}", x, flagged=x > 4.2) for i, x in enumerate(levels)]
    commit(results, "r1", rows)
    with closing(connect(results, runs=["r1"])) as con:
        found = histogram(con, 4.2)
    assert found
    drawn = as_svg(found, (420, 280))
    assert drawn == as_svg(found, (420, 280))
    assert len(drawn) < 9000
    assert not re.search("#[0-9a-f]{6}", drawn)
    texts = [e.text for e in ET.fromstring(drawn).findall(".//{*}text")]
    assert {"clear", "flagged", "threshold 4.2", "0", "1"} <= set(texts)
    assert len(texts) > 5, "the scores have ticks"
    assert f"{len(levels)} captions by score" in str(found)


def test_an_overlay_is_clear_at_zero():
    image = overlay(np.array([[0.0, -4.0, 9.0]]), 9.0)
    assert picture(image) is not None
    from io import BytesIO

    from PIL import Image

    alpha = np.asarray(Image.open(BytesIO(image)).convert("RGBA"))[0, :, 3]
    assert alpha[0] == alpha[1] == 0
    assert alpha[2] > 200


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("chromium")) as page:
        page.resize(1440, 900)
        yield page


def shown_in(window, html, folder):
    """Open a page and check on the way that it asks for nothing and complains of nothing."""
    target = folder / "report.html"
    target.write_text(html, encoding="utf-8")
    window.requests.clear()
    window.problems.clear()
    window.open(target)
    assert [url for url in window.requests if not url.startswith("data:")] == [target.as_uri()]
    assert window.problems == []
    return target


def until(holds):
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def captions_in(window):
    return window.run("[...document.querySelectorAll('.card .caption')].map(e => e.textContent)")


@needs_chromium
def test_no_hostile_caption_runs_or_breaks_out(hostile, window, tmp_path):
    shown_in(window, page(hostile, "r1", PageOptions(images=training)), tmp_path)
    assert window.run("document.title") == "FOUND: Memorization report"
    assert sorted(captions_in(window)) == sorted(printable(text)[:300] for text in HOSTILE)
    pictures = "document.querySelectorAll('.card img[alt=\"training image\"]').length"
    until(lambda: window.run(pictures) == len(HOSTILE))  # a card waits for what is still read
    assert window.run("document.querySelectorAll('a[href]:not([href^=\"#\"])').length") == 0
    window.choose("#q", "javascript:")
    assert len(captions_in(window)) == 1
    window.click(".card .caption")
    assert "javascript:alert(1)" in window.run("document.getElementById('d-caption').textContent")
    for wide, dark in ((1440, False), (390, True)):
        window.resize(wide, 844, dark=dark)
        assert window.run("document.documentElement.scrollWidth") <= wide
    colour = window.run("getComputedStyle(document.body).backgroundColor")
    assert colour == "rgb(19, 21, 24)"
    window.resize(1440, 900)
    assert window.problems == []


@pytest.fixture
def sixty(make):
    """Sixty findings of three kinds on two shards and two sites, a third of them new or muted."""
    results, marks = make(), {}
    for shard in ("a.tar", "b.tar"):
        scores, maps = [], []
        for n in range(30):
            text = f"caption {n:02d} of {shard[0]}"
            level = 50.0 + n + (shard == "a.tar") / 2
            row = score(text, level, shard=shard, flagged=True, p_value=0.001 * (n + 1))
            url = f"https://www.site-{n % 2}.example/{n}.jpg"
            caption = replace(row.caption, url=url)
            scores.append(replace(row, caption=caption))
            shown = mask(text, PATTERN, threshold=1.0, image=jpeg())
            match = ("verbatim", "template", None)[n % 3]
            maps.append(replace(shown, caption=caption, match=match))
            state = "new" if n % 3 == 0 else "persisting"
            marks[caption.sha256] = RowMark(state, "why", "low", "accepted" if n == 5 else "")
        commit(results, "r1", scores, maps, chunk=f"{shard[0]}-00000")
    gone = Finding(
        caption_sha256="0" * 64,
        caption="a resolved one",
        delta_s=1.0,
        p_value=0.5,
        copies=1,
        shard="a.tar",
        key="gone",
    )
    marks[gone.caption_sha256] = RowMark("resolved", "removed")
    return page(
        results, "r1", PageOptions(images=training), remarks=Remarks(marks=marks, gone=[gone])
    )


def count_in(window):
    return window.run("document.getElementById('count').textContent")


def active(window, what="textContent"):
    return window.run(f"document.activeElement.{what}")


@needs_chromium
def test_a_reader_sorts_filters_and_searches(sixty, window, tmp_path):
    shown_in(window, sixty, tmp_path)
    window.click("#group")
    assert count_in(window) == "61 of 61 findings"
    assert len(captions_in(window)) == 24
    assert captions_in(window)[0] == "caption 00 of a"
    chips = window.run("[...document.querySelectorAll('.chip')].map(e => e.textContent)")
    assert chips == ["all 61", "new 20", "persisting 38", "resolved 1", "muted 2"]
    for chip, number in (("muted", 2), ("resolved", 1), ("new", 20)):
        window.click(f".chip.{chip}")
        assert count_in(window) == f"{number} of 61 findings"
    for field, value, number in (
        ("site", "site-1.example", 10), ("shard", "b.tar", 5), ("match", "template", 0),
        ("match", "verbatim", 5), ("q", "CAPTION 09", 1),
    ):  # fmt: skip
        window.choose(f"#{field}", value)
        told = f"{number} of 61 findings" if number else "No finding answers"
        assert count_in(window).startswith(told)
    for field in ("site", "shard", "match", "q"):
        window.choose(f"#{field}", "")
    window.click(".chip:first-child")
    for order, first in (
        ("d", "caption 29 of a"),
        ("p", "caption 00 of a"),
        ("c", "a resolved one"),
    ):
        window.choose("#sort", order)
        assert captions_in(window)[0] == first
    window.choose("#size", "240")
    assert len(captions_in(window)) == 61
    assert window.run("document.getElementById('pager').hidden")


@needs_chromium
def test_a_reader_needs_no_mouse(sixty, window, tmp_path):
    shown_in(window, sixty, tmp_path)
    window.click("#group")
    window.press("/")
    assert active(window, "id") == "q"
    for _ in range(9):
        window.press("Tab")
    assert active(window) == "caption 00 of a"
    assert (
        window.run("getComputedStyle(document.activeElement.closest('li')).outlineStyle") == "solid"
    )
    columns = window.run(
        "getComputedStyle(document.getElementById('gallery')).gridTemplateColumns.split(' ').length"
    )
    order = captions_in(window)
    for key, place in (("ArrowRight", 1), ("ArrowDown", 1 + columns), ("ArrowUp", 1), ("End", 23)):
        window.press(key)
        assert active(window) == order[place]
    window.press("ArrowRight")
    assert window.run("document.getElementById('where').textContent") == "page 2 of 3"
    window.press("Enter")
    assert window.run("document.getElementById('detail').open")
    assert window.run("document.getElementById('d-where').textContent") == "25 of 61"
    window.press("ArrowRight")
    heading = window.run("document.getElementById('d-caption').textContent")
    assert window.run("document.querySelectorAll('#d-body .frame svg path').length") == 2
    window.press("Escape")
    assert not window.run("document.getElementById('detail').open")
    assert window.until(f"document.activeElement.textContent === {json.dumps(heading)}")
    assert captions_in(window).index(heading) == 1
    window.press("Tab")
    assert active(window, "id") == "back"
    names = window.run(
        "[...document.querySelectorAll('button, input, select')].filter(e => !e.textContent.trim() "
        "&& !e.labels?.length && !e.ariaLabel).length"
    )
    assert names == 0
    assert window.problems == []


@needs_chromium
def test_a_mask_is_outlined_where_it_is(make, window, tmp_path):
    results, values = make(), np.zeros((4, 5))
    values[1:3, 1:4] = 9.0
    row = score("one", 9.0, flagged=True, p_value=0.01, stage="localize")
    commit(results, "r1", [row], [mask("one", values, threshold=1.0, image=jpeg())])
    shown_in(window, page(results, "r1", PageOptions(images=training)), tmp_path)
    line = window.until("document.querySelector('.frame path.line')?.getAttribute('d')")
    assert line == "M1 1h1h1h1v1v1h-1h-1h-1v-1v-1"
    veil = window.run("document.querySelector('.frame path.veil').getAttribute('d')")
    assert veil == f"M0 0h5v4h-5z{line}Z"


def line_of(window, make, folder, values):
    results = make(f"results-{np.size(values)}")
    row = score("one", 9.0, flagged=True, p_value=0.01, stage="localize")
    commit(results, "r1", [row], [mask("one", np.array(values), threshold=1.0, image=jpeg())])
    shown_in(window, page(results, "r1", PageOptions(images=training)), folder)
    return window.until("document.querySelector('.frame path.line')?.getAttribute('d')")


@needs_chromium
def test_the_border_of_the_picture_is_no_outline_but_of_a_mask_over_all_of_it(
    make, window, tmp_path
):
    left = [[9.0, 9.0, 0.0]] * 3
    assert line_of(window, make, tmp_path, left) == "M2 0v1v1v1"
    assert line_of(window, make, tmp_path, [[9.0] * 3] * 2) == "M0 0h1h1h1v1v1h-1h-1h-1v-1v-1Z"
    corners = [[9.0, 0.0], [0.0, 9.0]]
    assert line_of(window, make, tmp_path, corners) == "M1 0v1h-1M1 1h1M1 2v-1"


@pytest.fixture
def alike(make):
    """Eight near-identical captions, one of them a copy, two of another kind, an empty one."""
    results = make()
    texts = [f"golden gate bridge fine art print no. {n}" for n in range(8)]
    texts += ["a tree", "a dog on a red sofa", "", " "]
    rows = [
        score(t, 50.0 - n, flagged=True, p_value=0.01, key=f"k{n}") for n, t in enumerate(texts)
    ]
    shown = mask(texts[3], PATTERN, threshold=1.0, image=jpeg(), key="k3")
    commit(results, "r1", rows, [replace(shown, match="verbatim")])
    return page(results, "r1", PageOptions(images=training))


def test_the_worst_of_near_identical_captions_stands_for_them_and_no_caption_for_none(alike):
    items = items_of(alike)
    assert items[0]["k"] == "k3", "a copy comes before higher scores"
    assert [item["k"] for item in items if item.get("f") == 0] == [
        f"k{n}" for n in range(8) if n != 3
    ]
    assert all("f" not in item for item in items if not item["c"].strip())


@needs_chromium
def test_a_family_is_a_card_that_opens(alike, window, tmp_path):
    shown_in(window, alike, tmp_path)
    assert count_in(window) == "12 of 12 findings in 5 groups"
    assert window.run("document.querySelector('.more-like').textContent") == "and 7 more like it"
    assert window.run("document.querySelector('.members').offsetHeight") == 0
    window.click(".more-like")
    assert window.run("document.querySelector('.more-like').ariaExpanded") == "true"
    assert window.run("document.querySelectorAll('.members button').length") == 7
    window.click(".members li:last-child button")
    assert window.run("document.getElementById('d-where').textContent") == "8 of 12"
    window.press("Escape")
    assert "no. 3" in str(window.until("document.activeElement.closest('.card')?.textContent"))
    window.choose("#sort", "d")
    assert "no. 0" in captions_in(window)[0], "the first that is shown stands for its family"
    window.click("#group")
    assert len(captions_in(window)) == 12
    assert window.run("location.hash") == "#sort=d&group=no"


@needs_chromium
def test_the_address_holds_the_view_and_back_undoes_a_step(sixty, window, tmp_path):
    target = shown_in(window, sixty, tmp_path)
    window.click(".chip.new")
    window.choose("#match", "verbatim")
    window.choose("#sort", "k")
    window.choose("#q", "of b")
    window.until("location.hash.includes('q=of')")
    window.click("#h-linear")
    view = window.run("location.hash")
    assert view == "#state=new&q=of+b&match=verbatim&sort=k&heights=linear"
    told = count_in(window)
    window.open(tmp_path / "report.html")
    window.call("Page.navigate", url=f"{target.as_uri()}{view}")
    window.until("document.getElementById('sort').value === 'k'")
    assert (count_in(window), window.run("document.getElementById('q').value")) == (told, "of b")
    assert window.run("document.querySelector('.chip.new').ariaPressed") == "true"
    assert window.run("document.getElementById('h-linear').checked")
    window.click(".card .caption")
    window.until("location.hash.includes('finding=')")
    window.run("history.back()")
    assert window.until("!document.getElementById('detail').open && !location.hash.includes('fi')")
    window.choose("#sort", "")
    assert window.run("location.hash") == "#state=new&q=of+b&match=verbatim&heights=linear"
    window.run("history.back()")
    assert window.until("document.getElementById('sort').value === 'k'")
    assert window.problems == []


@needs_chromium
@pytest.mark.parametrize(
    "view", ["#state=<b>&match=nothing&page=-7&size=9", "#finding=../x&page=1e9", "#%", "#findings"]
)
def test_an_address_that_makes_no_sense_shows_the_page(sixty, window, tmp_path, view):
    target = shown_in(window, sixty, tmp_path)
    window.call("Page.navigate", url="about:blank")
    window.call("Page.navigate", url=target.as_uri() + view)
    assert window.until("document.getElementById('count')?.textContent") == (
        "61 of 61 findings in 3 groups"
    )
    assert window.problems == []


@needs_chromium
def test_a_link_to_a_finding_opens_it(sixty, window, tmp_path):
    target = shown_in(window, sixty, tmp_path)
    wanted = items_of(sixty)[40]
    window.call("Page.navigate", url="about:blank")
    window.call("Page.navigate", url=f"{target.as_uri()}#finding={wanted['id'][:16]}")
    window.until("document.getElementById('detail')?.open")
    assert window.run("document.getElementById('d-caption').textContent") == wanted["c"]
    window.press("Escape")
    assert window.until("location.hash === ''") or window.run("location.hash") == "#"


@needs_chromium
def test_a_run_without_findings_says_so(make, window, tmp_path):
    results = make()
    commit(results, "r1", [score("clear", 0.5, flagged=False, p_value=0.7)])
    shown_in(window, page(results, "r1", PageOptions(images=training)), tmp_path)
    assert count_in(window) == "Nothing is flagged."
    assert window.run("document.getElementById('tools').offsetHeight") == 0


def test_only_the_worst_findings_are_compared_with_each_other_and_the_page_says_so(
    make, monkeypatch
):
    results = make()
    texts = [f"golden gate bridge fine art print no. {n}" for n in range(4)]
    rows = [score(text, 50.0 - n, flagged=True) for n, text in enumerate(texts)]
    commit(results, "r1", rows)
    for module in ("page", "particulars"):
        monkeypatch.setattr(f"scanner.report.{module}.MOST_GROUPED", 2)
    html = page(results, "r1", PageOptions())
    assert ["f" in item for item in items_of(html)] == [False, True, False, False]
    assert "share a card among the worst 2 findings alone" in html
