"""Evaluations and hours of models that a plan has not looked at, by a rate; no Ray is started."""

from dataclasses import replace

import pytest
import typer.testing
from engine_harness import job_of, write_shard

from scanner.cli import app
from scanner.planning.forecast import Forecast, forecast
from scanner.spec import ScanSpec

SPEC = ScanSpec(localize="all")


@pytest.fixture
def job(tmp_path):
    shard = write_shard(tmp_path / "a.tar", ["one", "two", "three"])
    return replace(job_of([shard], "", spec=SPEC), model="someone/a-model", results="")


def plan(job, **settings) -> Forecast:
    usual = {"rate": 10.0, "flagged": None, "device": "cpu", "local": True}
    return forecast(job, progress=lambda *_: None, **(usual | settings))


@pytest.mark.parametrize("probes", [16, 18, 32, 64, 128])
def test_a_model_that_was_not_looked_at_takes_the_products_that_were_asked_for(job, probes):
    said = plan(replace(job, spec=replace(SPEC, probes=probes)))
    assert not said.model_checked
    assert (said.probes, said.is_probes_assumed) == (probes, False)
    assert said.localization == {"forward": 6, "vjp": 3 * 2 * probes}


def test_a_plan_says_that_products_are_assumed_where_the_model_decides_them(job):
    assert plan(replace(job, auto_probes=True)).is_probes_assumed
    rademacher = replace(SPEC, probe_design="rademacher")
    assert not plan(replace(job, auto_probes=True, spec=rademacher)).is_probes_assumed
    known = plan(replace(job, auto_probes=True, model="gaussian"))
    assert (known.probes, known.is_probes_assumed) == (16, False)


@pytest.mark.parametrize("gradient", [1.2, 2.0])
def test_hours_are_forward_evaluations_and_gradients_at_their_own_cost(job, gradient):
    said = plan(job, rate=50.0, gradient=gradient)
    seconds = (3 * 102 + gradient * 3 * 32) / 50.0
    assert said.hours == pytest.approx(seconds / 3600)


def printed(job, *more):
    arguments = ["plan", *job.shards, "--model", job.model, "--local", "--localize", "all", *more]
    return typer.testing.CliRunner().invoke(app, arguments)


def test_the_command_names_the_assumption_and_the_cost_of_a_gradient(job):
    said = printed(job, "--rate", "50", "--gradient-cost", "1.2")
    assert said.exit_code == 0, said.output
    assert "16 a map and branch are assumed" in said.output
    assert "a gradient takes as long as 1.2" in said.output
    sure = printed(job, "--rate", "50", "--probes", "64").output
    assert "assumed" not in sure
    assert "384 gradients" in sure
    assert "a gradient takes as long as 2.0" in sure


def test_the_cost_of_a_gradient_needs_a_rate(job):
    said = printed(job, "--gradient-cost", "1.2")
    assert said.exit_code != 0
    assert "--gradient-cost goes with --rate" in str(said.exception)
