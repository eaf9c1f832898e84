"""Conversions between what networks predict and the score."""

import pytest
import torch
from torch.testing import assert_close

from scanner.models.gaussian import Gaussian
from scanner.numerics.maps import smooth
from scanner.numerics.schedule import Schedule, ddim_step, score_of_noise, score_of_velocity


@pytest.mark.parametrize("alpha", [0.05, 0.6, 0.9991])
def test_noise_and_velocity_give_the_same_score(alpha):
    sigma = (1 - alpha**2) ** 0.5
    torch.manual_seed(0)
    clean, noise = torch.randn(2, 3, 4, 4, 4, dtype=torch.float64)
    x, velocity = alpha * clean + sigma * noise, alpha * noise - sigma * clean
    assert_close(score_of_velocity(velocity, x, alpha, sigma), score_of_noise(noise, sigma))


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
