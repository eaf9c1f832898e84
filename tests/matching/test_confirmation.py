"""Findings drawn again: which, as what shard, and the rows that come of it."""

import io
import re
import tarfile
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from made_results import commit, jpeg, mask, record, score

from scanner.analysis.evidence import gather
from scanner.analysis.findings import findings
from scanner.analysis.query import connect
from scanner.matching.confirmation import FIRST_SEED, Task, shard_of, told
from scanner.matching.reproduced import Reproduced
from scanner.records import Reject
from scanner.report.page import PageOptions, page
from scanner.results.folder import Results
from scanner.statistics.intervals import clopper_pearson

TEXTS = {"first": 0.001, "second": 0.001, "third": 0.02}
INSIDE = np.full((8, 8), 5.0)


@pytest.fixture
def task(make):
    results = make()
    rows = [score(text, 10.0 + n, flagged=True, p_value=p, stage="localize")
            for n, (text, p) in enumerate(TEXTS.items())]  # fmt: skip
    commit(results, "r1", [*rows, score("clear", 0.1, flagged=False, p_value=0.9)])
    return Task(results, "r1", "d1", seeds=4, most=2)


def images(shard, keys):
    return ((key, jpeg(32)) for key in sorted(keys) if key != "second")


def draw(task, texts, pictures=4, match="verbatim"):
    """Commit what a scan of the findings' shard would."""
    drawn = task.drawn
    if "d1" not in (drawn.runs() if drawn.exists() else []):
        drawn.write_run("d1", {**record(), "run": "d1", "status": "complete"})
    with closing(connect(task.results, runs=["r1"])) as con:
        by_text = {f.caption: f.identity for f in findings(con)}
    for text in texts:
        key, seeds = by_text[text], range(FIRST_SEED, FIRST_SEED + pictures)
        rows = [score(text, 9.0, key=key, seed=seed, stage="localize") for seed in seeds]
        maps = [
            replace(mask(text, INSIDE, threshold=1.0, key=key, seed=seed, image=jpeg(32)),
                    match=match, match_mse=0.001)
            for seed in seeds
        ]  # fmt: skip
        commit(drawn, "d1", rows, maps, chunk=f"c-{key[:8]}")


def test_the_smallest_p_values_are_drawn_then_the_highest_scores(task):
    assert [finding.caption for finding in task.chosen()] == ["second", "first"]


def test_the_choice_stays_when_levels_change(task):
    draw(task, ["second"], match="none")
    task.record()
    assert [finding.caption for finding in task.chosen()] == ["second", "first"]


def test_what_is_drawn_is_not_drawn_again(task):
    assert len(task.pending(task.chosen())) == 2
    draw(task, ["second"])
    assert [finding.caption for finding in task.pending(task.chosen())] == ["first"]
    draw(task, ["first"])
    assert task.pending(task.chosen()) == []


def test_a_shard_holds_captions_and_the_images_that_there_are(task):
    chosen = task.chosen()
    with tarfile.open(fileobj=io.BytesIO(shard_of(chosen, images))) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    second, first = (finding.identity for finding in chosen)
    assert members.keys() == {f"{first}.txt", f"{first}.jpg", f"{second}.txt"}
    assert members[f"{second}.txt"] == b"second"


def test_the_shard_is_named_by_what_is_in_it_and_goes_when_it_is_done(task):
    chosen = task.chosen()
    places = {task.write_shard(some, images) for some in (chosen, chosen, chosen[:1])}
    assert len(places) == 2
    task.results.store.put("draws/shards/other-123.tar", b"")
    task.remove_shards()
    left = [entry.name for entry in task.results.store.entries("draws/shards")]
    assert left == ["draws/shards/other-123.tar"]


def test_what_came_of_it_stands_beside_the_findings(task):
    with closing(connect(task.results, runs=["r1"])) as con:
        before = con.execute("SELECT * FROM scores ORDER BY ALL").fetchall()
    draw(task, ["second", "first"])
    assert task.record() == 2
    with closing(connect(task.results, runs=["r1"])) as con:
        found = {f.caption: f for f in findings(con)}
        rows = con.execute(
            "SELECT drawn, first_seed, draws, agreeing FROM confirmed ORDER BY ALL"
        ).fetchall()
        assert con.execute("SELECT * FROM scores ORDER BY ALL").fetchall() == before
    assert rows == [(4, FIRST_SEED, "d1", 4)] * 2
    second = found["second"]
    assert (second.level, second.given_back, second.compared) == ("reproduced", 4, 4)
    assert (second.rate_low, second.rate_high) == clopper_pearson(4, 4)
    assert (found["third"].level, found["third"].drawn) == ("suspected", None)
    assert list(found) == ["second", "first", "third"]


def test_a_smaller_bound_hides_nothing_that_was_drawn(task):
    draw(task, ["second", "first"])
    assert replace(task, most=1).record() == 2


def test_what_could_not_be_drawn_is_not_tried_for_ever(task):
    draw(task, ["second"])
    first = task.pending(task.chosen())[0].identity
    commit(task.drawn, "d1", [], rejects=[Reject("d.tar", first, "not_finite", "nan")], chunk="r")
    assert task.pending(task.chosen()) == []
    assert task.record() == 1


def test_the_page_and_the_panel_say_what_came_of_it(task):
    draw(task, ["second"])
    task.record()
    html = page(task.results, "r1", PageOptions(redact=True))
    assert re.search(r'"lv": ?"reproduced"', html)
    assert "given back in 4 of 4 draws (40% to 100%)" in html
    assert "<dt>copied, drawn again</dt><dd>0</dd>" in html
    with closing(connect(task.results, runs=["r1"])) as con:
        words = gather(con, "second", lambda shard, key: None).comparisons
        assert gather(con, "third", lambda shard, key: None).comparisons == ()
    assert words == ("drawn again: given back in 4 of 4 draws (40% to 100%)",)


def test_nothing_drawn_yet_is_an_empty_table(task):
    assert task.record() == 0
    with closing(connect(task.results, runs=["r1"])) as con:
        assert con.execute("SELECT count(*) FROM confirmed").fetchall() == [(0,)]


def test_plain_pictures_widen_the_interval_upwards_and_count_for_nothing():
    row = told(Reproduced(*("s", "k", "sha", "c", 1.0), drawn=20, verbatim=3, plain=5), 20, None)
    assert (row["given_back"], row["plain"], row["agreeing"]) == (3, 5, 1)
    assert row["rate_low"] == clopper_pearson(3, 20)[0]
    assert row["rate_high"] == clopper_pearson(8, 20)[1]


def test_without_an_image_the_upper_end_is_of_any_one_picture():
    row = told(Reproduced(*("s", "k", "sha", "c", 1.0)), 20, 2)
    assert (row["compared"], row["rate_low"]) == (0, None)
    assert row["rate_high"] == clopper_pearson(2, 20)[1]
    assert row["agreeing_low"] == clopper_pearson(1, 19)[0]


def test_the_draws_do_not_disturb_the_results_around_them(task):
    draw(task, ["first"])
    task.record()
    assert Results(task.results.root).runs() == ["r1"]
    assert len(task.results.committed("r1")) == 1
