"""Commit records that are lost: verify names them, and the same scan does them anew."""

import pytest
from engine_harness import job_of, rows, run

from scanner.results import coverage, verify
from scanner.results.folder import Results


def looked_at(results, name):
    found = verify.verify(results, name, lambda *_: None, keys=True)
    return found, coverage.status(results.read_run(name), results.commits(name))


@pytest.mark.parametrize(("shard", "chunk", "said"), [
    ("0.tar", 1, "chunk 1 of 3"), ("0.tar", None, "chunks 0-2 of 3"), ("2.tar", None, "chunk 0 of"),
])  # fmt: skip
def test_lost_commits_are_named_and_done_anew(corpus, undisturbed, tmp_path, shard, chunk, said):
    root = tmp_path / "results"
    run(job_of(corpus[:1], root))  # the run's shards come in two scans
    job = job_of(corpus[1:], root)
    name = run(job).run
    results = Results(str(root))
    assert looked_at(results, name)[1] == "complete"
    assert looked_at(results, name)[0].is_sound
    for commit, record in results.commits(name).items():
        if record.place.shard.endswith(shard) and chunk in (None, record.place.number):
            results.store.remove(f"commits/{name}/{commit}.json")
    for _ in range(2):
        found, status = looked_at(results, name)
        (problem,) = [p for p in found.problems if p.kind == "commit"]
        assert f"{shard}: no commit record of {said}" in problem.text
        assert not found.is_sound
        assert status == "incomplete"
        if shard == "0.tar":
            run(job)  # a scan of other shards forgets nothing
    run(job_of(corpus, root))
    found, status = looked_at(results, name)
    assert found.is_sound
    assert found.problems == []
    assert status == "complete"
    assert rows(root) == rows(undisturbed[0])
