"""What packing a run's many small files does to queries, as a ratio in one process.

Rows are made up and committed as a scan commits them, a chunk at a time. Then the same queries
run over the small files and over the packed ones, best of three, and must answer the same. With
`--s3` the results lie on a real S3 server on the loopback (moto), where every file is a request.

    python benchmarks/compact.py --chunks 2000
    python benchmarks/compact.py --chunks 300 --s3
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import fsspec

from scanner.analysis.query import connect
from scanner.records import Caption, ChunkResult, MaskRow, ScoreRow
from scanner.results import compact
from scanner.results.folder import Results

RUN, SAMPLES = "0123456789ab", 256
QUERIES = {
    "worst 100": "SELECT key, caption, delta_s FROM scores ORDER BY delta_s DESC, key LIMIT 100",
    "aggregate": "SELECT shard, count(*), max(delta_s) FROM scores GROUP BY shard ORDER BY shard",
    "findings": "SELECT count(*), count(area), count(DISTINCT caption_sha256) FROM finding_maps",
    "one caption": "SELECT * FROM scores WHERE caption_sha256 = 'no such'",
}


def commit(results: Results, number: int) -> None:
    """Commit a chunk of captions, of which one in a hundred is flagged and has a map."""
    url, rows = f"s3://corpus/{number // 40:05d}.tar", ChunkResult()
    for n in range(SAMPLES):
        at = number * SAMPLES + n
        caption = Caption(url, f"{at:09d}", f"a picture of thing number {at} in some place")
        flagged, delta_s = at % 100 == 0, (at * 2654435761 % 1000003) / 1000.0
        rows.scores.append(ScoreRow(caption, 0, stage="detect", delta_s=delta_s, flagged=flagged))
        if flagged:
            heatmap = bytes(at * k % 251 for k in range(2048))
            rows.masks.append(
                MaskRow(
                    caption,
                    0,
                    metric="delta_h",
                    baseline="null",
                    height=32,
                    width=32,
                    heatmap=heatmap,
                    sigma=0.1,
                    threshold=1.0,
                    mask=[500, 524],
                    area=0.5,
                )
            )
    facts = {"shard": url, "shard_id": f"{number // 40:012d}", "number": number % 40,
             "chunk_samples": SAMPLES, "start": 0, "stop": SAMPLES, "samples": SAMPLES,
             "shard_chunks": 40, "problem": None}  # fmt: skip
    results.commit(RUN, f"{number // 40:05d}-{number:07d}", rows, extra=[], facts=facts)


def timed(results: Results) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the best of three times of everything, in seconds, and the answers."""
    best, answers = dict[str, float](), dict[str, Any]()

    def note(name: str, begun: float) -> None:
        best[name] = min(best.get(name, 1e9), time.perf_counter() - begun)

    for _ in range(3):
        begun = time.perf_counter()
        results.commits(RUN)
        note("commits, as resume reads them", begun)
        begun = time.perf_counter()
        with closing(connect(results)) as con:
            note("open", begun)
            for name, sql in QUERIES.items():
                begun = time.perf_counter()
                answers[name] = con.execute(sql).fetchall()
                note(name, begun)
    return best, answers


def measured(place: str, chunks: int) -> None:
    """Measure in one place, and print a table."""
    results = Results(place)
    results.write_run(RUN, {"status": "complete", "started": "2030"})
    for number in range(chunks):
        commit(results, number)
    before, answers = timed(results)
    begun = time.perf_counter()
    done = compact.compact(results, RUN, lambda *_: None)
    seconds = time.perf_counter() - begun
    compact.remove_old(results, done, grace=0)
    after, again = timed(results)
    if again != answers:
        sys.exit("the packed files answer otherwise")
    print(f"{chunks} chunks, {done.rows} rows: {done.files_before} files of "
          f"{done.bytes_before / 2**20:.1f} MiB packed into {done.files_after} of "
          f"{done.bytes_after / 2**20:.1f} MiB in {seconds:.1f} s")  # fmt: skip
    print(f"{'':<32}{'small files, s':>16}{'packed, s':>12}{'ratio':>8}")
    for name, took in before.items():
        print(f"{name:<32}{took:>16.3f}{after[name]:>12.3f}{took / after[name]:>8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--chunks", type=int, default=2000)
    parser.add_argument("--s3", action="store_true")
    options = parser.parse_args()
    if not options.s3:
        with tempfile.TemporaryDirectory() as folder:
            measured(folder, options.chunks)
        return
    script = Path(__file__).parents[1] / "tests/s3_server.py"
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip
        fsspec.filesystem("s3", use_listings_cache=False).mkdir("s3://bench")
        measured("s3://bench/results", options.chunks)
        server.kill()


if __name__ == "__main__":
    main()
