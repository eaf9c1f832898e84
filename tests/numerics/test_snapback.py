import pytest
import torch

from scanner.models.gaussian import Gaussian
from scanner.numerics import snapback


@pytest.fixture(scope="module")
def gaussian():
    return Gaussian()


def memorized_caption() -> str:
    """The closed form memorizes one caption in eight: its variance is small on the upper half."""
    model = Gaussian()
    return next(c for c in map(str, range(99)) if float(model.encode([c])[0, 1, 0, 0, 0]) < 0.01)


def errors(model, caption, clean, timestep):
    schedule = model.single(timestep)
    level = (timestep, schedule.alphas[0], schedule.sigmas[0])
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    x = snapback.noised(clean, noise, *level[1:])
    conditions = model.encode([caption, ""])
    return [
        snapback.denoising_error(
            x, model.score(x, level, c.expand(len(x), *c.shape)), clean, *level[1:]
        )
        for c in conditions
    ]


@pytest.mark.parametrize("timestep", [21, 201, 601])
def test_the_error_under_the_right_density_is_its_posterior_variance(gaussian, timestep):
    caption = memorized_caption()
    mean, variance = gaussian.encode([caption])[0]
    generator = torch.Generator().manual_seed(0)
    clean = mean + variance.sqrt() * torch.randn(4000, *mean.shape, generator=generator)
    own, other = errors(gaussian, caption, clean, timestep)
    schedule = gaussian.single(timestep)
    alpha, sigma = schedule.alphas[0], schedule.sigmas[0]
    exact = (variance * sigma**2 / (alpha**2 * variance + sigma**2)).sum(dim=0)
    assert own.mean(dim=0) == pytest.approx(exact, rel=0.15)
    bits = snapback.snap_back_map(own, other, 1).mean(dim=0)
    assert float(bits[:4].min()) > float(bits[4:].max())


def test_an_unrelated_image_has_no_snap_back_under_a_memorized_caption(gaussian):
    caption = memorized_caption()
    mean, variance = gaussian.encode([caption])[0]
    generator = torch.Generator().manual_seed(2)
    copy = mean + variance.sqrt() * torch.randn(50, *mean.shape, generator=generator)
    unrelated = torch.randn(50, *mean.shape, generator=generator)
    assert float(snapback.snap_back(*errors(gaussian, caption, copy, 201)).min()) > 0.5
    assert float(snapback.snap_back(*errors(gaussian, caption, unrelated, 201)).max()) < 0


def test_the_closed_form_compresses_what_it_decodes(gaussian):
    latents = torch.rand(3, 4, 8, 8, generator=torch.Generator().manual_seed(3)) * 3 - 1.5
    again = gaussian.compress(gaussian.decode(latents))
    assert again[:, :3] == pytest.approx(latents[:, :3], abs=4 / 255)


def test_a_timestep_that_the_model_lacks_is_refused(gaussian):
    with pytest.raises(ValueError, match="from 0 to 999"):
        gaussian.single(1000)
