"""Several baselines at once: each has its columns and maps, which are those of it alone."""

from dataclasses import replace

import pytest
import tiny

from scanner import models
from scanner.engine.identity import identify
from scanner.engine.job import Job
from scanner.errors import ConfigError
from scanner.records import Caption
from scanner.scan import cost
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec

SPEC = ScanSpec(steps=3, guidance_scale=2.0, localize="all", probes=4, store_image=False)
CAPTIONS = [Caption("s.tar", f"k{n}", text) for n, text in enumerate(["a red cat", "the dog"])]
PROMPTS = ("prompt:a photo", "prompt:a drawing")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save(tiny.sd15, tmp_path_factory.mktemp("sd15") / "base")


@pytest.fixture(scope="module")
def early(tmp_path_factory):
    return tiny.save(tiny.sd15, tmp_path_factory.mktemp("early") / "early")


def scanned(folder, sources, spec=SPEC):
    model = models.load(str(folder))
    scanner = Scanner(model, spec, baselines=models.load_baselines(sources, model), batch_size=2)
    return scanner, scanner.scan(CAPTIONS)


def job(folder, *baselines, **spec) -> Job:
    return Job(
        model=str(folder), shards=("a.tar",), results="r", baselines=tuple(map(str, baselines)),
        spec=ScanSpec(**spec),
    )  # fmt: skip


def test_each_has_the_columns_and_maps_that_it_has_alone(folder, early):
    sources = [*PROMPTS, str(early)]
    _, together = scanned(folder, sources)
    names = ["prompt", "prompt_2", "early"]
    assert list(models.baseline_names(sources)) == names
    for name, source in zip(names, sources, strict=True):
        own = models.baseline_name(source)
        _, alone = scanned(folder, [source])
        for one, other in zip(together.scores, alone.scores, strict=True):
            for metric in ("delta_s", "delta_h"):
                found, expected = one.extra[f"{metric}_{name}"], other.extra[f"{metric}_{own}"]
                assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
        maps = {(m.caption.key, m.metric): m.heatmap for m in together.masks if m.baseline == name}
        theirs = {(m.caption.key, m.metric): m.heatmap for m in alone.masks if m.baseline == own}
        assert len(maps) == 4
        assert all(values == theirs[key] for key, values in maps.items())
    ones = [row.extra["delta_s_prompt"] for row in together.scores]
    assert ones != [row.extra["delta_s_prompt_2"] for row in together.scores]


@pytest.mark.parametrize("maps", [("delta_h", "delta_s"), ("delta_s",)])
def test_they_cost_what_is_said(folder, maps):
    spec = replace(SPEC, maps=maps)
    scanner, _ = scanned(folder, PROMPTS, spec)
    each = cost.evaluations(spec, localized=True, probes=4, baselines=2)
    assert {name: scanner.evaluations[name] / 2 for name in each} == dict(each)


def test_all_of_them_name_the_run(folder, early):
    none, one, two = job(folder), job(folder, early), job(folder, early, "prompt:a photo")
    runs = [identify(each) for each in (none, one, two)]
    assert len({who.run for who in runs}) == 3
    first, _, second = runs[2].job.spec.baseline.partition("+")
    assert first == runs[1].job.spec.baseline
    assert second
    assert runs[0].job.spec.baseline == ""


def test_one_is_not_given_twice_and_images_without_captions_take_one(folder, early):
    with pytest.raises(ConfigError, match="is given twice"):
        job(folder, early, early)
    with pytest.raises(ConfigError, match="give one --baseline, not 2"):
        job(folder, early, "other", source="image", captions=False)
