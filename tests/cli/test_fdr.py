"""`--fdr` as a user types it: real tars, real Ray, real Parquet, the closed-form model."""

import json
import sys
from itertools import count, islice

import pyarrow.dataset as ds
import pytest
from webdataset import TarWriter

from scanner import cli, models
from scanner.engine.cluster import cluster
from scanner.models.gaussian import Gaussian
from scanner.spec import ScanSpec
from scanner.statistics.calibration import Calibration

RATE = 0.2
OPTIONS = ("--model", "gaussian", "--steps", 2, "--probes", 1, "--seeds", 2, "--device", "cpu")


def memscan(monkeypatch, capsys, *words: object) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["memscan", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0), capsys.readouterr().out


def is_memorized(caption: str) -> bool:
    variances = Gaussian().encode([caption])[0, 1]
    return bool(variances.min() < 0.5)


def captions(tag: str, number: int, *, memorized: bool) -> list[str]:
    every = (f"{tag} {n}" for n in count())
    return list(islice((c for c in every if is_memorized(c) is memorized), number))


def write(path, texts: list[str]):
    with TarWriter(str(path)) as tar:
        for number, text in enumerate(texts):
            tar.write({"__key__": f"{path.stem}{number:03d}", "txt": text})
    return path


def rejected(p: dict[str, float], rate: float) -> set[str]:
    """Benjamini and Hochberg from the definition: the largest k with k p-values up to k q / n."""
    steps = [k * rate / len(p) for k in range(len(p), 0, -1)]
    k = next((k for k, s in zip(range(len(p), 0, -1), steps, strict=True)
              if sum(x <= s for x in p.values()) >= k), 0)  # fmt: skip
    return {sha for sha, x in p.items() if k and x <= k * rate / len(p)}


def rows(folder, table: str, columns: list[str]) -> list[dict]:
    return ds.dataset(folder / table, format="parquet").to_table(columns=columns).to_pylist()


@pytest.mark.timeout(600)
def test_a_rate_is_settled_over_the_run_and_again_when_it_grows(tmp_path, monkeypatch, capsys):
    null = write(tmp_path / "null.tar", captions("null", 60, memorized=False))
    a = write(
        tmp_path / "a.tar",
        captions("few", 1, memorized=True) + captions("plain", 19, memorized=False),
    )
    b = write(
        tmp_path / "b.tar",
        captions("many", 9, memorized=True) + captions("usual", 9, memorized=False),
    )
    out, calibration = tmp_path / "results", tmp_path / "calibration.json"

    def scan(*shards: object) -> dict:
        code, said = memscan(
            monkeypatch, capsys, "scan", *shards, *OPTIONS, "--calibration", calibration,
            "--fdr", RATE, "--out", out, "--chunk-size", 7, "--actors", 1, "--json",
        )  # fmt: skip
        assert code == 0
        return json.loads(said)

    def check(summary: dict) -> set[str]:
        """Compare the verdict and both views with the stored p-values; return what is flagged."""
        scores = rows(out, "scores", ["caption_sha256", "p_value", "flagged", "delta_s"])
        p = {r["caption_sha256"]: r["p_value"] for r in scores}
        expected = rejected(p, RATE)
        candidates = {sha for sha, value in p.items() if value <= RATE}
        assert {r["caption_sha256"] for r in scores if r["flagged"]} == candidates > expected
        assert {r["caption_sha256"] for r in rows(out, "masks", ["caption_sha256"])} == candidates
        verdict = summary["verdict"]
        assert (verdict["captions"], verdict["flagged"]) == (len(p), len(expected))
        assert verdict["cutoff"] == max((p[sha] for sha in expected), default=-1)
        record = json.loads((out / "runs" / f"{summary['run']}.json").read_text())
        assert record["verdict"] == verdict
        for sql in ("SELECT caption_sha256 AS sha FROM captions WHERE flagged",
                    "SELECT caption_sha256 AS sha FROM findings"):  # fmt: skip
            code, said = memscan(monkeypatch, capsys, "query", out, sql, "--format", "json")
            assert (code, {row["sha"] for row in json.loads(said)}) == (0, expected)
        return expected

    with cluster():
        code, _ = memscan(monkeypatch, capsys, "calibrate", null, *OPTIONS, "--actors", 1,
                          "--out", calibration)  # fmt: skip
        assert code == 0
        few = scan(a)
        assert check(few) == set()
        more = scan(a, b)
        assert (more["run"], more["chunks_skipped"]) == (few["run"], few["chunks_done"])
    found = check(more)
    said = memscan(monkeypatch, capsys, "query", out,
                   "SELECT caption FROM captions WHERE flagged", "--format", "json")[1]  # fmt: skip
    flagged = {row["caption"] for row in json.loads(said)}
    assert len(found) == len(flagged)
    assert {text for text in flagged if is_memorized(text)} == {
        *captions("few", 1, memorized=True), *captions("many", 9, memorized=True),
    }  # fmt: skip


def test_a_plan_localizes_what_may_pass(tmp_path, monkeypatch, capsys):
    shard = write(tmp_path / "a.tar", captions("plain", 12, memorized=False))
    calibration = tmp_path / "calibration.json"
    spec = ScanSpec(seeds=(0, 1), steps=2, probes=1)
    scores = tuple(map(float, range(30)))
    Calibration(models.fingerprint("gaussian"), spec.score_fingerprint(), scores, {}, 0.01, 30,
                "today").save(calibration)  # fmt: skip

    def share(*more: object) -> float:
        words = ("plan", shard, *OPTIONS, "--rate", 100, "--calibration", calibration, "--json")
        code, said = memscan(monkeypatch, capsys, *words, *more)
        assert code == 0
        return json.loads(said)["flagged_share"]

    assert share("--fdr", RATE) == share("--fpr", RATE) == RATE
    assert share("--fdr", RATE, "--flagged", 0.5) == 0.5
    words = ("plan", shard, *OPTIONS, "--rate", 100, "--fdr", RATE)
    assert memscan(monkeypatch, capsys, *words)[0] == 2
    words = (*words, "--fpr", RATE, "--calibration", calibration)
    assert memscan(monkeypatch, capsys, *words)[0] == 2
