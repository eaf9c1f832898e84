"""A small results folder with everything that the pages show, and a client that is let in."""

from pathlib import Path

import numpy as np
import webdataset
from made_results import commit, jpeg, mask, score
from starlette.testclient import TestClient

from scanner.records import Reject, RejectReason
from scanner.results.folder import Results
from scanner.serve.application import application
from scanner.serve.gate import Access
from scanner.serve.source import Source

HOSTILE = [
    "<script>document.title='pwned'</script>",
    "\"quotes\" & 'more' <b onmouseover=alert(1)>bold</b>",
    "\u202eright to left\u2066 and \x00\x1b[31m controls",
]
PLAIN = [
    "a small red circle on a blue ground", "a small red circle on a green ground",
    "two blue stars by night", "the hidden garden by lofe gadu", "=HYPERLINK(1)", "100% cotton _",
]  # fmt: skip
PATTERN = (
    np.add.outer(np.arange(16.0), np.arange(16.0)) * 3 - 10 + 9 * (np.indices((16, 16)).sum(0) % 2)
)


def fill(results: Results, run: str, shard: str, texts: list[str], *, times: float = 1.0) -> None:
    """Commit captions, the first three flagged and with maps under two seeds."""
    scores, maps = [], []
    for n, text in enumerate(texts):
        level, p_value = times * (100.0 - n), None if n == 5 else (n + 1) / 100
        for seed in (0, 1):
            scores.append(
                score(
                    text, level + seed, key=f"k{n}", seed=seed, shard=shard, flagged=n < 3,
                    p_value=p_value, extra={"wen": float(n % 4)}, stage="localize",
                )
            )  # fmt: skip
            if n < 3:
                maps += [
                    mask(text, PATTERN + seed, metric="delta_h", seed=seed, threshold=40.0,
                         key=f"k{n}", image=jpeg(32), shard=shard),
                    mask(text, PATTERN, metric="delta_s", seed=seed, key=f"k{n}", shard=shard),
                ]  # fmt: skip
    rejects = [Reject(shard, "k99", RejectReason.EMPTY_CAPTION, "it is <b>blank</b>")]
    commit(results, run, scores, maps, rejects)


def write_shard(path: Path, number: int) -> str:
    with webdataset.TarWriter(str(path)) as tar:
        for n in range(number):
            tar.write({"__key__": f"k{n}", "txt": "x", "jpg": jpeg(40, level=200)})
    return str(path)


def signed_in(source: Source, marks: Path | None = None, **how: object) -> TestClient:
    """A client that came by the link."""
    access = Access(port=8765, **how)
    client = TestClient(application(source, access, marks), base_url="http://127.0.0.1:8765")
    client.get(access.url())
    client.access = access
    return client
