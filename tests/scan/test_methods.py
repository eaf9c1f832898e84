"""Every detector and map against the closed-form model, written out a second time in float64."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from scanner import masks
from scanner.errors import ConfigError
from scanner.methods import registry
from scanner.methods.declaration import existing
from scanner.models.gaussian import Gaussian
from scanner.numerics.noise import initial_latent, probes
from scanner.records import Caption
from scanner.scan import cost
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec
from scanner.statistics.calibration import Calibration

FREE = ("wen_first", "wen_5", "wen", "dsm", "increment")
CLOSED = (*FREE, "sharpness", "flipd", "flipd_null", "anisotropy", "metric2")
SPEC = ScanSpec(
    seeds=(0, 1), steps=10, guidance_scale=2.0, localize="all", probes=4, detectors=CLOSED,
    maps=("delta_s", "delta_h", "curvature", "anisotropy", "combined_s"),
)  # fmt: skip
CAPTIONS = [Caption("s.tar", f"k{i}", f"caption number {i}") for i in range(6)]
NUMBERS = ("draws", "forward", "vjp", "jvp")


def by_key(result):
    return {(row.caption.key, row.seed): row for row in result.scores}


class Written:
    """A caption's trajectory under the Gaussian model in noises, float64, one sample at a time."""

    def __init__(self, caption, seed, steps=10, guidance=2.0):
        model = Gaussian()
        mean, variance = model.encode([caption.text])[0].double()
        self.schedule = schedule = model.schedule(steps)
        self.alphas, self.sigmas = schedule.alphas, schedule.sigmas
        self.moments = [(mean, variance), (torch.zeros_like(mean), torch.ones_like(mean))]
        x = initial_latent(caption.sha256, seed, model.latent_shape).double()
        self.x, self.e, self.slope = [x], [], []
        for k in range(steps):
            both = [self.noise(x, k, branch) for branch in (0, 1)]
            self.e.append(both)
            guided = both[1] + guidance * (both[0] - both[1])
            clean = (x - self.sigmas[k] * guided) / self.alphas[k]
            x = self.alphas[k + 1] * clean + self.sigmas[k + 1] * guided
            self.x.append(x)
        self.clean = clean

    def slopes(self, k, branch):
        """The diagonal of d eps / dx; there is nothing beside it."""
        _, variance = self.moments[branch]
        return self.sigmas[k] / (self.alphas[k] ** 2 * variance + self.sigmas[k] ** 2)

    def noise(self, x, k, branch):
        return self.slopes(k, branch) * (x - self.alphas[k] * self.moments[branch][0])

    def norms(self, steps):
        return [(self.e[k][0] - self.e[k][1]).norm().item() for k in range(steps)]

    def cosines(self):
        e_c, e_u = (self.noise(self.x[0], 7, branch) for branch in (0, 1))
        d = e_c - e_u
        return (e_u * d).sum(dim=0) / (e_u.norm(dim=0) * d.norm(dim=0))

    def flipd(self, branch):
        e = self.noise(self.alphas[9] * self.clean, 9, branch)
        return 256 - self.sigmas[9] * self.slopes(9, branch).sum() + e.square().sum()

    def scores(self):
        sigma, (e_c, e_u) = self.sigmas[0], self.e[0]
        j_c, j_u = self.slopes(0, 0), self.slopes(0, 1)
        norms = self.norms(10)
        found = {
            "wen_first": norms[0],
            "wen_5": sum(norms[:5]) / 5,
            "wen": sum(norms) / 10,
            # H = -J / sigma and s = -e / sigma.
            "sharpness": ((j_c - j_u) * (e_c - e_u) / sigma**2).square().sum(),
            "metric2": (j_c * e_c - j_u * e_u).square().sum(),
            "dsm": (self.e[2][0] - self.e[1][0]).square().sum(),
            "increment": max((b - a).norm().item() for a, b in pairwise(self.x)),
            "flipd": self.flipd(0),
            "flipd_null": self.flipd(1),
            "anisotropy": norms[0] + self.cosines().mean(),
        }
        return {name: float(value) for name, value in found.items()}


@pytest.fixture(scope="module")
def scanned():
    scanner = Scanner(Gaussian(), SPEC, batch_size=5)
    return scanner, scanner.scan(CAPTIONS)


@pytest.mark.parametrize("name", CLOSED)
def test_a_score_is_its_formula_written_out_in_noises(scanned, name):
    """float32 against float64: rtol 1e-3, for differences of nearly equal noises cancel."""
    rows = by_key(scanned[1])
    for caption in CAPTIONS:
        for seed in SPEC.seeds:
            found = rows[caption.key, seed].extra[name]
            expected = Written(caption, seed).scores()[name]
            assert found == pytest.approx(expected, rel=1e-3, abs=1e-4), (caption.key, seed)


def test_the_cosines_are_a_map_at_the_low_noise_level(scanned):
    own = [m for m in scanned[1].masks if (m.metric, m.baseline) == ("anisotropy", "null")]
    assert len(own) == len(CAPTIONS) * 2
    for row in own:
        expected = Written(row.caption, row.seed).cosines()
        stored = torch.from_numpy(masks.from_heatmap(row.heatmap, row.height, row.width))
        # A float16 heatmap is good to 2**-11 of its logarithm, here at most log(2).
        assert torch.allclose(stored, expected, atol=1e-3)
        assert row.sigma == Gaussian().schedule(10).sigmas[7]


def test_the_combined_score_map_is_the_signed_geometric_mean_of_the_two_maps(scanned):
    """Heatmaps are float16 of a logarithm: good to 2**-11 of at most 10."""
    maps = {
        (m.caption.key, m.seed, m.metric): masks.from_heatmap(m.heatmap, m.height, m.width)
        for m in scanned[1].masks
    }
    for key, seed, metric in maps:
        if metric == "combined_s":
            h, s = maps[key, seed, "delta_h"], maps[key, seed, "delta_s"]
            expected = np.sign(h) * np.sqrt(np.abs(h) * s)
            assert np.allclose(maps[key, seed, metric], expected, rtol=0.02, atol=1e-3)


def test_steps_are_kept_and_compared_with_a_calibrations(scanned):
    """Means and deviations of all but one caption; that one's worst step, written out."""
    rows = scanned[1].scores
    lengths = {(r.caption.key, r.seed): r.increments for r in rows}
    for caption in CAPTIONS:
        written = [(b - a).norm().item() for a, b in pairwise(Written(caption, 0).x)]
        assert lengths[caption.key, 0] == pytest.approx(written, rel=1e-3)
    null = np.array([steps for (key, _), steps in lengths.items() if key != "k0"])
    mean, deviation = null.mean(axis=0), null.std(axis=0, ddof=1)
    pairs = tuple(zip(mean.tolist(), deviation.tolist(), strict=True))
    calibration = Calibration("m", "s", (0.0,), {}, 0.01, 1, "", increments=pairs)
    scanner = Scanner(Gaussian(), SPEC, calibration=calibration)
    assert scanner.extra_columns[-1] == "increment_z"
    for row in scanner.scan(CAPTIONS[:2]).scores:
        own = np.array(lengths[row.caption.key, row.seed])
        expected = np.abs((own - mean) / deviation).max()
        assert row.extra["increment_z"] == pytest.approx(expected, rel=1e-3)
    again = {row.caption.sha256: [row] for row in rows if row.seed == 0}
    asked = ScanSpec(
        seeds=(0,), steps=10, guidance_scale=2.0, localize="none", detectors=("increment",)
    )
    recalled = Scanner(Gaussian(), asked, calibration=calibration).detect(CAPTIONS[:2], again)
    assert len(recalled.cached) == 2
    (row,) = recalled.verdicts[CAPTIONS[1].sha256].rows
    expected = np.abs((np.array(lengths["k1", 0]) - mean) / deviation).max()
    assert row.extra["increment_z"] == pytest.approx(expected, rel=1e-3)


def test_the_spread_is_of_the_bottleneck_at_the_last_step_captured_by_hand(pipeline_folder):
    from scanner import models
    from scanner.scan.stages.draws import Draw
    from scanner.scan.stages.sampling import detect

    model = models.load(str(pipeline_folder))
    asked = ScanSpec(steps=3, localize="none", detectors=("spread", "wen"))
    scanner = Scanner(model, asked, batch_size=2)
    rows = scanner.scan(CAPTIONS[:2]).scores
    assert scanner.evaluations["forward"] == 2 * 6
    assert not model.unet.mid_block._forward_hooks
    for row in rows:
        point = detect(model, [Draw(row.caption.text, row.caption.sha256, 0)], asked).point
        caught = []
        hook = model.unet.mid_block.register_forward_hook(lambda *io, to=caught: to.append(io[2]))
        with torch.no_grad():
            model.unet(point, model.schedule(3).timesteps[-1], model.encode([""]))
        hook.remove()
        features = caught[0][0].double().numpy()
        largest = [features[channel].max() for channel in range(len(features))]
        assert row.extra["spread"] == pytest.approx(float(np.std(largest)), rel=1e-3)


def test_maps_can_be_taken_before_the_last_step_and_everything_else_stays(scanned):
    asked = replace(SPEC, map_back=4)
    found = Scanner(Gaussian(), asked).scan(CAPTIONS[:2])
    sigmas, before = Gaussian().schedule(10).sigmas, by_key(scanned[1])
    for row in found.scores:
        expected = Written(row.caption, row.seed)
        gap = (expected.e[5][0] - expected.e[5][1]) / expected.sigmas[5]
        assert row.delta_s == pytest.approx(gap.square().sum(dim=0).mean().item(), rel=1e-3)
        unlike = before[row.caption.key, row.seed].extra
        for name in CLOSED:
            assert row.extra[name] == pytest.approx(unlike[name], rel=1e-4), name
    assert {m.metric: m.sigma for m in found.masks} == {
        "delta_s": sigmas[5], "delta_h": sigmas[5], "curvature": sigmas[5],
        "combined_s": sigmas[5], "anisotropy": sigmas[7],
    }  # fmt: skip
    assert asked.fingerprint() != SPEC.fingerprint()
    assert asked.score_fingerprint() != SPEC.score_fingerprint()
    with pytest.raises(ConfigError, match=r"map_back must be in 0..9 for 10 steps, got 10"):
        replace(SPEC, map_back=10)


def test_flipd_counts_the_loose_dimensions_of_a_memorized_caption():
    """Half of a memorized latent is as good as fixed: its dimension is about half of 256."""
    model = Gaussian()
    captions = [Caption("s.tar", f"k{i}", f"caption number {i}") for i in range(24)]
    fixed = {c.key for c in captions if model.encode([c.text])[0, 1].min() < 0.01}
    asked = ScanSpec(steps=50, localize="all", probes=4, detectors=("flipd", "flipd_null"))
    rows = Scanner(model, asked).scan(captions).scores
    assert fixed
    low = [r.extra["flipd"] for r in rows if r.caption.key in fixed]
    high = [r.extra["flipd"] for r in rows if r.caption.key not in fixed]
    assert max(low) + 50 < min(high)


def test_rows_of_every_method_do_not_depend_on_batch_or_order(scanned):
    whole = by_key(scanned[1])
    backwards = by_key(Scanner(Gaussian(), SPEC, batch_size=2).scan(CAPTIONS[::-1]))
    assert whole.keys() == backwards.keys()
    for key, row in whole.items():
        assert row.extra == pytest.approx(backwards[key].extra, rel=1e-5, abs=1e-5)
        assert set(row.extra) == {"delta_h", "curvature", *CLOSED}


def test_asking_for_everything_costs_one_trajectory_and_each_methods_own_extra(scanned):
    scanner, _ = scanned
    taken = len(probes("aa", 0, Gaussian().latent_shape, SPEC.probes, SPEC.probe_design))
    draws = len(CAPTIONS) * 2
    # A trajectory; tangents, gradients, low noise, map probes and clean probes at 2 each.
    assert {n: scanner.evaluations[n] / draws for n in NUMBERS} == {
        "draws": 1, "forward": 2 * 10 + 5 * 2, "vjp": 2 + 2 * 2 * taken, "jvp": 2,
    }  # fmt: skip
    predicted = cost.evaluations(SPEC, localized=True, probes=taken)
    assert {n: scanner.evaluations[n] / draws for n in NUMBERS[1:]} == {
        n: predicted[n] for n in NUMBERS[1:]
    }


@pytest.mark.parametrize("maps", [("delta_s", "delta_h"), ("delta_s",)])
@pytest.mark.parametrize("design", ["structured", "rademacher"])
def test_a_baseline_costs_what_is_said(maps, design):
    asked = ScanSpec(steps=6, localize="all", probes=18, probe_design=design, maps=maps)
    scanner = Scanner(Gaussian(), asked, baselines={"early": Gaussian()})
    scanner.scan(CAPTIONS[:1])
    taken = cost.probes_taken(asked, Gaussian.latent_shape[0])
    assert taken == (18 if design == "rademacher" else 16)
    expected = cost.evaluations(asked, localized=True, probes=taken, baselines=1)
    assert {n: scanner.evaluations[n] for n in NUMBERS[1:]} == {n: expected[n] for n in NUMBERS[1:]}


@pytest.mark.parametrize("name", [*CLOSED, "none"])
def test_each_method_alone_costs_what_the_registry_says(name):
    asked = ScanSpec(
        steps=6, localize="all", probes=4, maps=("delta_s",),
        detectors=() if name == "none" else (name,),
    )  # fmt: skip
    scanner = Scanner(Gaussian(), asked)
    scanner.scan(CAPTIONS[:1])
    expected = cost.evaluations(asked, localized=True, probes=4)
    assert {n: scanner.evaluations[n] for n in NUMBERS[1:]} == {n: expected[n] for n in NUMBERS[1:]}
    if name in (*FREE, "none"):
        assert expected == {"forward": 12}


def test_a_map_that_detection_did_not_give_is_paid_for_by_localized_captions_alone():
    spent = {}
    for localize in ("none", "all"):
        asked = ScanSpec(steps=6, localize=localize, maps=("anisotropy",))
        scanner = Scanner(Gaussian(), asked)
        result = scanner.scan(CAPTIONS[:1])
        spent[localize] = scanner.evaluations["forward"], [m.metric for m in result.masks]
    assert spent == {"none": (12, []), "all": (14, ["anisotropy"])}


def test_only_the_maps_that_were_asked_for_are_stored_and_the_first_has_the_picture():
    asked = ScanSpec(steps=6, localize="all", probes=4, maps=("curvature", "delta_s"))
    scanner = Scanner(Gaussian(), asked, baselines={"early": Gaussian()})
    result = scanner.scan(CAPTIONS[:1])
    stored = [(m.metric, m.baseline, m.image is not None) for m in result.masks]
    assert stored == [
        ("delta_s", "null", True), ("curvature", "none", False), ("delta_s", "early", False),
    ]  # fmt: skip
    assert scanner.extra_columns == ("curvature", "delta_s_early")
    assert set(result.scores[0].extra) == set(scanner.extra_columns)


def test_score_maps_against_an_early_network_need_no_probes():
    asked = ScanSpec(steps=6, localize="all", maps=("delta_s",))
    scanner = Scanner(Gaussian(), asked, baselines={"early": Gaussian()})
    result = scanner.scan(CAPTIONS[:1])
    assert result.scores[0].extra == {"delta_s_early": 0.0}
    assert (scanner.evaluations["forward"], scanner.evaluations["vjp"]) == (12 + 2, 0)


def test_captions_that_are_not_localized_have_no_flipd_and_all_else():
    asked = ScanSpec(steps=5, threshold=1000.0, probes=4, detectors=("wen", "flipd"))
    captions = [Caption("s.tar", f"k{i}", f"caption number {i}") for i in range(24)]
    scanner = Scanner(Gaussian(), asked)
    rows = scanner.scan(captions).scores
    assert {("flipd" in r.extra, "wen" in r.extra) for r in rows if r.flagged} == {(True, True)}
    assert {("flipd" in r.extra, "wen" in r.extra) for r in rows if not r.flagged} == {
        (False, True)
    }
    assert scanner.extra_columns == ("delta_h", "curvature", "wen", "flipd")


def test_a_detector_that_is_not_finite_rejects_its_caption():
    class Steep(Gaussian):
        def score(self, x, level, condition):
            # Enormous where the noise is pure and the level low: at `anisotropy`, nowhere else.
            value = super().score(x, level, condition)
            return value * math.nan if self.calls(level) else value

        seen = ()

        def calls(self, level):
            early = level[0] < 500 and len(self.seen) == 1
            self.seen = (*self.seen, level)
            return early

    asked = ScanSpec(steps=10, localize="none", detectors=("anisotropy",))
    rejects = Scanner(Steep(), asked).scan(CAPTIONS[:1]).rejects
    assert [r.reason for r in rejects] == ["not_finite"]


def test_bright_ending_maps_and_score_come_from_the_one_pass(pipeline_folder):
    from scanner import models
    from scanner.scan.stages.draws import Draw
    from scanner.scan.stages.sampling import detect

    model = models.load(str(pipeline_folder))
    asked = ScanSpec(
        steps=3, localize="all", probes=4, detectors=("bright_ending",),
        maps=("delta_h", "bright_ending", "combined"),
    )  # fmt: skip
    few = [Caption("s.tar", f"k{i}", t) for i, t in enumerate(["two blue stars", "a red circle"])]
    scanner = Scanner(model, asked, batch_size=2)
    result = scanner.scan(few)
    maps = {
        (m.caption.key, m.metric): masks.from_heatmap(m.heatmap, m.height, m.width)
        for m in result.masks
    }
    assert {m.baseline for m in result.masks if m.metric == "bright_ending"} == {"none"}
    assert (scanner.evaluations["forward"], scanner.evaluations["vjp"]) == (2 * (6 + 2), 2 * 8)

    for row in result.scores:
        draw = Draw(row.caption.text, row.caption.sha256, row.seed)
        seen = detect(model, [draw], asked)
        attention = seen.maps["bright_ending", "none"][0].double()
        # The trajectory a second time, plainly.
        schedule, x = model.schedule(3), initial_latent(draw.identity, 0, model.latent_shape)[None]
        conditions, norms = model.encode([draw.text, ""]), []
        for k in range(3):
            level = (schedule.timesteps[k], schedule.alphas[k], schedule.sigmas[k])
            with torch.no_grad():
                s_c, s_u = (model.score(x, level, conditions[i : i + 1]) for i in (0, 1))
                if k == 2:
                    with model.attention(model.end_tokens([draw.text])) as again:
                        model.score(x, level, conditions[:1])
            norms.append((level[2] * (s_c - s_u)[0].double() * attention).norm().item())
            noise = -level[2] * (s_u + 7.5 * (s_c - s_u))
            clean = (x - level[2] * noise) / level[1]
            x = schedule.alphas[k + 1] * clean + schedule.sigmas[k + 1] * noise
        assert torch.allclose(attention.float(), again[0], rtol=1e-3)
        expected = sum(norms) / 3 / attention.mean().item()
        assert row.extra["bright_ending"] == pytest.approx(expected, rel=1e-3)
        stored = torch.from_numpy(maps[row.caption.key, "bright_ending"])
        assert torch.allclose(stored, attention, rtol=2e-3)
        delta_h = torch.from_numpy(maps[row.caption.key, "delta_h"])
        combined = torch.from_numpy(maps[row.caption.key, "combined"])
        error = (combined - delta_h * attention / attention.mean()).norm()
        assert error < 1e-2 * combined.norm()


def test_every_method_gives_a_network_the_same_rows_in_any_batch(pipeline_folder):
    from scanner import models

    model = models.load(str(pipeline_folder))
    asked = ScanSpec(
        steps=5, localize="all", probes=4, detectors=tuple(registry.DETECTORS),
        maps=existing(registry.MAPS.values(), "generated"),
        guidance_scale=2.0,
    )  # fmt: skip
    scanner = Scanner(model, asked, batch_size=3)
    together = by_key(scanner.scan(CAPTIONS[:3]))
    apart = by_key(Scanner(model, asked, batch_size=1).scan(CAPTIONS[2::-1]))
    for key, row in together.items():
        assert set(row.extra) == set(scanner.extra_columns)
        assert row.extra == pytest.approx(apart[key].extra, rel=1e-3, abs=1e-3)
    predicted = cost.evaluations(asked, localized=True, probes=4)
    assert {n: scanner.evaluations[n] / 3 for n in NUMBERS[1:]} == dict(predicted)


def test_a_model_without_what_a_method_looks_at_is_told_so():
    for asked, name in (
        (ScanSpec(detectors=("bright_ending",)), "bright_ending"),
        (ScanSpec(maps=("bright_ending",)), "bright_ending"),
        (ScanSpec(maps=("combined",)), "combined"),
    ):
        with pytest.raises(ConfigError, match=f"{name} needs a network with cross attention"):
            Scanner(Gaussian(), asked)
    Scanner(Gaussian(), ScanSpec(maps=("combined",), localize="none"))
    with pytest.raises(ConfigError, match="spread needs a network with a middle block; this model"):
        Scanner(Gaussian(), ScanSpec(detectors=("spread",)))
    both = ScanSpec(detectors=("bright_ending",), maps=("combined", "bright_ending"))
    with pytest.raises(ConfigError, match=r"bright_ending and combined need .*: leave them out"):
        Scanner(Gaussian(), both)


@pytest.mark.parametrize("field", ["detectors", "maps"])
def test_unknown_names_are_refused_with_the_known_ones(field):
    with pytest.raises(ConfigError, match=f"{field} must be among .*anisotropy.*got 'nonsense'"):
        ScanSpec(**{field: ("nonsense",)})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"maps": ()}, "maps must name at least one"),
        ({"steps": 4, "detectors": ("wen_5",)}, "wen_5 needs at least 5 steps, got 4"),
        ({"steps": 2, "detectors": ("dsm",)}, "dsm needs at least 3 steps"),
        ({"steps": 2, "maps": ("anisotropy",)}, "anisotropy needs at least 3 steps"),
        ({"localize": "none", "detectors": ("flipd",)}, "flipd must be of localized captions"),
    ],
)
def test_methods_that_cannot_be_served_are_refused(changes, text):
    with pytest.raises(ConfigError, match=text):
        ScanSpec(**changes)


def test_a_spec_without_methods_keeps_the_fingerprint_it_always_had():
    assert ScanSpec().fingerprint() == "c1f7d3fe9ee3"
    assert ScanSpec(detectors=(), maps=list(registry.DEFAULT_MAPS)).fingerprint() == "c1f7d3fe9ee3"
    assert ScanSpec().score_fingerprint() == "acedc449fdd0"


def test_methods_are_in_the_fingerprint_whatever_their_order_but_not_in_a_calibrations():
    one, other = ScanSpec(detectors=("dsm", "wen")), ScanSpec(detectors=["wen", "dsm", "wen"])
    assert one == other
    assert one.fingerprint() == other.fingerprint() != ScanSpec().fingerprint()
    assert ScanSpec(maps=("delta_h",)).fingerprint() != ScanSpec().fingerprint()
    assert one.score_fingerprint() == ScanSpec(maps=("delta_h",)).score_fingerprint()
    from dataclasses import asdict

    assert ScanSpec(**json.loads(json.dumps(asdict(one) | {"seeds": [0]}))).detectors == (
        "wen", "dsm",
    )  # fmt: skip
