import json
import re
import shutil
import subprocess
from contextlib import closing

import numpy as np
import pytest
from made_results import commit, jpeg, mask, score

from scanner.audit.canvas import outline_path, overlay
from scanner.audit.evidence import picture
from scanner.audit.findings import cutoff_of, findings
from scanner.audit.histogram import histogram
from scanner.audit.query import connect
from scanner.audit.report import PageOptions, page
from scanner.audit.thumbnails import gallery

HOSTILE = [
    "<script>document.title='pwned'</script>",
    "</script><img src=x onerror=\"document.title='pwned'\">",
    "\"quotes\" & 'more' <b>bold</b>",
    "\u202eright to left\u2066 and \x00\x1b[31m controls",
    "<!--<script>",
]
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


def test_a_page_without_pictures_and_captions_has_neither(hostile):
    html = page(hostile, "r1", PageOptions(redact=True))
    assert "data:image" not in html
    assert [item["c"] for item in items_of(html)] == [None] * len(HOSTILE)
    assert "left out on request" in html


def test_pictures_end_at_the_cap_and_the_page_says_so(hostile):
    with closing(connect(hostile, runs=["r1"])) as con:
        found = findings(con)
        whole = gallery(con, found, training, cap=10**9, most_shards=9)
        sizes = [whole.pictures[f.caption_sha256].num_bytes for f in found]
        some = gallery(con, found, training, cap=sizes[0] + sizes[1], most_shards=9)
    assert list(some.pictures) == [f.caption_sha256 for f in found[:2]]
    assert some.left_out == len(found) - 2
    options = PageOptions(images=training, image_cap=sizes[0] + sizes[1])
    assert f"last {some.left_out} findings are left out" in page(hostile, "r1", options)


def test_shards_beyond_the_limit_are_not_opened(hostile):
    with closing(connect(hostile, runs=["r1"])) as con:
        made = gallery(con, findings(con), training, cap=10**9, most_shards=0)
    assert made.unread == 1
    assert not any(one.training for one in made.pictures.values())


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


def test_an_outline_surrounds_the_mask_and_an_overlay_is_clear_at_zero():
    region = np.zeros((4, 5), bool)
    region[1:3, 1:4] = True
    assert outline_path(region) == "M1 1h3M1 3h3M1 1v2M4 1v2"
    image = overlay(np.array([[0.0, -4.0, 9.0]]), 9.0)
    assert picture(image) is not None
    from io import BytesIO

    from PIL import Image

    alpha = np.asarray(Image.open(BytesIO(image)).convert("RGBA"))[0, :, 3]
    assert alpha[0] == alpha[1] == 0
    assert alpha[2] > 200


CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed here")
def test_a_browser_shows_the_findings_and_no_hostile_caption_runs(hostile, tmp_path):
    target = tmp_path / "report.html"
    target.write_text(page(hostile, "r1", PageOptions(images=training)), encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom",
         target.as_uri()],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    dom = done.stdout
    assert "<title>Memorization report</title>" in dom, done.stderr[-2000:]
    assert dom.count('<article class="card">') == len(HOSTILE)
    assert "&lt;script&gt;document.title=" in dom
