"""Noise levels and predictions: followed as diffusers' own DDIM does, and refused in time."""

import json
import shutil
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from torch.testing import assert_close

from scanner import models
from scanner.choose.profile import profile
from scanner.engine.identity import identify, refuse
from scanner.engine.job import Job
from scanner.errors import ConfigError
from scanner.models.levels import SPACINGS, SchedulerConfig
from scanner.models.limits import baseline_reading
from scanner.models.stable_diffusion import StableDiffusion
from scanner.numerics.noise import initial_latent
from scanner.numerics.schedule import Prediction, Schedule, matched_timestep
from scanner.records import Caption
from scanner.scan.scanner import Scanner
from scanner.scan.stages.draws import Draw
from scanner.scan.stages.sampling import detect
from scanner.spec import ScanSpec

DRAW = Draw("two blue stars", "ab", 3)
PREDICTIONS = ("epsilon", "v_prediction")


def changed(folder, target, **scheduler):
    """Copy a pipeline folder with another scheduler configuration."""
    shutil.copytree(folder, target)
    file = target / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | scheduler))
    return target


def job(folder, *baselines, **spec) -> Job:
    return Job(model=str(folder), shards=("a.tar",), results="r", spec=ScanSpec(**spec),
               baselines=tuple(map(str, baselines)))  # fmt: skip


def theirs(source, steps: int, latents: torch.Tensor) -> torch.Tensor:
    pipeline = StableDiffusionPipeline.from_pretrained(
        str(source), safety_checker=None, torch_dtype=torch.float32
    )
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        DRAW.text, num_inference_steps=steps, guidance_scale=3.0, latents=latents,
        output_type="latent",
    ).images  # fmt: skip


@pytest.mark.parametrize(
    ("spacing", "prediction", "zero_snr", "to_one"),
    list(product(SPACINGS, PREDICTIONS, (False, True), (False, True))),
)
@pytest.mark.parametrize("steps", [5, 7])
def test_sampling_is_diffusers_ddim_whatever_the_scheduler_says(
    pipeline_folder, tmp_path, spacing, prediction, zero_snr, to_one, steps
):
    folder = changed(
        pipeline_folder, tmp_path / "model", timestep_spacing=spacing, prediction_type=prediction,
        rescale_betas_zero_snr=zero_snr, set_alpha_to_one=to_one,
    )  # fmt: skip
    spec = {"steps": steps, "guidance_scale": 3.0}
    if prediction == "epsilon" and zero_snr and spacing != "leading":
        with pytest.raises(ConfigError, match="predicts noise and its sampler starts at timestep"):
            refuse(job(folder, **spec))
        return
    refuse(job(folder, **spec))
    ours = models.load(str(folder))
    final = detect(ours, [DRAW], ScanSpec(**spec)).final
    latents = initial_latent(DRAW.identity, DRAW.seed, ours.latent_shape)[None]
    assert torch.isfinite(final).all()
    assert_close(final, theirs(folder, steps, latents), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_timesteps_are_those_of_diffusers_for_every_number_of_steps(spacing):
    scheduler = DDIMScheduler(timestep_spacing=spacing, steps_offset=1)
    own = SchedulerConfig.of(scheduler.config)
    for steps in range(1, 1001):
        scheduler.set_timesteps(steps)
        expected = [t for t in scheduler.timesteps.tolist() if t >= 0]  # -1 is a rounding error
        if max(expected) > 999:
            with pytest.raises(ConfigError, match="1000 steps go from timestep 1000 to 1"):
                own.sampled(steps)
        else:
            assert list(own.sampled(steps)) == expected


def test_the_usual_configuration_keeps_its_levels_numbers_and_name(pipeline_folder):
    """Leading spacing: to the last bit what one step from each timestep to the next gives."""
    model = models.load(str(pipeline_folder))
    spec = ScanSpec(steps=7, guidance_scale=3.0)
    cumulative = model.scheduler.alphas_cumprod.tolist()
    timesteps = [1 + 142 * k for k in reversed(range(7))]
    plain = Schedule.from_cumulative(timesteps, cumulative, cumulative[0])
    assert model.schedule(7) == plain
    x = initial_latent(DRAW.identity, DRAW.seed, model.latent_shape)[None]
    condition = torch.cat([model.encode([DRAW.text]), model.encode([""])])
    with torch.no_grad():
        for k, timestep in enumerate(timesteps):
            alpha, sigma = plain.alphas[k], plain.sigmas[k]
            output = model.unet(torch.cat([x, x]), timestep, condition).sample
            own, null = (output * (-alpha / sigma) - torch.cat([x, x])).chunk(2)
            noise = (null + 3.0 * (own - null)) * -sigma
            clean = (x - sigma * noise) / alpha
            x = plain.alphas[k + 1] * clean + plain.sigmas[k + 1] * noise
    assert torch.equal(detect(model, [DRAW], spec).final, x)


def test_a_name_changes_only_where_the_levels_did(pipeline_folder, tmp_path):
    import hashlib

    def of_files(folder):
        total = hashlib.sha256()
        kept = {".json", ".safetensors", ".txt", ".model"}
        for file in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in kept):
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            total.update(f"{file.relative_to(folder).as_posix()} {digest}\n".encode())
        return total.hexdigest()[:12]

    assert models.fingerprint(str(pipeline_folder)) == of_files(pipeline_folder)
    for spacing in ("linspace", "trailing"):
        folder = changed(pipeline_folder, tmp_path / spacing, timestep_spacing=spacing)
        assert models.fingerprint(str(folder)) != of_files(folder)


@pytest.fixture
def blind(pipeline_folder, tmp_path):
    """A velocity model whose first step holds no signal."""
    return changed(
        pipeline_folder, tmp_path / "blind", timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
    )  # fmt: skip


def test_a_model_without_terminal_signal_is_scanned(blind):
    spec = ScanSpec(
        steps=5, localize="all", probes=4, detectors=("wen", "wen_5", "dsm", "increment")
    )
    captions = [Caption("s.tar", f"k{n}", f"caption {n}") for n in range(3)]
    result = Scanner(models.load(str(blind)), spec).scan(captions)
    assert not result.rejects
    assert all(row.delta_s > 0 for row in result.scores)
    found = profile(models.load(str(blind)), {}, [DRAW], spec, [3, 4])
    assert all(torch.isfinite(values).all() for values in found.values())


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"detectors": ("wen_first",)}, "wen_first must have a first step with signal"),
        ({"detectors": ("sharpness", "metric2")}, "sharpness, metric2 must have a first step"),
        ({"screen": 1.0}, "screen must have a first step with signal"),
        ({"map_back": 4}, "the maps are at the first step, where this model has no signal"),
        ({"source": "image", "timestep": 999}, "timestep 999 of .* holds no signal"),
    ],
)
def test_what_needs_signal_where_there_is_none_is_refused_before_weights_are_read(
    blind, asked, text
):
    spec = {"steps": 5} | asked
    with pytest.raises(ConfigError, match=text):
        refuse(job(blind, **spec))
    with pytest.raises(ConfigError, match=text.replace("of .* holds", ".*holds")):
        Scanner(models.load(str(blind)), ScanSpec(**spec))


@pytest.mark.parametrize("family", ["FlowMatchEulerDiscreteScheduler", "EDMEulerScheduler"])
def test_schedulers_of_other_families_are_refused(pipeline_folder, tmp_path, family):
    folder = changed(pipeline_folder, tmp_path / "other", _class_name=family)
    with pytest.raises(ConfigError, match=f"the model's scheduler is a {family}"):
        refuse(job(folder))


def test_estimates_solve_what_they_say():
    torch.manual_seed(0)
    clean, noise = torch.randn(2, 1, 4, 4, 4, dtype=torch.float64)
    for alpha, a, b in ((0.6, 1.0, 0.0), (0.6, 0.6, -0.8), (0.0, 0.0, -1.0), (0.6, 1.0, -1.0)):
        sigma = (1 - alpha**2) ** 0.5
        found = Prediction(a * noise + b * clean, a, b).estimates(
            alpha * clean + sigma * noise, alpha, sigma
        )
        assert_close(found, (clean, noise))
    with pytest.raises(ValueError, match="says nothing of the clean latent"):
        Prediction(noise, 1.0, 0.0).estimates(noise, 0.0, 1.0)


class ClosedForm(torch.nn.Module):
    """A network that knows the score of N(mean, variance), told in its own words and timesteps."""

    MEAN, VARIANCE = 0.3, 0.5
    down_blocks, mid_block = (), None

    def __init__(self, scheduler: DDIMScheduler) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.config = {"sample_size": 4, "in_channels": 4}
        self.scheduler, self.told = scheduler, []

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    def forward(self, x, timestep, condition, return_dict=False):
        self.told.append(float(timestep))
        low, part = int(timestep), float(timestep) % 1
        squares = self.scheduler.alphas_cumprod.double()
        angles = torch.atan2((1 - squares).sqrt(), squares.sqrt())
        angle = float(angles[low] + part * (angles[min(low + 1, 999)] - angles[low]))
        alpha, sigma = torch.tensor(angle).cos(), torch.tensor(angle).sin()
        mean, variance = self.MEAN, self.VARIANCE
        noise = sigma * (x - alpha * mean) / (alpha**2 * variance + sigma**2)
        clean = (x - sigma * noise) / alpha
        if self.scheduler.config["prediction_type"] == "epsilon":
            return (noise,)
        return (alpha * noise - sigma * clean,)


def closed_form(prediction: str, **scheduler) -> StableDiffusion:
    own = DDIMScheduler(prediction_type=prediction, **scheduler)
    part = torch.nn.Linear(1, 1)
    part.config = {"block_out_channels": (1, 1), "latent_channels": 4}
    pipeline = SimpleNamespace(
        unet=ClosedForm(own), vae=part, text_encoder=torch.nn.Linear(1, 1), tokenizer=None,
        scheduler=own,
    )  # fmt: skip
    return StableDiffusion(pipeline, "cpu")


SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LINEAR = {"beta_start": 0.0005, "beta_end": 0.02, "beta_schedule": "linear"}


@pytest.mark.parametrize("own", PREDICTIONS)
@pytest.mark.parametrize("other", PREDICTIONS)
@pytest.mark.parametrize("levels", [SD, LINEAR])
def test_a_baseline_is_read_by_its_own_scheduler(own, other, levels):
    """Both networks know one closed form: their scores agree at every level, whatever they say."""
    model, beside = closed_form(own, **SD), closed_form(other, **levels)
    baseline = model.with_network(beside.unet, beside.unet.scheduler.config)
    x = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    for timestep in (61, 400, 900):
        schedule = model.single(timestep)
        level = (timestep, schedule.alphas[0], schedule.sigmas[0])
        alpha, sigma = level[1:]
        expected = -(x - alpha * 0.3) / (alpha**2 * 0.5 + sigma**2)
        assert_close(model.score(x, level, x), expected, rtol=1e-4, atol=1e-4)
        assert_close(baseline.score(x, level, x), expected, rtol=1e-4, atol=1e-4)
        assert (beside.unet.told[-1] == timestep) == (levels is SD)


def test_a_level_that_a_baseline_never_saw_is_refused():
    model, beside = closed_form("epsilon", **LINEAR), closed_form("epsilon", **SD)
    baseline = model.with_network(beside.unet, beside.unet.scheduler.config)
    spec = ScanSpec(source="image", timestep=0)
    with pytest.raises(ConfigError, match="was not trained at the level of the maps: its noise"):
        Scanner(model, spec, baselines={"early": baseline})
    Scanner(model, ScanSpec(source="image"), baselines={"early": baseline})


def test_a_level_is_matched_between_timesteps():
    cumulative = DDIMScheduler(**SD).alphas_cumprod.tolist()
    for timestep in (0, 1, 500, 999):
        assert matched_timestep(cumulative[timestep] ** 0.5, cumulative) == pytest.approx(timestep)
    between = (cumulative[500] * cumulative[501]) ** 0.25
    assert 500 < matched_timestep(between, cumulative) < 501
    with pytest.raises(ValueError, match="is outside"):
        matched_timestep(0.99999, cumulative)


def test_what_a_baselines_folder_says_decides_how_it_is_read_and_named(
    pipeline_folder, epsilon_folder, tmp_path
):
    """The fixtures differ in nothing but what their scheduler says of the same weights."""
    model, x = models.load(str(pipeline_folder)), torch.ones(1, 4, 16, 16)
    condition, level = model.encode(["a"]), (61, 0.9, 0.19**0.5)
    output = model.unet(x, 61, condition).sample
    early = models.load_baseline(str(epsilon_folder), model)
    assert_close(early.score(x, level, condition), output / -(0.19**0.5))
    same = identify(job(pipeline_folder, pipeline_folder)).job.spec.baseline
    assert same == models.fingerprint(str(pipeline_folder))  # as before
    other = identify(job(pipeline_folder, epsilon_folder)).job.spec.baseline
    assert other != models.fingerprint(str(epsilon_folder))
    assert baseline_reading(str(pipeline_folder), str(pipeline_folder)) == ""
    said = baseline_reading(str(pipeline_folder), str(epsilon_folder))
    assert "its output is read as epsilon, at its own timestep" in said
    shutil.copytree(epsilon_folder / "unet", tmp_path / "early")
    said = baseline_reading(str(pipeline_folder), str(tmp_path / "early"))
    assert "has no scheduler: its output is taken to be v_prediction" in said
    with pytest.raises(ConfigError, match="the one beside it is not the model's: give the pipe"):
        refuse(job(pipeline_folder, epsilon_folder / "unet"))
    with pytest.raises(ConfigError, match="the one beside it is not the model's: give the pipe"):
        models.load_baseline(str(epsilon_folder / "unet"), model)
