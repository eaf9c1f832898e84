"""What makes a host wait for its device does not come once a step: simulated, without a GPU.

On CUDA a number that is read from a tensor, and a tensor that is made of a number on the host,
are copies that the host waits for.
"""

from types import SimpleNamespace

import pytest
import tiny
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from scanner import models
from scanner.models.memory import sent
from scanner.scan.stages.draws import Draw
from scanner.scan.stages.sampling import detect
from scanner.spec import ScanSpec

WAITS = {"aten::_local_scalar_dense", "aten::lift_fresh", "aten::is_nonzero", "aten::nonzero"}


class Waits(TorchDispatchMode):
    """Counts operations that read a number, or make a tensor of one."""

    def __init__(self):
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.number += func.name().partition(".")[0] in WAITS
        return func(*args, **(kwargs or {}))


def waits(model, steps):
    spec = ScanSpec(steps=steps, localize="none", detectors=("wen", "increment"))
    text = "0" if model.family.encoder == "labels" else "a small red circle"
    with Waits() as seen:
        detect(model, [Draw(text, "aa", 0), Draw(text, "bb", 0)], spec)
    return seen.number


MAKERS = [tiny.sd15, tiny.sdxl, tiny.sd3, tiny.flux_dev, tiny.dit, tiny.hunyuan_dit]


@pytest.mark.parametrize("make", MAKERS)
def test_more_steps_make_the_host_wait_no_more_often(make, tmp_path):
    model = models.load(str(tiny.save(make, tmp_path)))
    waits(model, 3)  # encodes the captions
    assert waits(model, 6) == waits(model, 3)


def test_a_number_in_every_step_would_be_noticed():
    with Waits() as seen:
        torch.tensor([3.0])
        torch.ones(1).item()
    assert seen.number == 2


@pytest.mark.parametrize("make", [tiny.flux_dev, tiny.qwen_image])
def test_arguments_are_made_once_a_condition_and_forgotten_with_it(make, tmp_path):
    model = models.load(str(tiny.save(make, tmp_path)))
    x = torch.ones(1, *model.latent_shape)
    condition = model.encode(["a red circle"])
    made = model._arguments(x, condition)
    assert model._arguments(x, condition) is made
    assert model._arguments(x, condition.clone()) is not made
    again = model._arguments(x.double(), condition)
    assert again is not made
    del condition, again
    assert model._made is None


def test_the_same_condition_gives_the_same_numbers_as_a_new_one(tmp_path):
    model = models.load(str(tiny.save(tiny.flux_dev, tmp_path)))
    schedule, x = model.schedule(3), torch.ones(2, *model.latent_shape)
    conditions = [model.encode([text, ""]) for text in ("a red circle", "two stars")]
    for step in (0, 1):
        level = schedule.timesteps[step], schedule.alphas[step], schedule.sigmas[step]
        kept = [model.predict(x, level, each).output for each in conditions * 2]
        fresh = [model.predict(x, level, each.clone()).output for each in conditions * 2]
        assert all(map(torch.equal, kept, fresh))
        assert not torch.equal(kept[0], kept[1])


def test_a_timestep_in_a_tensor_is_the_number_to_the_last_bit(pipeline_folder):
    model = models.load(str(pipeline_folder))
    x, condition = torch.ones(2, *model.latent_shape), model.encode(["a red circle", ""])
    for timestep in (1, 501, 61.25):
        told = model.network(x, timestep, condition, return_dict=False)[0]
        assert torch.equal(model._output(x, timestep, condition), told)


def test_to_cuda_a_copy_is_pinned_and_not_waited_for():
    done = []

    class Values:
        def pin_memory(self):
            done.append("pinned")
            return self

        def to(self, device, **how):
            done.append(how)
            return self

    sent(Values(), SimpleNamespace(type="cuda"))
    assert done == ["pinned", {"non_blocking": True}]
    values = torch.ones(2)
    assert sent(values, torch.device("cpu")) is values
