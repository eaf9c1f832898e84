import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from engine_harness import CHUNK, SPEC, job_of, keys, rows, run, write_shard

from scanner.engine import Job, Resources, scan
from scanner.engine.ray_runtime import placement
from scanner.errors import ConfigError, ResultsError
from scanner.methods.declaration import existing
from scanner.methods.registry import DETECTORS, MAPS
from scanner.results.folder import Results
from scanner.scan import cost
from scanner.spec import ScanSpec

EVERY = sorted((f"{s}.tar", f"{n:05d}") for s, size in enumerate((10, 7, 4)) for n in range(size))


def test_a_scan_gives_each_sample_once_and_counts_it(undisturbed):
    root, summary, events = undisturbed
    assert keys(root) == EVERY
    assert (summary.samples, summary.scored, summary.rejected) == (21, 21, 0)
    assert (summary.chunks_done, summary.chunks_skipped) == (6, 0)
    assert summary.is_complete
    assert 0 < summary.denoiser_share <= 1
    assert sum(summary.time_shares.values()) == pytest.approx(1)
    told = Results(str(root)).read_run(summary.run)["timings"]
    assert told["time_shares"] == pytest.approx(summary.time_shares)
    assert len({(key, row) for key, row in keys(root, "masks")}) == summary.flagged
    assert Counter(event.kind for event in events)["chunk"] == 6
    assert (events[-1].kind, events[-1].samples_done, events[-1].samples_total) == ("end", 21, 21)


def test_the_record_of_a_run_says_what_ran_and_what_came_of_it(undisturbed):
    root, summary, _ = undisturbed
    record = Results(str(root)).read_run(summary.run)
    assert record["status"] == "complete"
    assert record["counts"]["samples"] == 21
    assert record["config"]["model"] == "gaussian"
    assert record["identity"]["spec"] == SPEC.fingerprint()
    assert {"memscan", "torch", "diffusers", "ray"} <= set(record["versions"])
    assert all(actor["device"] == "cpu" and actor["pid"] > 0 for actor in record["actors"])
    assert record["timings"]["total_seconds"] >= record["timings"]["seconds"] > 0


def test_asking_for_everything_costs_one_trajectory_and_each_methods_own_and_the_run_says_so(
    corpus, tmp_path
):
    """Of one draw a caption: the record's sum is the commits', and the registry's times draws."""
    closed = tuple(name for name in DETECTORS if name not in ("bright_ending", "spread"))
    maps = tuple(
        name
        for name in existing(MAPS.values(), "generated")
        if name not in ("bright_ending", "combined")
    )
    asked = ScanSpec(steps=6, probes=4, localize="all", detectors=closed, maps=maps)
    first = run(job_of(corpus, tmp_path, spec=asked, limit=9))
    summary = run(job_of(corpus, tmp_path, spec=asked))
    assert first.evaluations["draws"] == 9
    record = Results(str(tmp_path)).read_run(summary.run)
    committed = Counter()
    for commit in Results(str(tmp_path)).commits(summary.run).values():
        committed.update(commit.content["evaluations"])
    assert record["counts"]["evaluations"] == summary.evaluations == dict(committed)
    assert committed["draws"] == 21
    own = {  # beyond 2 evaluations a step: sharpness, metric2, anisotropy, maps, flipd
        "forward": 5 * 2, "vjp": 2 + 2 * 4 + 2 * 4, "jvp": 2,
    }  # fmt: skip
    assert {name: committed[name] / 21 for name in own} == own | {"forward": 12 + own["forward"]}
    assert dict(cost.evaluations(asked, localized=True, probes=4)) == {
        name: committed[name] / 21 for name in own
    }


def test_a_second_scan_does_nothing_whatever_chunk_size_it_asks_for(corpus, undisturbed):
    root, first, _ = undisturbed
    before, events = rows(root), []
    again = run(job_of(corpus, root, chunk_size=CHUNK + 1), progress=events.append)
    assert rows(root) == before
    assert (again.chunks_done, again.chunks_skipped) == (0, 6)
    assert (again.samples, again.flagged) == (first.samples, first.flagged)
    assert not any(event.kind == "worker" for event in events)


def test_more_actors_than_shards_change_nothing(corpus, undisturbed, tmp_path):
    run(job_of(corpus[2:], tmp_path, chunk_size=2), actors=3)
    assert rows(tmp_path) == [row for row in rows(undisturbed[0]) if "of shard 2'" in row]


def test_limits_are_filled_up_to_the_whole_without_a_repetition(corpus, undisturbed, tmp_path):
    first = run(job_of(corpus, tmp_path, limit=5), actors=1)
    assert (first.samples, keys(tmp_path)) == (5, EVERY[:5])
    again = run(job_of(corpus, tmp_path, limit=5), actors=1)
    assert (again.samples, again.chunks_done) == (5, 0)
    whole = run(job_of(corpus, tmp_path), actors=1)
    assert whole.samples == 21
    assert rows(tmp_path) == rows(undisturbed[0])


def test_a_cut_shard_and_a_missing_one_are_told_of_and_the_rest_is_scanned(corpus, tmp_path):
    cut = write_shard(tmp_path / "cut.tar", [f"cut {n}" for n in range(5)])
    with tarfile.open(cut) as tar:
        end = tar.getmembers()[3].offset_data + 2
    cut.write_bytes(cut.read_bytes()[:end])
    job = job_of([corpus[2], cut], tmp_path / "results")
    missing = str(tmp_path / "missing.tar")
    job = replace(job, shards=(*job.shards, missing))
    for _ in range(2):  # resuming must not forget
        summary = run(job, actors=1)
        problems = sorted(summary.incomplete)
        assert len(problems) == 2
        assert "cut.tar" in problems[0]
        assert missing in problems[1]
        found = keys(tmp_path / "results")
        assert [key for key in found if key[0] == "2.tar"] == [k for k in EVERY if k[0] == "2.tar"]
        assert len([key for key in found if key[0] == "cut.tar"]) == 3
    record = Results(str(tmp_path / "results")).read_run(summary.run)
    assert record["status"] == "incomplete"
    assert sorted(record["incomplete"]) == problems


def test_a_sample_without_a_caption_is_counted_among_the_rejected(tmp_path):
    shard = write_shard(tmp_path / "s.tar", ["one", " ", "three"])
    summary = run(job_of([shard], tmp_path / "results"), actors=1)
    assert (summary.samples, summary.scored, summary.rejected) == (3, 2, 1)
    assert keys(tmp_path / "results", "rejects") == [("s.tar", "00001")]


def test_a_model_that_is_not_there_is_refused_before_anything_starts(corpus, tmp_path):
    with pytest.raises(ConfigError, match="no model at /nowhere"):
        run(job_of(corpus, tmp_path / "results", model="/nowhere/model"))
    assert not (tmp_path / "results").exists()


def test_a_model_that_cannot_be_opened_is_refused_with_its_own_words(corpus, tmp_path):
    def refusing(job, device):
        raise ConfigError("the weights of unet are cut short: copy them again")

    def breaking(job, device):
        raise RuntimeError("shape mismatch in conv_in")

    with pytest.raises(ConfigError, match=r"^the weights of unet are cut short: copy them again$"):
        run(job_of(corpus[2:], tmp_path), build=refusing)
    with pytest.raises(ConfigError, match="the model could not be opened: RuntimeError: shape mis"):
        run(job_of(corpus[2:], tmp_path), build=breaking)
    results = Results(str(tmp_path))
    (name,) = results.runs()
    assert results.read_run(name)["status"] == "failed"


def test_results_that_cannot_be_written_stop_the_scan(corpus, tmp_path):
    def full(job, device):
        from scanner.engine.worker import build_scanner

        scanner = build_scanner(job, device)

        def detect(captions, known):
            raise ResultsError("no space left on device")

        scanner.detect = detect
        return scanner

    with pytest.raises(ResultsError, match="no space left"):
        run(job_of(corpus[2:], tmp_path), build=full)


@pytest.mark.parametrize("changes", [{"shards": ()}, {"limit": 0}, {"chunk_size": 0}])
def test_a_job_that_cannot_be_meant_is_refused(changes):
    settings = {"model": "gaussian", "shards": ("a.tar",), "results": "r", "spec": SPEC} | changes
    with pytest.raises(ConfigError):
        Job(**settings)


def test_cuda_where_there_is_none_is_refused(corpus, tmp_path):
    with pytest.raises(ConfigError, match="device cuda needs a GPU"):
        scan(job_of(corpus, tmp_path), Resources(device="cuda"), lambda event: None)
    with pytest.raises(ConfigError, match="device must be one of"):
        Resources(device="gpu")


@pytest.mark.parametrize(
    ("asked", "have", "device", "actors", "share", "threads"),
    [
        ({}, {"CPU": 8}, "cpu", 8, {"num_cpus": 1}, 1),
        ({"actors": 2}, {"CPU": 8}, "cpu", 2, {"num_cpus": 1}, 4),
        ({"actors": 12}, {"CPU": 2}, "cpu", 12, {"num_cpus": 0.1666}, 1),
        ({}, {"CPU": 8, "GPU": 4}, "cuda", 4, {"num_gpus": 1, "num_cpus": 0}, 2),
        ({"actors": 3}, {"CPU": 8, "GPU": 2}, "cuda", 3, {"num_gpus": 0.5, "num_cpus": 0}, 2),
        ({"device": "cpu"}, {"CPU": 8, "GPU": 4}, "cpu", 8, {"num_cpus": 1}, 1),
        (
            {"device": "cuda", "actors": 8, "address": "auto", "threads": 3},
            {"CPU": 4}, "cuda", 8, {"num_gpus": 1, "num_cpus": 0}, 3,
        ),
        (
            {"gpus_per_actor": 3}, {"CPU": 8, "GPU": 8}, "cuda", 2,
            {"num_gpus": 3, "num_cpus": 0}, 4,
        ),
        (
            {"device": "cuda", "gpus_per_actor": 2, "address": "auto"},
            {"CPU": 4}, "cuda", 1, {"num_gpus": 2, "num_cpus": 0}, 4,
        ),
    ],
)  # fmt: skip
def test_actors_are_placed_one_to_a_device_or_share_evenly(
    asked, have, device, actors, share, threads
):
    assert placement(Resources(**asked), have) == (device, actors, share, threads)
    if "address" not in asked and "gpus_per_actor" not in asked:
        units = have["GPU"] if device == "cuda" else have["CPU"]
        assert all(amount * -(-actors // units) <= 1 for amount in share.values())


@pytest.mark.parametrize(
    ("asked", "have", "said"),
    [
        ({}, {"CPU": 8}, "splits a model over GPUs, and Ray has none: leave it out"),
        ({}, {"CPU": 8, "GPU": 1}, "1 actors of 2 GPUs need 2, and Ray has 1"),
        ({"actors": 3}, {"CPU": 8, "GPU": 4}, "3 actors of 2 GPUs need 6, and Ray has 4"),
    ],
)
def test_actors_of_several_gpus_that_do_not_fit_are_refused(asked, have, said):
    with pytest.raises(ConfigError, match=said):
        placement(Resources(gpus_per_actor=2, **asked), have)


def test_a_model_is_not_split_over_other_devices_than_gpus():
    with pytest.raises(ConfigError, match="split over GPUs alone, got 2 GPUs an actor and device"):
        Resources(device="cpu", gpus_per_actor=2)
    with pytest.raises(ConfigError, match="gpus_per_actor must be at least 1, got 0"):
        Resources(gpus_per_actor=0)


def test_this_process_reads_no_shard_and_loads_no_network():
    source = Path(scan.__code__.co_filename).read_text()
    assert "shards.read" not in source
    assert "torch" not in source


def test_events_tell_counts_actor_and_place_of_every_chunk(corpus, undisturbed):
    root, summary, events = undisturbed
    chunks = [event for event in events if event.kind == "chunk"]
    assert {event.run for event in events if event.kind != "phase"} == {summary.run}
    assert {event.shard for event in chunks} == {str(path) for path in corpus}
    actors = {event.actor for event in events if event.kind == "worker"}
    assert {event.actor for event in chunks} <= actors
    for name in ("samples", "scored", "localized", "flagged", "rejected"):
        assert sum(event.counts[name] for event in chunks) == getattr(summary, name), name
    assert all(0 < e.counts["denoiser_seconds"] <= e.counts["seconds"] for e in chunks)
    assert summary.localized == len(set(keys(root, "masks")))
    assert [event.time for event in events] == sorted(event.time for event in events)
    last = events[-1]
    assert (last.shards_counted, last.shards_total, last.waiting, last.running) == (3, 3, 0, 0)


def test_events_tell_why_samples_are_rejected_and_what_a_limit_leaves_out(corpus, tmp_path):
    shard, events = write_shard(tmp_path / "s.tar", ["one", " ", "three"]), []
    run(job_of([shard, *corpus], tmp_path / "r", limit=3), actors=1, progress=events.append)
    (chunk,) = [event for event in events if event.kind == "chunk"]
    assert chunk.counts["reasons"] == {"empty_caption": 1}
    assert events[-1].shards_counted == events[-1].shards_total < 4
