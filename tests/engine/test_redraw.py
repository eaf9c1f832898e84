"""The job that draws a run's findings again."""

import pytest

from scanner.engine.redraw import job_of, redraw, refuse
from scanner.errors import ConfigError
from scanner.results.run_file import RunFile
from scanner.spec import ScanSpec


def record(**changes):
    spec = {"seeds": [0, 1], "steps": 7, "guidance_scale": 2.5, "maps": ["delta_h", "snap_back"],
            "source": "auto", "fdr": 0.1, "flag_by": "wen", "detectors": ["wen"],
            "of_a_later_version": 1} | changes  # fmt: skip
    return RunFile(spec=spec, config={"model": "gaussian", "lora": [], "offload": "none"})


def test_the_runs_own_sampling_is_drawn_with_under_other_seeds():
    job = redraw(job_of(record()), "/draws", "/a.tar", range(100, 103))
    spec = job.spec
    assert (spec.steps, spec.guidance_scale, spec.seeds) == (7, 2.5, (100, 101, 102))
    assert (spec.source, spec.localize, spec.maps) == ("generated", "all", ("delta_h",))
    assert (spec.fdr, spec.detectors, spec.flag_by) == (None, (), "delta_s")
    assert (job.results, job.shards, job.images) == ("/draws", ("/a.tar",), True)
    assert job.calibration is None


def test_a_model_that_moved_is_named():
    assert job_of(record(), "elsewhere").model == "elsewhere"
    with pytest.raises(ConfigError, match="--model"):
        job_of(RunFile())


@pytest.mark.parametrize("changes", [{"seeds": 5}, {"steps": "many"}, {"steps": 0}])
def test_settings_that_cannot_be_meant_are_refused(changes):
    with pytest.raises(ConfigError):
        job_of(record(**changes))


def test_what_cannot_be_drawn_is_refused():
    refuse(ScanSpec(), 10)
    with pytest.raises(ConfigError, match="without captions"):
        refuse(ScanSpec(source="image", captions=False), 10)
    with pytest.raises(ConfigError, match="seeds from 10 on"):
        refuse(ScanSpec(seeds=(10,)), 10)
