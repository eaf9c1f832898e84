from scan_here import scan_here
from test_week import SETTINGS, clear, mem, write

from scanner.engine import Job
from scanner.engine.worker import build_scanner
from scanner.io.recall import Recall
from scanner.io.results import Results
from scanner.nightly.remembering import BuildRemembering
from scanner.records import Caption, caption_hash
from scanner.spec import ScanSpec


def job_of(folder, *urls):
    spec = ScanSpec(threshold=1000.0, seeds=(0, 1), **SETTINGS)
    return Job(
        model="gaussian", shards=urls, results=str(folder / "results"), spec=spec, chunk_size=4
    )


def spying(seen):
    build = build_scanner

    def made(job, device):
        scanner = build(job, device)
        scan = scanner.scan
        scanner.scan = lambda captions: seen.extend(c.text for c in captions) or scan(captions)
        return scanner

    return made


def rows(folder, run, shard):
    import pyarrow.parquet as pq

    files = Results(folder / "results").files("scores", [run])
    table = [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]
    return sorted((r for r in table if r["shard"] == shard), key=lambda r: (r["key"], r["seed"]))


def test_only_what_is_new_or_flagged_is_scored_and_rows_are_the_same(tmp_path, monkeypatch):
    known, one = clear("p", "q", "r"), mem("one")
    a = write(tmp_path / "a.tar", [*known, one])
    b = write(tmp_path / "b.tar", [known[1], *clear("new"), known[1], one, known[2]])
    for name in ("remembering", "plain"):
        (tmp_path / name).mkdir()
    scan_here(job_of(tmp_path / "remembering", a))
    seen = []
    monkeypatch.setattr("scanner.nightly.remembering.build_scanner", spying(seen))
    run = scan_here(job_of(tmp_path / "remembering", a)).run
    done = scan_here(job_of(tmp_path / "remembering", a, b), build=BuildRemembering(run))
    assert (done.samples, done.chunks_done) == (5, 2)
    assert seen == [*clear("new"), one]
    scan_here(job_of(tmp_path / "plain", a, b))
    assert rows(tmp_path / "remembering", run, b) == rows(tmp_path / "plain", run, b)


def test_nothing_is_recalled_of_a_run_without_rows(tmp_path):
    results = Results(tmp_path)
    assert Recall(results, "r1").rows([Caption("a.tar", "k", "text")]) == {}
    assert caption_hash("text") not in Recall(results, "r1").rows([])
