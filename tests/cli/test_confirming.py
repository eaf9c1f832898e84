"""`confirm` and `--confirm` as a user types them: the closed-form model, real tars and Parquet."""

import json
import sys
from contextlib import closing
from itertools import count, islice

import pytest
from webdataset import TarWriter

from scanner import cli
from scanner.analysis.query import connect
from scanner.cli import scanning
from scanner.engine import driver
from scanner.engine.cluster import cluster
from scanner.matching.confirmation import FIRST_SEED
from scanner.models.gaussian import Gaussian
from scanner.results.folder import Results

SCAN = ("--model", "gaussian", "--steps", 2, "--probes", 1, "--device", "cpu", "--threshold", 1000,
        "--maps", "delta_h", "--mask-share", 0.3)  # fmt: skip
DRAWS = 8


def memscan(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["memscan", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0), capsys.readouterr()


def captions(tag, number, *, memorized):
    every = (f"{tag} {n}" for n in count())
    found = (c for c in every if (Gaussian().encode([c])[0, 1].min() < 0.5) == memorized)
    return list(islice(found, number))


def write(path, texts, images=()):
    with TarWriter(str(path)) as tar:
        for number, text in enumerate(texts):
            sample = {"__key__": f"k{number}", "txt": text}
            if text in images:
                sample["jpg"] = images[text]
            tar.write(sample)
    return path


def table(results, sql):
    with closing(connect(Results(results))) as con:
        return con.execute(sql).fetchall()


def stored(folder):
    """The rows of a results folder: its Parquet files by name, which has a digest of each."""
    return {
        path.relative_to(folder): path.read_bytes()
        for name in ("scores", "masks") for path in sorted((folder / name).rglob("*.parquet"))
    }  # fmt: skip


@pytest.fixture
def corpus(tmp_path, monkeypatch, capsys):
    """Three memorized captions and two others, and of the first two an image that comes back."""
    monkeypatch.chdir(tmp_path)
    known = captions("known", 3, memorized=True)
    texts = known + captions("usual", 2, memorized=False)
    write(tmp_path / "bare.tar", texts)
    code, _ = memscan(monkeypatch, capsys, "scan", "bare.tar", *SCAN, "--local", "-o", "bare")
    assert code == 0
    images = dict(table(tmp_path / "bare", "SELECT f.caption, m.image FROM findings AS f JOIN "
                        "masks AS m USING (caption_sha256) WHERE m.image IS NOT NULL"))  # fmt: skip
    assert set(images) == set(known)
    write(tmp_path / "a.tar", texts, {text: images[text] for text in known[:2]})
    return known


def drawn(folder):
    return table(folder, "SELECT caption, drawn, compared, given_back FROM findings ORDER BY key")


def test_a_scan_draws_what_it_flags_and_changes_nothing_else(corpus, tmp_path, monkeypatch, capsys):
    code, plain = memscan(monkeypatch, capsys, "scan", "a.tar", *SCAN, "--local", "-o", "plain",
                          "--json")  # fmt: skip
    assert (code, "confirmed" in json.loads(plain.out)) == (0, False)
    code, said = memscan(monkeypatch, capsys, "scan", "a.tar", *SCAN, "--local", "-o", "out",
                         "--json", "--confirm", DRAWS)  # fmt: skip
    assert code == 0
    told = json.loads(said.out)
    assert told["run"] == json.loads(plain.out)["run"]
    assert stored(tmp_path / "out") == stored(tmp_path / "plain")
    assert [row[:3] for row in drawn("out")] == [
        (corpus[0], DRAWS, DRAWS), (corpus[1], DRAWS, DRAWS), (corpus[2], DRAWS, 0)
    ]  # fmt: skip
    assert sum(told["confirmed"]["levels"].values()) == 3
    assert all(row["known"] for row in told["confirmed"]["findings"])
    assert not list((tmp_path / "out" / "draws" / "shards").glob("*"))
    seeds = table("out/draws", "SELECT min(seed), max(seed) FROM scores")
    assert seeds == [(FIRST_SEED, FIRST_SEED + DRAWS - 1)]
    assert drawn("plain")[0][1:] == (None, None, None)


def test_what_is_drawn_is_not_drawn_again_though_it_is_interrupted(
    corpus, tmp_path, monkeypatch, capsys
):
    assert memscan(monkeypatch, capsys, "scan", "a.tar", *SCAN, "--local", "-o", "out")[0] == 0
    run = scanning.run

    def interrupted(job, resources, title, events, told=None):
        def heard(event):
            if event.kind == "chunk":
                raise KeyboardInterrupt

        return driver.scan(job, resources, heard)

    confirm = ("confirm", "out", "-n", DRAWS, "--local", "--device", "cpu")
    monkeypatch.setattr(scanning, "run", interrupted)
    code, said = memscan(monkeypatch, capsys, *confirm)
    assert (code, "run the same command again" in said.err) == (130, True)
    (shard,) = (tmp_path / "out" / "draws" / "shards").iterdir()
    done = len(table("out/draws", "SELECT DISTINCT key FROM scores"))
    assert 1 <= done < 3
    jobs = []

    def counted(job, *rest):
        jobs.append(run(job, *rest))
        return jobs[-1]

    monkeypatch.setattr(scanning, "run", counted)
    code, said = memscan(monkeypatch, capsys, *confirm)
    assert code == 0, said.err
    assert jobs[0].chunks_done == 3 - done
    assert not shard.exists()
    assert said.out.splitlines()[-1].startswith("3 of 3 findings drawn again: ")
    before = drawn("out")
    assert [row[1] for row in before] == [DRAWS] * 3
    code, said = memscan(monkeypatch, capsys, *confirm, "--json")
    assert (code, len(jobs), drawn("out")) == (0, 1, before)


def test_no_more_are_drawn_than_were_asked_for(corpus, monkeypatch, capsys):
    code, said = memscan(monkeypatch, capsys, "scan", "a.tar", *SCAN, "--local", "-o", "out",
                         "--confirm", 6, "--confirm-at-most", 1)  # fmt: skip
    assert code == 0
    assert "1 of 3 findings drawn again" in said.out
    assert "2 not drawn (at most 1 are)" in said.out
    assert sorted(str(row[1]) for row in drawn("out")) == ["6", "None", "None"]


def test_nothing_flagged_is_nothing_drawn(tmp_path, monkeypatch, capsys):
    shard = write(tmp_path / "a.tar", captions("usual", 2, memorized=False))
    out = tmp_path / "out"
    code, said = memscan(monkeypatch, capsys, "scan", shard, *SCAN, "--local", "-o", out,
                         "--confirm", 4)  # fmt: skip
    assert (code, "nothing is flagged" in said.out) == (0, True)
    assert not (out / "draws").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("scan", "a.tar", "--model", "gaussian", "-o", "new", "--confirm", 4), "give --calibrat"),
        (("scan", "a.tar", *SCAN, "-o", "new", "--confirm", -1), "--confirm"),
        (("confirm", "nowhere"), "no results in"),
        (("confirm", "bare", "--model", "no-such-model"), "no model at"),
    ],
)
def test_a_bad_request_is_refused_before_anything_is_scanned(
    corpus, words, said, tmp_path, monkeypatch, capsys
):
    code, told = memscan(monkeypatch, capsys, *words)
    assert code == 2
    assert said in told.err
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "bare" / "draws").exists()


def test_another_model_draws_nothing(corpus, pipeline_folder, tmp_path, monkeypatch, capsys):
    code, told = memscan(monkeypatch, capsys, "confirm", "bare", "--model", pipeline_folder)
    assert code == 2
    assert "name that one with --model" in told.err
    assert len(told.err.splitlines()) == 1
    assert not (tmp_path / "bare" / "draws").exists()


@pytest.mark.timeout(600)
def test_ray_draws_the_same(corpus, monkeypatch, capsys):
    for out in ("here", "there"):
        assert memscan(monkeypatch, capsys, "scan", "a.tar", *SCAN, "--local", "-o", out)[0] == 0
    confirm = ("-n", DRAWS, "--device", "cpu")
    assert memscan(monkeypatch, capsys, "confirm", "here", *confirm, "--local")[0] == 0
    with cluster():
        assert memscan(monkeypatch, capsys, "confirm", "there", *confirm, "--actors", 1)[0] == 0
    assert drawn("here") == drawn("there")
    assert drawn("here")[0][1] == DRAWS
