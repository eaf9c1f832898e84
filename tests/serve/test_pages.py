"""What pages show, of captions that would rather be markup, and what they refuse."""

import csv
import io
import json
import re
import struct
import threading
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_results import commit, record, score
from PIL import Image
from served import HOSTILE, PATTERN, PLAIN, signed_in

from scanner.masks import mean_filtered
from scanner.records import caption_hash, identity_of
from scanner.results import compact
from scanner.results.folder import Results
from scanner.serve.asking import Questions
from scanner.serve.images import HEADER
from scanner.serve.listing import Listings
from scanner.serve.live import Live
from scanner.serve.source import Source

RED, HIDDEN = PLAIN[0], PLAIN[3]
WORST = caption_hash(HOSTILE[0])


def post(client, path: str, **form: str):
    form = {"key": client.access.key, "finding": WORST, "run": "r2", **form}
    return client.post(path, data=form)


@pytest.mark.parametrize(
    "path",
    ["/", "/?q=script", f"/caption?id={WORST}", "/rejects", "/compare", "/compare?a=r2&b=r1",
     "/sql?sql=SELECT+*+FROM+captions", "/sql?sql=%3Cscript%3E", "/?sort=%3Cb%3E", "/?run=%3Cb%3E"],
)  # fmt: skip
def test_no_caption_becomes_markup_or_steers_the_text(client, path):
    page = client.get(path).text
    for text in ("<script>document", "<b ", "<b>", "\u202e", "\u2066", "\x1b", "\x00"):
        assert text not in page
    assert page.count("<script") <= 1  # our own file's


def test_the_table_says_what_the_run_holds(client):
    page = client.get("/").text
    assert "1–9 of 9 captions" in page
    assert re.findall(r'data-id="(\w+)"', page)[0] == WORST
    assert "&lt;script&gt;document.title" in page
    part = client.get("/?q=circle", headers={"x-part": "1"}).text
    assert (part.lstrip().startswith("<section"), "2 captions" in part) == (True, True)


def test_a_filter_that_there_is_not_is_one_line(client):
    answer = client.get("/?match=maybe")
    assert (answer.status_code, "match must be one of verbatim" in answer.text) == (400, True)
    answer = client.get("/?match=maybe", headers={"x-part": "1"})
    words = "verbatim, template, plain, none, unknown"
    assert answer.text == f"match must be one of {words}, got 'maybe'"
    assert "there is no run zz; there are: r1, r2" in client.get("/?run=zz").text


def test_a_caption_keeps_the_filter_it_was_found_with(client):
    page = client.get(f"/caption?id={WORST}&flagged=yes&sort=wen").text
    assert " of 3</span>" in page
    assert "flagged=yes&amp;sort=wen" in page
    assert page.count("data-values=") == 4
    assert client.get(f"/caption?id={'0' * 64}").status_code == 404
    assert client.get("/caption?id=../../etc/passwd").status_code == 404


def test_scores_are_told_with_what_they_mean(client):
    page = client.get(f"/caption?id={caption_hash(RED)}&run=r1").text
    assert "noise difference of all steps" in page
    assert "so often a caption that was not trained on" in page
    assert "not localized" in page
    assert PLAIN[1] in page  # a near-identical caption
    assert HIDDEN not in page


def test_pictures_are_made_anew(client):
    for kind in ("training", "generated", "small"):
        answer = client.get(f"/picture/{kind}?id={WORST}&seed=1")
        assert answer.headers["content-type"] == "image/webp"
        assert Image.open(io.BytesIO(answer.content)).format == "WEBP"
    heat = client.get(f"/picture/map?id={WORST}&seed=1&metric=delta_h&baseline=null")
    assert Image.open(io.BytesIO(heat.content)).size == (16, 16)


def test_the_values_of_a_map_give_its_mask(client):
    answer = client.get(f"/picture/values?id={WORST}&seed=1&metric=delta_h&baseline=null").content
    height, width, threshold, _, is_smooth = HEADER.unpack_from(answer)
    values = np.frombuffer(answer, "<f4", offset=HEADER.size).reshape(height, width)
    assert (threshold, is_smooth) == (40.0, 0)
    np.testing.assert_array_equal(values > threshold, PATTERN + 1 > 40)
    answer = client.get(f"/picture/values?id={WORST}&seed=0&metric=delta_s&baseline=null").content
    assert np.isnan(struct.unpack_from("<d", answer, 8)[0])
    held = np.frombuffer(answer, "<f4", offset=HEADER.size).reshape(16, 16)
    np.testing.assert_allclose(held, mean_filtered(PATTERN), rtol=0.01, atol=0.05)


@pytest.mark.parametrize(
    "path",
    [f"small?id={caption_hash(RED)}", "training?id=x", f"training?id={'1' * 64}", "raw?id=x",
     f"generated?id={WORST}&seed=7", f"map?id={WORST}&seed=0&metric=%27&baseline=null",
     f"copy?id={WORST}&place=3", f"nearest?id={WORST}&seed=0&rank=1", "..%2f..%2fetc%2fpasswd"],
)  # fmt: skip
def test_a_picture_that_there_is_not_is_not_found(client, path):
    assert client.get(f"/picture/{path}").status_code == 404


def test_no_shard_is_opened_where_images_are_left_out(results):
    with signed_in(Source(results, images=False)) as client:
        assert client.get(f"/picture/training?id={WORST}").status_code == 404
        assert "/picture/training" not in client.get(f"/caption?id={WORST}").text


def test_marks_are_kept_with_their_history_and_can_be_asked_for(client, results):
    answer = post(client, "/mark", mark="false", reason="a <b>logo</b>", name="ann",
                  page="captions", filter="flagged=yes")  # fmt: skip
    assert answer.url.path == "/"
    assert answer.url.query == b"flagged=yes"
    answer = post(client, "/mark", mark="false", reason="a <b>logo</b>", name="ann",
                  page="captions", after=caption_hash(RED), before="//evil.example")  # fmt: skip
    assert answer.url.query == f"after={caption_hash(RED)}".encode()
    post(client, "/mark", mark="licensed", reason="we bought it", name="bo")
    page = client.get(f"/caption?id={WORST}").text
    assert "a &lt;b&gt;logo&lt;/b&gt;" in page
    assert "licensed: we bought it" in page
    assert "1 caption" in client.get("/?mark=licensed").text
    assert "8 captions" in client.get("/?mark=unmarked").text
    lines = (Path(results.root) / "marks.jsonl").read_text().splitlines()
    assert [json.loads(line)["mark"] for line in lines] == ["false", "false", "licensed"]
    post(client, "/mark", mark="none", reason="unsure", name="bo")
    assert "9 captions" in client.get("/?mark=unmarked").text


@pytest.mark.parametrize(
    ("form", "said"),
    [({"mark": "maybe"}, "a mark must be one of"), ({"mark": ""}, "choose a mark"),
     ({"reason": ""}, "must say why"), ({"name": ""}, "who says so"),
     ({"finding": "1" * 64}, "has no such finding"), ({"run": "zz"}, "there is no run zz"),
     ({"mark": "none"}, "no mark to take back")],
)  # fmt: skip
def test_a_mark_that_cannot_be_kept_is_one_line(client, results, form, said):
    whole = {"mark": "false", "reason": "x", "name": "ann"} | form
    answer = post(client, "/mark", **whole)
    assert (answer.status_code, said in answer.text) == (400, True)
    assert not (Path(results.root) / "marks.jsonl").exists()


def test_a_read_only_folder_says_so(client, results, tmp_path):
    (Path(results.root) / "marks.jsonl").mkdir()
    answer = post(client, "/mark", mark="false", reason="x", name="ann")
    assert (answer.status_code, "marks.jsonl" in answer.text) == (400, True)


def test_an_audit_is_shown_with_its_words_and_mutes(state):
    with signed_in(Source(state.results, state)) as client:
        # The shards that this audit counted are none of the results': nothing of theirs is shown.
        assert "0 captions" in client.get("/").text
        assert "9 captions" in client.get("/?run=r1").text
        assert "Audit 000001-2026-01-02 counted run r2" in client.get("/").text
        answer = post(client, "/mute", run="r1", reason="licensed", until="2000-01-01")
        assert (answer.status_code, "must not be past" in answer.text) == (400, True)
        assert "YYYY-MM-DD" in post(client, "/mute", run="r1", reason="x", until="soon").text
        assert "must say why" in post(client, "/mute", run="r1", reason=" ").text
        assert post(client, "/mute", run="r1", reason="licensed <b>").status_code == 200
        assert state.mutes()[WORST]["reason"] == "licensed <b>"
        page = client.get(f"/caption?id={WORST}&run=r1").text
        assert "muted: licensed &lt;b&gt;" in page
        assert "1 caption" in client.get("/?run=r1&muted=yes").text
        assert "8 captions" in client.get("/?run=r1&muted=no").text
        assert post(client, "/mute", run="r1", undo="yes", muted=WORST).status_code == 200
        assert state.mutes() == {}


def test_results_of_no_audit_have_no_mutes(client):
    assert "these results are of none" in post(client, "/mute", reason="x").text


@pytest.mark.parametrize("name", ["removal.csv", "removal-spreadsheet.csv", "removal.parquet"])
def test_the_removal_list_is_of_what_is_shown(client, name):
    answer = client.get(f"/removal?q=circle&format={name}")
    assert f'filename="{name}"' in answer.headers["content-disposition"]
    if name.endswith("csv"):
        rows = list(csv.DictReader(io.StringIO(answer.text)))
    else:
        rows = pq.read_table(io.BytesIO(answer.content)).to_pylist()
    assert [(row["key"], row["because"]) for row in rows] == [("k3", "caption"), ("k4", "caption")]
    assert "of 1 to 50,000 rows, got none" in client.get("/removal?q=zebra").text
    assert "must be one of removal.csv" in client.get("/removal?format=x.exe").text


def test_a_question_is_answered_as_a_table_and_as_csv(client):
    asked = "SELECT caption, worst FROM captions ORDER BY worst LIMIT 2"
    page = client.get("/sql", params={"sql": asked}).text
    assert "2 rows" in page
    assert "100% cotton _" in page
    answer = client.get("/sql.csv", params={"sql": asked})
    assert answer.headers["content-disposition"] == 'attachment; filename="answer.csv"'
    assert list(csv.reader(io.StringIO(answer.text)))[2][0] == "'=HYPERLINK(1)"
    many = client.get("/sql", params={"sql": "SELECT * FROM range(5000)"}).text
    assert "1,000 rows, there are more" in many


@pytest.mark.parametrize(
    "asked",
    ["COPY scores TO '/tmp/x'", "SELECT * FROM read_csv('/etc/passwd')", "SELECT 1; SELECT 2",
     "SELECT * FROM read_text('../../a.tar')", "ATTACH '/tmp/x'", "SET memory_limit='1TB'",
     "SELECT",
     "WITH x AS (COPY scores TO '/tmp/x') SELECT 1", "SELECT getenv('HOME')", "SELECT \x00"],
)  # fmt: skip
def test_a_question_reads_the_results_and_nothing_else(client, asked):
    for path in ("/sql", "/sql.csv"):
        answer = client.get(path, params={"sql": asked})
        assert (answer.status_code, "Traceback" in answer.text) == (400, False)


def test_a_question_that_takes_too_long_is_ended(results):
    questions = Questions(Source(results), seconds=0.2)
    slow = "SELECT count(*) FROM range(999999) AS a, range(999999) AS b WHERE a.range * b.range=7"
    with pytest.raises(Exception, match=r"over 0 s and was ended"):
        questions.answer("r1", slow)
    with pytest.raises(Exception, match=r"over 0 s and was ended|at most"):
        questions.csv("r1", "SELECT range, repeat('x', 100) FROM range(1000000000)")


def test_two_runs_are_compared(client):
    page = client.get("/compare?a=r1&b=r2").text
    assert "3</dd>" in page
    assert "persisting" in page.lower()
    assert "Choose two different runs" in client.get("/compare?a=r1&b=r1").text
    assert client.get("/compare?a=zz&b=r1").status_code == 400


def test_rejects_are_listed_by_reason(client):
    assert "it is &lt;b&gt;blank&lt;/b&gt;" in client.get("/rejects?reason=empty_caption").text
    assert "None." in client.get("/rejects?reason=no_image").text
    assert "start must be a number" in client.get("/rejects?start=-1").text


def test_images_that_were_scored_are_rows_of_their_own(tmp_path):
    from dataclasses import replace

    results = Results(tmp_path / "results")
    results.write_run("r1", record())
    rows = [score("one text", 1.0 + n, key=f"k{n}", flagged=n == 1) for n in range(2)]
    images = [caption_hash(f"image {n}") for n in range(2)]
    rows = [
        replace(row, caption=replace(row.caption, image_sha256=image))
        for row, image in zip(rows, images, strict=True)
    ]
    commit(results, "r1", rows)
    id = identity_of(caption_hash("one text"), images[1])
    with signed_in(Source(results)) as client:
        assert "2 captions" in client.get("/?source=image").text
        assert "0 captions" in client.get("/?source=generated").text
        assert "with this image" in client.get(f"/caption?id={id}").text
        text = client.get("/removal?flagged=yes").text
        assert [row["key"] for row in csv.DictReader(io.StringIO(text))] == ["k1"]


def test_a_table_is_made_anew_when_commits_come(results, monkeypatch):
    monkeypatch.setattr("scanner.serve.listing.LEAST_SECONDS", 0.0)
    monkeypatch.setattr("scanner.serve.listing.SHARE", 1e9)
    listings = Listings(Source(results))
    assert listings.get("r1").captions == 9
    commit(results, "r1", [score("a new one", 1.0, key="k50")], chunk="a-00001")
    for _ in range(100):
        if listings.get("r1").captions == 10:
            break
        threading.Event().wait(0.05)
    assert listings.get("r1").captions == 10


def test_files_that_were_packed_away_are_found_where_they_are_now(results):
    commit(results, "r1", [score("a new one", 1.0, key="k50")], chunk="a-00001")
    with signed_in(Source(results)) as client:
        where = f"/caption?id={WORST}&run=r1"
        assert "Samples" in client.get(where).text
        done = compact.compact(results, "r1", lambda done, total, word: None)
        compact.remove_old(results, done, grace=0)
        assert "Samples" in client.get(where).text
        assert client.get(f"/picture/small?id={WORST}&run=r1").status_code == 200


def test_progress_reads_each_commit_once(results, monkeypatch):
    live, read, whole = Live(results, "r1"), [], results.read_commit

    def noted(run, chunk):
        read.append(chunk)
        return whole(run, chunk)

    assert live.progress().counts == {"samples": 10, "scored": 9, "flagged": 3, "rejected": 1}
    whole = results.read_commit
    monkeypatch.setattr(
        results, "read_commit", lambda run, chunk: read.append(chunk) or whole(run, chunk)
    )
    commit(results, "r1", [score("a new one", 1.0, key="k50")], chunk="a-00001")
    assert live.progress().counts["samples"] == 11
    assert live.progress().counts["samples"] == 11
    assert read == ["a-00001"]


def test_results_in_a_bucket_are_shown_and_their_marks_need_a_file(s3, tmp_path):
    results = Results(f"{s3.bucket}/results")
    results.write_run("r2", record())
    commit(results, "r2", [score(HOSTILE[0], 1.0, key="k0")])
    form = {"mark": "false", "reason": "x", "name": "ann"}
    with signed_in(Source(results)) as client:
        assert "1 caption" in client.get("/").text
        assert "--marks FILE" in client.get(f"/caption?id={WORST}").text
        assert "start memscan serve with --marks FILE" in post(client, "/mark", **form).text
    with signed_in(Source(results), marks=tmp_path / "m.jsonl") as client:
        assert post(client, "/mark", **form).status_code == 200
        assert "1 caption" in client.get("/?mark=false").text


def test_a_mute_that_ran_out_is_none(state):
    state.mute(WORST, "was licensed", datetime(2026, 1, 1, tzinfo=UTC), date(2026, 1, 2))
    with signed_in(Source(state.results, state)) as client:
        assert "0 captions" in client.get("/?run=r1&muted=yes").text


def test_a_run_without_a_caption_yet_is_shown(tmp_path):
    results = Results(tmp_path / "results")
    results.write_run("r1", record() | {"status": "running"})
    with signed_in(Source(results)) as client:
        page = client.get("/").text
        assert "has no scored caption yet" in page
        assert 'data-running="yes"' in page
