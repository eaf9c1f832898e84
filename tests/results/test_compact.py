"""Packed results are the same results: for every reader, after every kill, beside a rival."""

import hashlib
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset as wds

from scanner.errors import ConfigError, ResultsError
from scanner.records import Caption, ChunkResult, MaskRow, Reject, ScoreRow
from scanner.results import compact, coverage, manifest, stores, verify
from scanner.results.folder import TABLES, Results, _groups
from scanner.results.repair import repair
from scanner.results.score_cache import ScoreCacheReader, ScoreIndex
from scanner.shards import reading

RUN, CHUNK, SAMPLES = "r1", 3, 22
LENGTH = 110
SMALL = 6000
"""Bytes that a handful of the chunks here fills."""


def quiet(*_):
    pass


def caption_rows(item, number):
    rows = [
        ScoreRow(
            item,
            seed,
            stage="localize",
            delta_s=number / 7,
            flagged=number == 1,
            extra={"wen": 0.5},
        )
        for seed in (0, 1)
    ]
    heatmap = np.full(4, number, "<f2").tobytes()
    return rows, MaskRow(
        item,
        0,
        metric="delta_h",
        baseline="null",
        height=2,
        width=2,
        heatmap=heatmap,
        sigma=0.1,
        image=b"\xff" * number,
    )


def commit_shard(results, url, *, only=None):
    index = reading.index(reading.stat(url), CHUNK)
    for chunk in index.chunks[:only]:
        rows = ChunkResult()
        for number, item in enumerate(reading.read(chunk, images=False)):
            if isinstance(item, Reject):
                rows.rejects.append(item)
                continue
            scores, mask = caption_rows(item, number)
            rows.scores += scores
            rows.masks += [mask] if number == 1 else []
        facts = {
            "shard": url, "shard_id": chunk.shard.id, "number": chunk.number, "start": 0,
            "chunk_samples": chunk.samples, "stop": chunk.samples, "samples": chunk.samples,
            "shard_chunks": len(index.chunks), "problem": None,
        }  # fmt: skip
        results.commit(RUN, chunk.name, rows, extra=["wen"], facts=facts)


def write_shard(path, samples=SAMPLES):
    with wds.TarWriter(str(path)) as sink:
        for number in range(samples):
            text = "" if number % 9 == 5 else f"caption {number} of {path.stem}"
            sink.write({"__key__": f"k{number:03d}", "txt": text})
    return str(path)


def made(root, folder, count=2):
    results = Results(root)
    results.write_run(RUN, {"status": "complete", "started": "2030"})
    for name in "ab"[:count]:
        commit_shard(results, write_shard(folder / f"{name}.tar"))
    known = coverage.written(coverage.committed(results.commits(RUN).values()))
    results.write_run(RUN, {"status": "complete", "started": "2030", coverage.KEY: known})
    return results


@pytest.fixture
def tmp_path(tmp_path):
    """A folder whose path is as long everywhere: rows hold it, and decide how many fill a pack."""
    folder = tmp_path / "".ljust(LENGTH - len(str(tmp_path)) - 1, "x")
    folder.mkdir()
    return folder


@pytest.fixture(params=["folder", "s3"])
def run(request, tmp_path):
    at = tmp_path / "r"
    if request.param == "s3":
        at = f"{request.getfixturevalue('s3').bucket}/r"
    return made(at, tmp_path)


@pytest.fixture
def local(tmp_path):
    return made(tmp_path / "r", tmp_path)


def rows(results):
    """Every row that counts, as text, in order, by table."""
    found = {}
    for table, parts in results.parts([RUN]).items():
        tables = [
            results.read_rows(part.path, start, stop)
            for part in parts for _, start, stop in part.spans
        ]  # fmt: skip
        found[table] = sorted(str(sorted(row.items())) for t in tables for row in t.to_pylist())
    return found


def data_files(results):
    found = [e.name for table in TABLES for e in results.store.entries(f"{table}/run={RUN}")]
    return sorted(found)


def pack(results, target=SMALL, *, grace=None):
    done = compact.compact(results, RUN, quiet, target=target)
    if grace is not None:
        compact.remove_old(results, done, grace=grace)
    compact.note_old(results, done)
    return done


def sound(results, **options):
    found = verify.verify(results, RUN, quiet, **options)
    assert found.is_sound, found.problems
    return found


def test_packed_rows_are_the_same_rows_and_old_files_go_when_they_may(run):
    before, commits, old = rows(run), run.commits(RUN), data_files(run)
    assert {table: len(found) for table, found in before.items()} == {
        "scores": 80, "masks": 14, "rejects": 4,
    }  # fmt: skip
    done = pack(run)
    assert (done.chunks, done.files_before, done.old_files) == (16, len(old), len(old))
    assert 1 < done.packs < 8
    assert done.files_after == len(run.files("scores")) + len(run.files("masks")) + len(
        run.files("rejects")
    )
    assert not set(run.files("scores")) & {run.store.address(name) for name in old}
    fresh = Results(run.root)
    assert rows(fresh) == before
    assert fresh.commits(RUN) == commits
    found = sound(fresh, keys=True)
    assert (found.chunks, found.samples, found.shards_read) == (16, 2 * SAMPLES, 2)
    assert found.problems == []
    assert found.notes == [
        f"{len(old)} files are packed: memscan compact --remove-old removes them"
    ]
    assert set(old) < set(data_files(run))

    pack(run, grace=3600)  # the packs are too young
    assert set(old) < set(data_files(run))
    done = pack(run, grace=0)
    assert (done.removed, done.old_files) == (len(old), 0)
    assert data_files(run) == sorted(
        part.path for parts in run.parts([RUN]).values() for part in parts
    )
    assert rows(Results(run.root)) == before
    assert sound(run, keys=True).notes == []
    assert (pack(run, grace=0).chunks, pack(run, grace=0).removed) == (0, 0)


def test_what_was_scored_is_recalled_from_packs_also_when_they_are_made_meanwhile(run):
    copy, other = Caption("new.tar", "k", "caption 4 of b"), Caption("new.tar", "l", "unheard of")
    (index := ScoreIndex()).load(run, [RUN])
    recall = ScoreCacheReader(run, index)
    before = recall.rows([copy, other])
    assert [(r.caption, r.seed, r.delta_s, r.extra) for r in before[copy.sha256]] == [
        (copy, seed, 1 / 7, {"wen": 0.5}) for seed in (0, 1)
    ]
    pack(run, grace=0)
    assert recall.rows([copy, other]) == before  # its files are gone: looked up anew
    (fresh := ScoreIndex()).load(Results(run.root), [RUN])
    assert len(fresh) == len(index) == 40
    assert ScoreCacheReader(Results(run.root), fresh).rows([copy, other]) == before


def test_a_pack_grows_by_what_is_committed_later(local, tmp_path):
    pack(local, 1 << 20)
    commit_shard(local, write_shard(tmp_path / "c.tar", 7))
    before = rows(local)
    done = pack(local, 1 << 20, grace=0)
    assert (done.packs, done.chunks, done.old_files) == (1, 16 + 3, 0)
    assert local.history(RUN).in_effect == (1,)
    assert [len(local.files(table)) for table in TABLES] == [1, 1, 1]
    assert rows(local) == before
    sound(local, keys=True)
    assert pack(local, 1 << 20).chunks == 0


def test_an_entry_is_decoded_once_while_its_bytes_are_the_same(local, monkeypatch):
    pack(local)
    seen, read = [], manifest.read_entry
    monkeypatch.setattr(manifest, "read_entry", lambda *of: seen.append(of[2]) or read(*of))
    results = Results(local.root)
    first = results.read_committed(RUN)
    number = len(seen)
    assert number > 1
    assert results.read_committed(RUN) == first
    assert len(seen) == number, "nothing was decoded again"
    name = manifest.entry_name(RUN, 0)
    local.store.put(name, local.store.read(name) + b" ")
    assert results.read_committed(RUN) == first
    assert seen[number:] == [name]
    local.store.put(name, b"{")
    with pytest.raises(ResultsError, match="damaged"):
        results.read_committed(RUN)


def test_only_the_shards_that_are_asked_for_are_read_of_a_pack(local, tmp_path):
    from scanner.analysis.query import connect

    ids = [reading.stat(str(tmp_path / f"{name}.tar")).id for name in "ab"]
    wanted = "SELECT * FROM scores ORDER BY ALL", "SELECT * FROM masks ORDER BY ALL"
    views = [None, {ids[0]}, {ids[1]}, set(ids), set()]
    before = [[connect(local, shards=view).execute(sql).fetchall() for sql in wanted]
              for view in views]  # fmt: skip
    assert [len(found[0]) for found in before] == [80, 40, 40, 80, 0]
    pack(local, 1 << 20)
    after = [[connect(local, shards=view).execute(sql).fetchall() for sql in wanted]
             for view in views]  # fmt: skip
    assert after == before
    assert "file_row_number" not in connect(local, shards={ids[1]}).table("scores").columns


def test_a_query_that_has_begun_ends_and_the_next_reads_packs(local):
    from scanner.analysis.query import connect

    con, sql = connect(local), "SELECT * FROM finding_maps ORDER BY ALL"
    before = con.execute(sql).fetchall()
    pack(local, grace=3600)
    assert con.execute(sql).fetchall() == before
    assert connect(local).execute(sql).fetchall() == before


def killed_at(call, root):
    """Compact in a process that kills itself at a change of the store; True if it got there."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == signal.SIGKILL
    calls = iter(range(1000))
    for name in ("put", "create", "remove"):
        change = getattr(stores.LocalStore, name)

        def strike(self, *args, change=change):
            number = next(calls)
            if number == call and number % 2:  # before or after the change
                os.kill(os.getpid(), signal.SIGKILL)
            done = change(self, *args)
            if number == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        setattr(stores.LocalStore, name, strike)
    compact.AT_ONCE = 1
    pack(Results(root), 2500, grace=0)
    os._exit(0)


def test_killed_at_any_change_of_the_store_nothing_is_lost_and_the_next_call_ends_it(tmp_path):
    results = made(tmp_path / "r", tmp_path, count=1)
    before, commits = rows(results), results.commits(RUN)
    call = 0
    while killed_at(call, tmp_path / "r"):  # what one attempt left is what the next begins with
        assert rows(results) == before
        assert results.commits(RUN) == commits
        sound(results)
        call += 1
    assert call > 6
    assert rows(results) == before
    done = pack(results, grace=0)
    assert done.old_files == 0
    listed = {part.path for parts in results.parts([RUN]).values() for part in parts}
    orphans = [p.text for p in sound(results, keys=True).problems]
    assert sorted([*listed, *orphans]) == data_files(results)


def test_two_that_pack_at_once_pack_every_chunk_once(local):
    before = rows(local)

    def attempt(_):
        try:
            return pack(Results(local.root), 2500).chunks
        except ConfigError as error:
            assert "another process packed" in str(error)  # noqa: PT017
            return None

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(attempt, range(4)))
    assert rows(local) == before
    found = sound(local, keys=True)
    assert found.problems == []  # who came too late left no file
    packed = [c for pack in local.history(RUN).effective() for c in pack.commits]
    assert len(packed) == len(set(packed))
    pack(local, 2500, grace=0)
    assert rows(local) == before
    sound(local)


def test_a_damaged_file_is_never_packed_and_never_replaced(local):
    first = next(name for name in data_files(local) if name.startswith("scores"))
    path = Path(local.root, first)
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    with pytest.raises(ResultsError, match=r".*is not what was written: memscan verify --repair"):
        pack(local, grace=0)
    assert path.read_bytes() == content[:-7]
    path.write_bytes(content)
    pack(local)
    broken = Path(local.files("scores")[0])
    broken.write_bytes(broken.read_bytes()[:-7])
    with pytest.raises(ResultsError, match=r".*pack-.*is not what was written: memscan verify"):
        pack(local, grace=0)
    assert Path(local.root, first).exists()


def test_a_damaged_pack_gives_way_to_the_files_it_replaced(local):
    before = rows(local)
    pack(local)
    broken = Path(local.files("scores")[0])
    broken.write_bytes(broken.read_bytes()[:-7])
    found = verify.verify(local, RUN, quiet)
    assert [(p.kind, p.pack) for p in found.problems] == [("damaged", 0)]
    repair(local, found)
    assert rows(local) == before
    sound(local, keys=True)
    assert len(local.committed(RUN)) == 16
    pack(local, grace=0)
    assert rows(local) == before


def test_chunks_of_a_damaged_pack_whose_old_files_are_gone_are_done_anew(local, tmp_path):
    before = rows(local)
    pack(local, grace=0)
    Path(local.files("scores")[0]).unlink()
    lost = len(local.history(RUN).packs[0].commits)
    found = verify.verify(local, RUN, quiet)
    assert [(p.kind, p.pack) for p in found.problems] == [("missing", 0)]
    repair(local, found)
    assert len(local.committed(RUN)) == 16 - lost
    found = verify.verify(local, RUN, quiet)
    assert {p.kind for p in found.problems} == {"commit", "orphan"}
    for name in "ab":
        commit_shard(local, str(tmp_path / f"{name}.tar"))
    assert rows(local) == before
    sound(local, keys=True)
    pack(local, grace=0)
    assert rows(local) == before


def test_packed_chunks_count_as_committed_and_a_dissolved_pack_gives_lost_records_back(run):
    before, names = rows(run), run.committed(RUN)
    pack(run)
    for name in names[:3]:
        run.store.remove(f"commits/{RUN}/{name}.json")
    sound(run)
    for part in {part.path for part in run.parts([RUN])["scores"]}:
        run.store.put(part, b"damaged")
    repair(run, verify.verify(run, RUN, quiet))
    assert run.committed(RUN) == names
    assert rows(Results(run.root)) == before


def test_the_loss_of_records_is_told_where_results_are(run):
    names = run.committed(RUN)
    for name in names[8:]:
        run.store.remove(f"commits/{RUN}/{name}.json")
    run.store.remove(f"commits/{RUN}/{names[1]}.json")
    found = verify.verify(run, RUN, quiet)
    told = sorted(p.text.partition(": ")[2] for p in found.problems if p.kind == "commit")
    assert told == ["no commit record of chunk 1 of 8", "no commit record of chunks 0-7 of 8"]
    assert not found.is_sound
    assert coverage.status(run.read_run(RUN), run.commits(RUN)) == "incomplete"


@pytest.mark.parametrize("content", [b"", b"{}", b'{"schema_version": 1, "run": "other"}', None])
def test_a_damaged_entry_is_named_set_aside_and_costs_nothing(local, content):
    before = rows(local)
    pack(local)
    name = manifest.entry_name(RUN, 0)
    if content is None:
        local.store.remove(name)
    else:
        local.store.put(name, content)
    with pytest.raises(ResultsError, match=rf".*{name} is (damaged|missing).*verify --repair"):
        local.files("scores")
    found = verify.verify(local, RUN, quiet)
    assert [p.kind for p in found.problems] == ["record"]
    repair(local, found)
    assert rows(local) == before
    sound(local, keys=True)


def test_an_entry_names_files_of_its_run_and_nothing_else(local):
    pack(local)
    name = manifest.entry_name(RUN, 0)
    entry = json.loads(local.store.read(name))
    entry["files"]["scores"]["path"] = "scores/run=r1/../../../secret.parquet"
    local.store.put(name, json.dumps(entry).encode())
    with pytest.raises(ResultsError, match="is no entry of this run's packs"):
        local.files("scores")


def test_rows_of_an_earlier_version_get_the_columns_of_now(local):
    record = local.commits(RUN)[local.committed(RUN)[0]]
    file = record.files["scores"]
    table = pq.read_table(Path(local.root, file.path), partitioning=None)
    name = f"commits/{RUN}/{record.chunk}.json"
    pq.write_table(table.drop_columns(["p_kind", "seed_p_value"]), Path(local.root, file.path))
    content = Path(local.root, file.path).read_bytes()
    changed = json.loads(local.store.read(name))
    digest = hashlib.sha256(content).hexdigest()
    changed["files"]["scores"] |= {"sha256": digest, "bytes": len(content)}
    local.store.put(name, json.dumps(changed).encode())
    pack(local)
    found = local.read(local.files("scores")[0])
    assert set(found.column_names) >= {"p_kind", "seed_p_value", "wen"}
    sound(local, keys=True)


def test_row_groups_are_few_and_a_look_up_reads_one(tmp_path, monkeypatch):
    monkeypatch.setattr(compact, "GROUP_ROWS", 10)
    results = made(tmp_path / "r", tmp_path)
    before = rows(results)
    pack(results, 1 << 20)
    (path,) = results.files("scores")
    metadata = pq.read_metadata(path)
    sizes = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
    assert sum(sizes) == 80
    assert all(10 <= size < 20 for size in sizes[:-1])
    assert rows(results) == before
    assert _groups(metadata, 0, sizes[0]) == ([0], 0)
    assert _groups(metadata, sizes[0], sizes[0] + 1) == ([1], sizes[0])
