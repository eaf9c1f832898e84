"""Conversions between what networks predict and the score."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from scanner.models.gaussian import Gaussian
from scanner.numerics.maps import smooth
from scanner.numerics.schedule import (
    Prediction,
    Schedule,
    ddim_end,
    ddim_step,
    score_of_noise,
    target,
)
from scanner.numerics.thresholding import Thresholding

TARGETS = ("epsilon", "sample", "v_prediction", "flow", "reversed flow")


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("alpha", [0.05, 0.6, 0.9991])
@pytest.mark.parametrize("is_flow", [False, True])
def test_every_target_gives_the_same_score_clean_latent_and_noise(name, alpha, is_flow):
    sigma = 1 - alpha if is_flow else (1 - alpha**2) ** 0.5
    torch.manual_seed(0)
    clean, noise = torch.randn(2, 3, 4, 4, 4, dtype=torch.float64)
    x, (a, b) = alpha * clean + sigma * noise, target(name, alpha, sigma)
    found = Prediction(a * noise + b * clean, a, b)
    assert_close(found.score(x, alpha, sigma), score_of_noise(noise, sigma))
    assert_close(found.estimates(x, alpha, sigma), (clean, noise))
    for other in TARGETS:
        wanted = Prediction(x, *target(other, alpha, sigma))
        put = found.put_as(wanted, x, alpha, sigma)
        assert_close(put.output, wanted.noise * noise + wanted.clean * clean)


@pytest.mark.parametrize("flow", [1, -1])
def test_a_flows_step_is_eulers_and_starts_without_signal(flow):
    schedule = Schedule.from_flow((1.0, 0.7, 0.0), flow)
    torch.manual_seed(0)
    x, output = torch.randn(2, 3, 4, 4, 4, dtype=torch.float64)
    for step, (sigma, after) in enumerate([(1.0, 0.7), (0.7, 0.0)]):
        found = Prediction(output, flow, -flow).estimates(x, 1 - sigma, sigma)
        end = ddim_end(*found, schedule, step)
        assert_close(end, x + (after - sigma) * flow * output)
    assert_close(Prediction(output, flow, -flow).score(x, 0.0, 1.0), -x)


def test_what_does_not_decide_a_score_is_refused():
    noise = torch.ones(1, 1, 2, 2)
    assert_close(Prediction(noise, 1.0, 0.0).score(noise, 0.0, 1.0), -noise)
    with pytest.raises(ValueError, match="a target must be one of epsilon, sample"):
        target("velocity", 0.6, 0.8)


def test_ddim_transports_a_standard_normal_onto_itself():
    # the score of N(0, 1) at any level is -x, and its DDIM path is constant up to step size
    model = Gaussian()
    schedule = model.schedule(500)
    x = torch.linspace(-2, 2, 256).reshape(1, 4, 8, 8)
    start = x
    for step in range(500):
        x = ddim_step(x, -x, schedule, step)
    assert_close(x, start, rtol=0.02, atol=1e-3)


def test_a_schedule_refuses_levels_that_do_not_fit():
    with pytest.raises(ValueError, match="2 steps need 3 levels, got 2 alphas and 3 sigmas"):
        Schedule((2, 1), (0.1, 0.2), (0.1, 0.2, 0.3))


def test_smoothing_keeps_constants_and_shrinks_at_the_border():
    assert_close(smooth(torch.full((1, 5, 5), 3.0), 3), torch.full((1, 5, 5), 3.0))
    corner = torch.zeros(1, 3, 3)
    corner[0, 0, 0] = 4
    assert smooth(corner, 3)[0, 0, 0] == 1.0
    with pytest.raises(ValueError, match="window must be odd"):
        smooth(corner, 2)


@pytest.mark.parametrize(
    "config",
    [
        {"thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 1.5},
        {"clip_sample": True},
        {"clip_sample": False},
    ],
)
def test_clean_pictures_are_thresholded_as_diffusers_sampler_does(config):
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler(**{"clip_sample": False, **config})
    theirs.set_timesteps(4)
    timesteps, squares = theirs.timesteps.tolist(), theirs.alphas_cumprod.tolist()
    final = float(theirs.final_alpha_cumprod)
    schedule = replace(
        Schedule.from_cumulative(timesteps, squares, final),
        thresholding=Thresholding.configured(config),
    )
    torch.manual_seed(0)
    x, noise = 2 * torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    expected = theirs.step(noise, timesteps[2], x).prev_sample
    found = ddim_step(x, score_of_noise(noise, schedule.sigmas[2]), schedule, 2)
    assert_close(found, expected)
