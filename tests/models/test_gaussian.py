"""The closed form agrees with itself: score is the gradient of the log density."""

import torch
from torch.testing import assert_close

from scanner.models.gaussian import Gaussian
from scanner.numerics.curvature import exact_diagonal


def test_the_score_is_the_gradient_of_the_log_density():
    model = Gaussian()
    schedule = model.schedule(50)
    level = (schedule.timesteps[30], schedule.alphas[30], schedule.sigmas[30])
    condition = model.encode(["a caption", ""])
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    mean, variance = condition.unbind(dim=1)
    scale = (level[1] ** 2 * variance + level[2] ** 2).sqrt()
    density = torch.distributions.Normal(level[1] * mean, scale)
    (gradient,) = torch.autograd.grad(density.log_prob(x).sum(), x)
    assert_close(model.score(x, level, condition), gradient)
    curvature = -exact_diagonal(lambda y: model.score(y, level, condition), x)
    assert_close(curvature, 1 / scale.square())


def test_fifty_steps_end_at_the_papers_timesteps():
    schedule = Gaussian().schedule(50)
    assert (schedule.timesteps[0], schedule.timesteps[-3], schedule.timesteps[-1]) == (981, 41, 1)
    assert abs(schedule.sigmas[49] - 0.0413) < 5e-5
