"""What a plan says, against what a scan then does."""

from collections import Counter
from dataclasses import replace

import pytest
from engine_harness import SPEC, job_of, run, write_shard

from scanner.engine.identity import identify
from scanner.errors import ConfigError
from scanner.planning.forecast import Forecast, forecast
from scanner.results.folder import Results
from scanner.spec import ScanSpec

pytestmark = pytest.mark.usefixtures("local_ray")


def plan(job, **settings) -> Forecast:
    usual = {"rate": 1000.0, "flagged": None, "device": "cpu", "progress": lambda *_: None}
    return forecast(job, **(usual | settings))


def spent(job) -> dict[str, int]:
    total = Counter[str]()
    for record in Results(job.results).commits(identify(job).run).values():
        total.update(record.content["evaluations"])
    return {name: total[name] for name in ("forward", "vjp", "jvp")}


@pytest.mark.parametrize(
    ("localize", "detectors"), [("all", ("sharpness",)), ("none", ("metric2", "anisotropy"))]
)
def test_a_scan_spends_the_evaluations_that_the_plan_names(tmp_path, localize, detectors):
    shard = write_shard(tmp_path / "a.tar", ["one", "two", "one", " ", "three", "two"])
    spec = ScanSpec(steps=3, probes=4, localize=localize, detectors=detectors, seeds=(0, 1))
    job = job_of([shard], tmp_path / "r", spec=spec, chunk_size=6)
    said = plan(job)
    assert (said.samples, said.captions, said.distinct, said.draws) == (6, 5, 3, 6)
    assert said.rejected == {"empty_caption": 1}
    assert plan(job, local=True) == said
    run(job, actors=1)
    named = Counter(said.detection)
    named.update(said.localization)
    assert {name: named[name] for name in ("forward", "vjp", "jvp")} == spent(job)


def test_what_is_committed_is_not_planned_again(corpus, tmp_path):
    job = job_of(corpus, tmp_path)
    first = plan(job)
    assert (first.shards, first.samples, first.done_samples) == (3, 21, 0)
    run(replace(job, limit=12), actors=1)
    again = plan(replace(job, chunk_size=100))  # the run keeps the chunks that it has
    assert (again.run, again.done_samples, again.samples) == (identify(job).run, 12, 9)
    assert (again.done_shards, again.distinct) == (1, 9)
    assert again.bytes == first.bytes == sum(path.stat().st_size for path in corpus)
    run(job, actors=1)
    over = plan(job)
    assert (over.samples, over.draws, over.done_shards, over.hours) == (0, 0, 3, 0)


def test_a_limit_holds_for_a_plan_too(corpus, tmp_path):
    assert plan(job_of(corpus, tmp_path, limit=12)).distinct == 12


def test_problems_are_named_and_the_rest_is_counted(corpus, tmp_path):
    cut = tmp_path / "cut.tar"
    cut.write_bytes(corpus[0].read_bytes()[:7000])
    job = job_of([corpus[2], cut], tmp_path / "r")
    said = plan(replace(job, shards=(*job.shards, str(tmp_path / "missing.tar"))))
    assert ["cut.tar" in said.problems[0], "missing.tar" in said.problems[1]] == [True, True]
    assert said.samples > 4


def test_hours_are_evaluations_by_the_rate(corpus, tmp_path):
    job = job_of(corpus, tmp_path, spec=replace(SPEC, localize="all"))
    said = plan(job, rate=10.0)
    assert said.run == identify(job).run
    forward = said.detection["forward"] + said.localization["forward"]
    assert said.hours == pytest.approx((forward + 2 * said.localization["vjp"]) / 36_000)
    half = plan(job_of(corpus, tmp_path), rate=10.0, flagged=0.5)
    assert half.localization["vjp"] * 2 == pytest.approx(said.localization["vjp"], rel=0.1)
    assert half.flagged_share == 0.5
    unflagged = replace(SPEC, threshold=None)
    assert plan(job_of(corpus, tmp_path, spec=unflagged), flagged=0.5).flagged_share == 0.5
    assert plan(job_of(corpus, tmp_path, spec=unflagged)).flagged_share == 0.0


def test_a_rate_without_results_needs_no_model(corpus):
    job = replace(job_of(corpus, "r"), model="/nowhere", results="")
    assert plan(job).captions == 21
    with pytest.raises(ConfigError, match="no model at /nowhere"):
        plan(job, rate=None)


def test_a_speed_is_measured_where_none_is_given(corpus, tmp_path):
    said = plan(job_of(corpus, tmp_path), rate=None, device="auto")
    assert said.speed is not None
    assert said.speed.device == "cpu"
    assert said.speed.batch_size == 4
    assert 0 < said.speed.forward < 1
    assert 0 < said.speed.vjp < 1
