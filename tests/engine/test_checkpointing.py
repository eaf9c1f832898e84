"""Maps that do not fit but in less memory: told once, and recorded."""

from dataclasses import replace

import pytest
import torch
from engine_harness import SPEC, job_of, rows

from scanner.engine import Resources, scan
from scanner.engine.worker import build_scanner
from scanner.models.gaussian import Gaussian
from scanner.results.folder import Results


@pytest.fixture(scope="module", autouse=True)
def ray_for_all():
    """None here."""


class Large(Gaussian):
    """The closed form, as if its products took more memory than there is until it keeps less."""

    less = False

    def score(self, x, level, condition):
        if torch.is_grad_enabled() and not self.less:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return super().score(x, level, condition)

    def checkpoint_blocks(self):
        new, self.less = not self.less, True
        return new


def scanned(corpus, out, kind):
    def build(job, device):
        return build_scanner(job, device, loaded=(kind(device), {}))

    heard = []
    resources = Resources(local=True, device="cpu", threads=1)
    job = job_of(corpus, out, spec=replace(SPEC, localize="all", maps=("delta_s", "delta_h")))
    done = scan(job, resources, heard.append, build=build)
    told = [event.text for event in heard if event.kind == "problem"]
    return done, told, Results(out).read_run(done.run)


def test_what_takes_less_memory_is_tried_told_once_and_recorded(corpus, tmp_path):
    done, told, record = scanned(corpus, tmp_path / "large", Large)
    assert (done.is_complete, len(told)) == (True, 1)
    assert "computed again for each product" in told[0]
    assert record["actors"][0]["checkpointed"] is True
    plain, told, record = scanned(corpus, tmp_path / "plain", Gaussian)
    assert told == []
    assert "checkpointed" not in record["actors"][0]
    assert plain.run == done.run
    assert rows(tmp_path / "large") == rows(tmp_path / "plain")
