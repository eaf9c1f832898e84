"""A closed-form flow through the scanner, written out a second time in outputs and float64."""

import io
from itertools import pairwise

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from scanner.choose.profile import profile
from scanner.errors import ConfigError
from scanner.models.gaussian import Gaussian
from scanner.numerics.noise import initial_latent
from scanner.numerics.schedule import Prediction, Schedule
from scanner.records import Caption
from scanner.scan.scanner import Scanner
from scanner.scan.stages.draws import Draw
from scanner.scan.stages.sampling import detect
from scanner.spec import ScanSpec

SIGMAS = (1.0, 0.9, 0.75, 0.5, 0.2, 0.0)
CAPTIONS = [Caption("s.tar", f"k{i}", f"caption number {i}") for i in range(5)]


class Flow(Gaussian):
    """The Gaussian's densities, noised and told as a flow does."""

    def __init__(self, flow: int = 1) -> None:
        super().__init__()
        self.flow = flow

    def schedule(self, steps):
        return Schedule.from_flow(SIGMAS, self.flow)

    def single(self, timestep):
        return Schedule.from_flow((timestep / 1000, 0.0), self.flow)

    def predict(self, x, level, condition):
        _, alpha, sigma = level
        mean, variance = condition.unbind(dim=1)
        spread = alpha**2 * variance + sigma**2
        noise = sigma * (x - alpha * mean) / spread
        clean = mean + alpha * variance * (x - alpha * mean) / spread
        return Prediction(self.flow * (noise - clean), self.flow, -self.flow)

    def score(self, x, level, condition):
        return self.predict(x, level, condition).score(x, *level[1:])


def written(caption: Caption, guidance: float):
    """Latents and both outputs at every step, float64."""
    model, x = Flow(), initial_latent(caption.sha256, 0, Flow.latent_shape).double()[None]
    both = [model.encode([text]).double() for text in (caption.text, "")]
    latents, outputs = [x], []
    for sigma, after in pairwise(SIGMAS):
        own, null = (model.predict(x, (0, 1 - sigma, sigma), c).output for c in both)
        x = x + (after - sigma) * (null + guidance * (own - null))
        latents.append(x)
        outputs.append((own, null))
    return latents, outputs


@pytest.mark.parametrize("flow", [1, -1])
def test_first_steps_are_compared_in_outputs(flow):
    asked = ScanSpec(
        steps=5, guidance_scale=2.0, localize="all", probes=4,
        detectors=("wen_first", "wen", "sharpness", "metric2", "increment", "dsm", "anisotropy"),
    )  # fmt: skip
    rows = Scanner(Flow(flow), asked).scan(CAPTIONS).scores
    assert len(rows) == 5
    for row in rows:
        latents, outputs = written(row.caption, 2.0)
        (own, null), extra = outputs[0], row.extra
        norms = [float((a - b).norm()) for a, b in outputs]
        assert extra["wen_first"] == pytest.approx(norms[0], rel=1e-4)
        assert extra["wen"] == pytest.approx(sum(norms) / 5, rel=1e-4)
        # At sigma 1 the output is x - mean: both branches have the same Jacobian, the identity.
        assert extra["sharpness"] == pytest.approx(0.0, abs=1e-6)
        assert extra["metric2"] == pytest.approx(norms[0] ** 2, rel=1e-4)
        steps = [float((b - a).norm()) for a, b in pairwise(latents)]
        assert extra["increment"] == pytest.approx(max(steps), rel=1e-4)
        own, null = outputs[-1]
        difference = 0.8 * (own - null) / 0.2  # s = -n / sigma, n = x + alpha o
        expected = difference.square().sum(dim=1).mean()
        assert row.delta_s == pytest.approx(float(expected), rel=1e-3)


def test_sampling_is_eulers():
    draw = Draw(CAPTIONS[0].text, CAPTIONS[0].sha256, 0)
    found = detect(Flow(), [draw], ScanSpec(steps=5, guidance_scale=2.0)).final
    assert_close(found.double(), written(CAPTIONS[0], 2.0)[0][-1], rtol=1e-4, atol=1e-4)


def test_a_screen_looks_at_outputs_and_its_first_step_is_used():
    norms = sorted(
        float((own - null).norm())
        for own, null in (written(caption, 2.0)[1][0] for caption in CAPTIONS)
    )
    asked = ScanSpec(steps=5, guidance_scale=2.0, screen=(norms[2] + norms[3]) / 2)
    result = Scanner(Flow(), asked).scan(CAPTIONS)
    assert sorted(row.stage for row in result.scores) == ["detect"] * 2 + ["screen"] * 3
    plain = Scanner(Flow(), ScanSpec(steps=5, guidance_scale=2.0)).scan(CAPTIONS)
    by_key = {row.caption.key: row.delta_s for row in plain.scores}
    for row in result.scores:
        if row.stage == "detect":
            assert row.delta_s == by_key[row.caption.key]


def test_maps_at_the_first_step_are_refused():
    for asked in ({"map_back": 4}, {"steps": 3, "detectors": ("anisotropy",)}):
        with pytest.raises(ConfigError, match=r"at the first step, .* no signal \(a flow\)"):
            Scanner(Flow(), ScanSpec(**{"steps": 5} | asked))


def test_maps_on_the_way_are_finite_but_at_the_first_step():
    draw = Draw(CAPTIONS[0].text, CAPTIONS[0].sha256, 0)
    found = profile(Flow(), {"other": Flow(-1)}, [draw], ScanSpec(steps=5, probes=4), range(5))
    assert {step for _, _, step in found} == {1, 2, 3, 4}
    assert all(torch.isfinite(values).all() for values in found.values())
    for (_, baseline, _), values in found.items():
        if baseline == "other":  # the same densities, told the other way round
            assert_close(values, torch.zeros_like(values), rtol=0, atol=1e-3)


def test_images_without_captions_are_compared_between_targets():
    asked = ScanSpec(
        source="image", timestep=202, captions=False, maps=("delta_s",),
        detectors=("wen_first", "sharpness", "metric2"),
    )  # fmt: skip
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), "teal").save(stream, "PNG")
    caption = Caption("s.tar", "k", "", image=stream.getvalue())
    rows = Scanner(Flow(), asked, baselines={"other": Flow(-1)}).scan([caption]).scores
    for name in asked.detectors:  # the same densities: nothing to compare
        assert rows[0].extra[name] == pytest.approx(0.0, abs=1e-3)
