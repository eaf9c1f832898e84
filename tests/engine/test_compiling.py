"""--compile as the engine passes it on: told once where it is without effect, and recorded."""

import pytest
from engine_harness import job_of, rows

from scanner.engine import Resources, scan
from scanner.engine.worker import build_scanner
from scanner.errors import ConfigError
from scanner.models.gaussian import Gaussian
from scanner.results.folder import Results
from scanner.scan.batches import BatchSize


@pytest.fixture(scope="module", autouse=True)
def ray_for_all():
    """None here."""


class Compiled(Gaussian):
    """The closed form, as if it had blocks to compile."""

    asked = None
    not_compiled = ""

    def compile_blocks(self, batch_size=None):
        Compiled.asked = batch_size


class Failing(Compiled):
    """One whose compiler fails."""

    not_compiled = "BackendCompilerFailed: no compiler here"


def built_from(kind):
    def build(job, device):
        return build_scanner(job, device, loaded=(kind(device), {}))

    return build


def scanned(corpus, out, kind, **changes):
    heard = []
    job = job_of(corpus, out, **({"compile": True} | changes))
    resources = Resources(local=True, device="cpu", threads=1)
    done = scan(job, resources, heard.append, build=built_from(kind))
    told = [event.text for event in heard if event.kind == "problem"]
    return done, told, Results(out).read_run(done.run)


def test_blocks_are_compiled_for_the_batch_size_of_the_job(corpus, tmp_path):
    done, told, record = scanned(corpus, tmp_path, Compiled)
    assert (Compiled.asked, told) == (4, [])
    assert record["config"]["compile"] is True
    assert "not_compiled" not in record["actors"][0]
    assert done.is_complete


def test_a_compiler_that_fails_is_told_once_and_stands_in_the_record(corpus, tmp_path):
    done, told, record = scanned(corpus, tmp_path / "a", Failing)
    assert len(told) == 1
    assert "--compile is without effect" in told[0]
    assert record["actors"][0]["not_compiled"] == Failing.not_compiled
    assert done.is_complete
    plain, told, _ = scanned(corpus, tmp_path / "b", Failing, compile=False)
    assert told == []
    assert plain.run == done.run
    assert rows(tmp_path / "a") == rows(tmp_path / "b")


def test_a_model_without_a_network_says_so(corpus, tmp_path):
    _, told, _ = scanned(corpus, tmp_path, Gaussian)
    assert "the model has no network" in told[0]


def test_a_network_over_several_gpus_is_not_compiled(corpus, tmp_path):
    job = job_of(corpus, tmp_path, compile=True)
    with pytest.raises(ConfigError, match="--compile and --gpus-per-actor exclude each other"):
        scan(job, Resources(gpus_per_actor=2), lambda event: None)


class Gauge:
    """Room for 37 draws."""

    draws = 0

    def work(self, batch):
        self.draws = len(batch)

    def begin(self):
        pass

    def peak(self):
        return 80 * self.draws

    def free(self):
        return 3710


def test_sizes_that_are_found_are_powers_of_two_where_networks_are_compiled():
    found = []
    for in_powers in (False, True):
        gauge = Gauge()
        size = BatchSize(None, gauge, in_powers=in_powers)
        size.each(range(300), gauge.work, lambda: None)
        found.append(size.size)
    assert found == [37, 32]
