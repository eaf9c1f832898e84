"""Samples that are scored at their own image, against the closed form written out in float64."""

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from scanner import masks, pictures
from scanner.errors import ConfigError
from scanner.methods.declaration import existing
from scanner.methods.registry import DETECTORS, MAPS
from scanner.models.gaussian import Gaussian
from scanner.numerics.noise import initial_latent
from scanner.records import Caption
from scanner.scan import cost
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec
from scanner.statistics.calibration import Calibration, SnapBack

SPEC = ScanSpec(
    source="image", timestep=201, seeds=(0, 1), localize="all", probes=4,
    detectors=("wen_first", "sharpness", "flipd", "flipd_null", "metric2"),
    maps=("delta_s", "delta_h", "curvature", "snap_back"),
)  # fmt: skip
MODEL = Gaussian()


def png(pixels) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def picture(number: int) -> bytes:
    colours = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    return png(colours.repeat(4, axis=0).repeat(4, axis=1))


def is_memorized(text: str) -> bool:
    return float(MODEL.encode([text])[0, 1].min()) < 0.01


class Coloured(Gaussian):
    """The same without a mean in the channel that its pictures do not hold."""

    def _moments(self, caption: str) -> torch.Tensor:
        moments = super()._moments(caption)
        moments[0, 3] = 0
        return moments


class Untrained(Gaussian):
    """One that takes every picture for wide noise, whatever the caption."""

    def score(self, x, level, condition):
        mean, variance = torch.zeros_like(condition[:, 0]), torch.full_like(condition[:, 1], 4.0)
        return super().score(x, level, torch.stack([mean, variance], dim=1))


def copy_of(text: str) -> bytes:
    """The picture of a caption's mean: what the model gives for it, but for the noise."""
    return png(Coloured().decode(Coloured().encode([text])[:, 0])[0].numpy())


def by_key(result):
    return {(row.caption.key, row.seed): row for row in result.scores}


CAPTIONS = [Caption("s.tar", f"k{i}", f"caption {i}", image=picture(i)) for i in range(6)]


class Written:
    """A noised image under both branches of the closed form, in float64."""

    def __init__(
        self, caption: Caption, seed: int, timestep: int, spec: ScanSpec = SPEC, wide: float = 1.0
    ) -> None:
        schedule = MODEL.single(timestep)
        self.alpha, self.sigma = schedule.alphas[0], schedule.sigmas[0]
        assert caption.image is not None
        taken = Scanner(MODEL, spec, baselines={"untrained": Untrained()}).prepare(caption)
        assert isinstance(taken, Caption)
        pixels = torch.tensor(pictures.fitted(caption.image, (32, 32)))
        self.clean = MODEL.compress(pixels[None])[0].double()
        noise = initial_latent(taken.identity, seed, MODEL.latent_shape).double()
        self.x = self.alpha * self.clean + self.sigma * noise
        mean, variance = MODEL.encode([caption.text])[0].double()
        self.branches = [(mean, variance), (torch.zeros_like(mean), wide * torch.ones_like(mean))]

    def score(self, branch: int):
        mean, _ = self.branches[branch]
        return -(self.x - self.alpha * mean) * self.curvature(branch)

    def curvature(self, branch: int):
        return 1 / (self.alpha**2 * self.branches[branch][1] + self.sigma**2)

    def error(self, branch: int):
        estimate = (self.x + self.sigma**2 * self.score(branch)) / self.alpha
        return (estimate - self.clean).square().sum(dim=0)

    def flipd(self, branch: int):
        mean, _ = self.branches[branch]
        noise = self.sigma * (self.alpha * self.clean - self.alpha * mean) * self.curvature(branch)
        trace = self.sigma**2 * self.curvature(branch).sum()
        return 256 - trace + noise.square().sum()

    def numbers(self) -> dict[str, float]:
        difference = self.score(0) - self.score(1)
        slopes = [self.sigma * self.curvature(branch) for branch in (0, 1)]
        noises = [-self.sigma * self.score(branch) for branch in (0, 1)]
        found = {
            "delta_s": difference.square().sum(dim=0).mean(),
            "delta_h": (self.curvature(0) - self.curvature(1)).sum(dim=0).mean(),
            "snap_back": torch.log2(self.error(1).mean() / self.error(0).mean()),
            "wen_first": (noises[0] - noises[1]).norm(),
            "sharpness": ((self.curvature(0) - self.curvature(1)) * difference).square().sum(),
            "metric2": (slopes[0] * noises[0] - slopes[1] * noises[1]).square().sum(),
            "flipd": self.flipd(0),
            "flipd_null": self.flipd(1),
        }
        return {name: float(value) for name, value in found.items()}


@pytest.mark.parametrize("timestep", [1, 201, 601])
def test_every_number_at_a_noised_image_is_its_closed_form(timestep):
    rows = by_key(Scanner(MODEL, replace(SPEC, timestep=timestep), batch_size=5).scan(CAPTIONS))
    for caption in CAPTIONS:
        for seed in SPEC.seeds:
            row, expected = rows[caption.key, seed], Written(caption, seed, timestep).numbers()
            found = {"delta_s": row.delta_s, **row.extra}
            for name, value in expected.items():
                assert found[name] == pytest.approx(value, rel=2e-3, abs=2e-3), (row, name)


def test_maps_are_the_closed_forms_and_carry_no_picture():
    result = Scanner(MODEL, SPEC, batch_size=4).scan(CAPTIONS[:2])
    for row in result.masks:
        written = Written(CAPTIONS[int(row.caption.key[1:])], row.seed, 201)
        expected = {
            "delta_s": (written.score(0) - written.score(1)).square().sum(dim=0),
            "delta_h": (written.curvature(0) - written.curvature(1)).sum(dim=0),
            "curvature": written.curvature(0).sum(dim=0),
            "snap_back": torch.log2(written.error(1) / written.error(0)),
        }[row.metric].numpy()
        stored = masks.from_heatmap(row.heatmap, row.height, row.width)
        assert np.allclose(stored, expected, rtol=5e-3, atol=1e-2)
        assert row.sigma == pytest.approx(written.sigma)
        assert (row.image, row.match, row.match_mse) == (None, None, None)
    assert {row.metric for row in result.masks} == {"delta_s", "delta_h", "curvature", "snap_back"}


UNCAPTIONED = replace(SPEC, captions=False)


@pytest.mark.parametrize("timestep", [1, 201])
def test_without_captions_the_two_networks_are_compared_under_the_empty_one(timestep):
    spec = replace(UNCAPTIONED, timestep=timestep)
    scanner = Scanner(MODEL, spec, baselines={"untrained": Untrained()}, batch_size=5)
    bare = [replace(caption, text="") for caption in CAPTIONS]
    result = scanner.scan(bare)
    assert set(scanner.extra_columns) == {"snap_back", "delta_h", "curvature", *SPEC.detectors}
    rows = by_key(result)
    for caption in bare:
        written = {s: Written(caption, s, timestep, spec, wide=4.0) for s in SPEC.seeds}
        for seed, one in written.items():
            row = rows[caption.key, seed]
            assert row.caption.sha256 == row.caption.image_sha256
            found = {"delta_s": row.delta_s, **row.extra}
            for name, value in one.numbers().items():
                assert found[name] == pytest.approx(value, rel=2e-3, abs=2e-3), (row, name)
    named = {(row.metric, row.baseline) for row in result.masks}
    against = {(name, "untrained") for name in ("delta_s", "delta_h", "snap_back")}
    assert named == against | {("curvature", "none")}
    draws = len(CAPTIONS) * len(SPEC.seeds)
    each = cost.evaluations(spec, localized=True, probes=4, baselines=1)
    assert {n: scanner.evaluations[n] for n in each} == {n: draws * each[n] for n in each}


def test_without_captions_an_image_that_the_model_stores_stands_out():
    """Under no caption the model draws one picture again and again, beside all others."""

    class Storing(Coloured):
        def _moments(self, caption: str) -> torch.Tensor:
            return super()._moments(caption or text)

    text = next(t for t in map(str, range(200)) if is_memorized(t))
    images = [copy_of(text), *map(picture, range(20))]
    samples = [Caption("s", str(n), "", image=image) for n, image in enumerate(images)]
    spec = replace(UNCAPTIONED, detectors=("flipd",), seeds=(0,))
    rows = Scanner(Storing(), spec, baselines={"untrained": Untrained()}).scan(samples).scores
    first, others = rows[0], rows[1:]
    assert first.extra["snap_back"] > 1 > 0 > max(row.extra["snap_back"] for row in others)
    assert first.extra["flipd"] < min(row.extra["flipd"] for row in others)


def test_what_needs_a_caption_or_a_baseline_is_refused_without():
    with pytest.raises(ConfigError, match="compared with one baseline network"):
        Scanner(MODEL, UNCAPTIONED)
    with pytest.raises(ConfigError, match="only images can be scored, got auto"):
        replace(UNCAPTIONED, source="auto", detectors=())
    with pytest.raises(ConfigError, match="combined looks at the caption's tokens"):
        replace(UNCAPTIONED, maps=("combined",))
    assert UNCAPTIONED.score_fingerprint() != SPEC.score_fingerprint()


def test_an_images_p_value_asks_for_its_snap_back_too():
    texts = [t for t in map(str, range(200)) if is_memorized(t)]
    plain = [t for t in map(str, range(400)) if not is_memorized(t)]
    nulls = [Caption("s", t, t, image=copy_of(t)) for t in plain]
    spec = replace(SPEC, seeds=(0,), detectors=(), localize="none", fpr=0.05)
    scores = Scanner(Coloured(), spec).scan(nulls).scores
    fitted = replace(
        null(*sorted(row.delta_s for row in scores)),
        snap_back=SnapBack(tuple(sorted(row.extra["snap_back"] for row in scores))),
        pixel_thresholds={"delta_h/null": 1.0},
    )
    own = [Caption("s", f"own{t}", t, image=copy_of(t)) for t in texts]
    swapped = [Caption("s", f"swap{t}", t, image=picture(int(t))) for t in texts]
    asked = replace(spec, localize="all", maps=("delta_h",))
    result = Scanner(Coloured(), asked, calibration=fitted).scan([*own, *swapped])
    for row in result.scores:
        assert row.seed_p_value == fitted.min_p, "Δs alone calls every one of them"
        assert row.flagged is row.caption.key.startswith("own")
        assert (row.p_value == fitted.min_p) is row.flagged
    for row in result.masks:
        assert row.pinned == ("region" if row.caption.key.startswith("own") else "none")
        assert row.snap_inside is not None
        assert row.snap_outside is not None
        assert (row.snap_inside > 1) is (row.pinned == "region")
    of_delta_s = replace(fitted, snap_back=None)
    alone = Scanner(Coloured(), spec, calibration=of_delta_s).scan(swapped)
    assert all(row.flagged for row in alone.scores), "as calibrations of old do"


def test_an_unrelated_image_beside_a_memorized_caption_scores_high_but_does_not_snap_back():
    texts = [t for t in map(str, range(200)) if is_memorized(t)]
    plain = [t for t in map(str, range(200)) if not is_memorized(t)]
    own = [Caption("s", f"own{t}", t, image=copy_of(t)) for t in texts]
    swapped = [Caption("s", f"swap{t}", t, image=picture(int(t))) for t in texts]
    others = [Caption("s", f"plain{t}", t, image=copy_of(t)) for t in plain]
    spec = replace(SPEC, localize="none", detectors=())
    found = Scanner(Coloured(), spec).scan([*own, *swapped, *others])
    rows = list(by_key(found).values())

    def of(prefix, number):
        return [number(row) for row in rows if row.caption.key.startswith(prefix)]

    assert min(of("swap", lambda row: row.delta_s)) > max(of("plain", lambda row: row.delta_s))
    snap_back = {p: of(p, lambda row: row.extra["snap_back"]) for p in ("own", "swap", "plain")}
    assert min(snap_back["own"]) > max(snap_back["plain"]) > 0
    assert max(snap_back["swap"]) < 0


def test_a_sample_is_its_caption_and_its_image():
    a, b = picture(1), picture(2)
    samples = [
        Caption("s.tar", "1", "one text", image=a), Caption("s.tar", "2", "one text", image=b),
        Caption("t.tar", "3", "one text", image=a), Caption("t.tar", "4", "another", image=a),
    ]  # fmt: skip
    scanner = Scanner(MODEL, replace(SPEC, seeds=(0,)))
    rows = [row for _, row in sorted(by_key(scanner.scan(samples)).items())]
    assert scanner.evaluations["draws"] == 3
    assert rows[0].delta_s == rows[2].delta_s
    assert len({row.delta_s for row in rows}) == 3
    assert [row.caption.image_sha256 == rows[0].caption.image_sha256 for row in rows] == [
        True, False, True, True,
    ]  # fmt: skip
    assert all(row.caption.pixels is None is row.caption.image for row in rows)


def test_rows_do_not_depend_on_batch_size_order_or_company():
    whole = by_key(Scanner(MODEL, SPEC, batch_size=16).scan(CAPTIONS))
    backwards = by_key(Scanner(MODEL, SPEC, batch_size=3).scan(CAPTIONS[::-1]))
    alone = by_key(Scanner(MODEL, SPEC, batch_size=1).scan(CAPTIONS[4:5]))
    assert whole.keys() == backwards.keys()
    for key, row in (backwards | alone).items():
        assert row.delta_s == pytest.approx(whole[key].delta_s, rel=1e-5)
        assert row.extra == pytest.approx(whole[key].extra, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("localize", ["none", "all"])
def test_an_image_costs_two_evaluations_and_its_maps(localize):
    detectors = SPEC.detectors if localize == "all" else ("wen_first", "sharpness", "metric2")
    spec = replace(SPEC, localize=localize, detectors=detectors)
    scanner = Scanner(MODEL, spec)
    scanner.scan(CAPTIONS)
    each = cost.evaluations(spec, localized=localize == "all", probes=4)
    draws = len(CAPTIONS) * len(SPEC.seeds)
    assert scanner.evaluations == {
        "draws": draws, **{name: draws * each[name] for name in ("forward", "vjp", "jvp")}
    }  # fmt: skip
    plain = cost.evaluations(
        replace(spec, detectors=(), localize="none"), localized=False, probes=4
    )
    assert plain == {"forward": 2}


def header(width: int, height: int) -> bytes:
    """The beginning of a PNG that claims a size."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def gif() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (32, 32)).save(stream, "GIF")
    return stream.getvalue()


BAD = {
    "missing": (None, "no_image", "has no jpg, png or webp member"),
    "empty": (b"", "unreadable_image", "not a readable image"),
    "text": (b"<html>not found</html>", "unreadable_image", "not a readable image"),
    "cut": (picture(7)[:90], "unreadable_image", "not a readable image"),
    "huge": (header(60_000, 60_000), "unreadable_image", "60000 x 60000|not a readable image"),
    "gif": (gif(), "unreadable_image", "not a readable image"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_sample_without_a_readable_image_is_a_reject_or_in_auto_is_sampled(name):
    import re

    content, reason, said = BAD[name]
    samples = [CAPTIONS[0], Caption("s.tar", name, "the caption", image=content), CAPTIONS[1]]
    spec = replace(SPEC, detectors=(), maps=("delta_s", "snap_back"), steps=5)
    result = Scanner(MODEL, spec).scan(samples)
    (reject,) = result.rejects
    assert (reject.key, reject.reason, reject.caption_sha256) == (name, reason, samples[1].sha256)
    assert re.search(said, reject.detail)
    assert {row.caption.key for row in result.scores} == {"k0", "k1"}
    auto = Scanner(MODEL, replace(spec, source="auto")).scan(samples)
    assert not auto.rejects
    sampled = ScanSpec(seeds=SPEC.seeds, steps=5, localize="all", maps=("delta_s",))
    expected = by_key(Scanner(MODEL, sampled).scan(samples[1:2])) | by_key(result)
    found = by_key(auto)
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        assert found[key].delta_s == pytest.approx(row.delta_s, rel=1e-5)
        assert (found[key].caption.image_sha256 is None) == (key[0] == name)
    assert {m.metric for m in auto.masks if m.caption.key == name} == {"delta_s"}


def null(*scores: float) -> Calibration:
    return Calibration("m", "s", scores, {}, 0.01, len(scores), "")


def test_in_auto_each_source_has_its_own_calibration():
    samples = [CAPTIONS[0], replace(CAPTIONS[1], image=None)]
    spec = replace(SPEC, source="auto", localize="none", detectors=(), fpr=0.4)
    never, always = null(1e9), null(-2.0, -1.0)
    for of_sampled, of_images, expected in ((never, always, "k0"), (always, never, "k1")):
        scanner = Scanner(MODEL, spec, calibration=of_sampled, image_calibration=of_images)
        rows = scanner.scan(samples).scores
        assert {row.caption.key for row in rows if row.flagged} == {expected}
        assert {row.seed_p_value for row in rows if row.flagged} == {1 / 3}


def test_a_network_gives_the_same_rows_in_any_batch(pipeline_folder):
    from scanner import models

    model = models.load(str(pipeline_folder))
    spec = ScanSpec(
        source="image", timestep=21, localize="all", probes=4,
        detectors=existing(DETECTORS.values(), "image"),
        maps=existing(MAPS.values(), "image"),
    )  # fmt: skip
    few = [replace(c, image=png(np.full((90, 70, 3), 60 * i, np.uint8)))
           for i, c in enumerate(CAPTIONS[:3])]  # fmt: skip
    scanner = Scanner(model, spec, batch_size=3)
    together = by_key(scanner.scan(few))
    apart = by_key(Scanner(model, spec, batch_size=1).scan(few[::-1]))
    for key, row in together.items():
        assert set(row.extra) == set(scanner.extra_columns)
        assert row.delta_s == pytest.approx(apart[key].delta_s, rel=1e-3)
        assert row.extra == pytest.approx(apart[key].extra, rel=1e-3, abs=1e-3)
    predicted = cost.evaluations(spec, localized=True, probes=4)
    assert {n: scanner.evaluations[n] / 3 for n in predicted} == dict(predicted)


def test_the_autoencoder_gives_a_picture_back(pipeline_folder):
    """Shape and scale only: this one is untrained."""
    from scanner import models

    model = models.load(str(pipeline_folder))
    latents = model.compress(torch.zeros(2, *model.picture_size, 3, dtype=torch.uint8))
    assert latents.shape == (2, *model.latent_shape)
    assert model.decode(latents).shape == (2, *model.picture_size, 3)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"source": "both"}, "source must be one of generated, image, auto"),
        ({"timestep": -1}, "timestep must not be negative"),
        ({"detectors": ("wen_5",)}, "wen_5 looks at a trajectory and source image has none"),
        ({"maps": ("anisotropy",)}, "anisotropy looks at a trajectory"),
        ({"source": "generated"}, "snap_back compares with the image"),
        ({"source": "auto", "threshold": 1.0}, "a threshold belongs to one source"),
        ({"source": "auto", "maps": ("snap_back",)}, "maps must name one that samples without"),
    ],
)
def test_what_a_source_cannot_serve_is_refused(changes, text):
    with pytest.raises(ConfigError, match=text):
        replace(SPEC, **changes)


def test_a_timestep_that_the_model_lacks_is_refused():
    with pytest.raises(ConfigError, match="from 0 to 999, got 1000"):
        Scanner(MODEL, replace(SPEC, timestep=1000))


def test_a_fingerprint_holds_what_matters_at_its_source():
    assert ScanSpec(timestep=5).fingerprint() == ScanSpec().fingerprint()
    assert replace(SPEC, steps=3).fingerprint() == SPEC.fingerprint()
    assert replace(SPEC, timestep=5).fingerprint() != SPEC.fingerprint()
    assert replace(SPEC, timestep=5).score_fingerprint() != SPEC.score_fingerprint()
    auto = replace(SPEC, source="auto", steps=20)
    assert auto.only("image").score_fingerprint() == SPEC.score_fingerprint()
    sampled = ScanSpec(seeds=SPEC.seeds, probes=4, steps=20)
    assert auto.only("generated").score_fingerprint() == sampled.score_fingerprint()


def test_a_calibration_of_another_source_or_timestep_is_refused_by_name():
    settings = SPEC.score_settings()
    made = replace(
        null(1.0), score_fingerprint=SPEC.score_fingerprint(), settings=settings, model="m"
    )
    made.check("m", SPEC)
    with pytest.raises(ConfigError, match=r"timestep \(calibration 201, scan 21\)"):
        made.check("m", replace(SPEC, timestep=21))
    with pytest.raises(ConfigError, match=r"source \(calibration image, scan generated\)"):
        made.check("m", ScanSpec(seeds=(0, 1), probes=4))
