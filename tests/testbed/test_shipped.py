"""The shipped weights do what the README says of them, on a few captions."""

import numpy as np
import pytest

from scanner import masks, models
from scanner.records import Caption, caption_hash
from scanner.scan.scanner import Scanner
from scanner.scan.stages.draws import Draw
from scanner.scan.stages.localization import localize
from scanner.scan.stages.sampling import detect
from scanner.spec import ScanSpec
from scanner.testbed import SHIPPED_SEED, WEIGHTS, make

SPEC = ScanSpec(seeds=(77,), steps=10, guidance_scale=2.5, probes=4, localize="all")
KINDS = {"verbatim": 4, "template": 8, "name": 3, "art": 3, "scene": 4, "texture": 3}


@pytest.fixture(scope="module")
def scanned():
    items = []
    for kind, number in KINDS.items():
        every = make.evaluation_items(SHIPPED_SEED, 40)
        items += [item for item in every if item.kind == kind][:number]
    captions = [Caption("s", str(i), item.caption) for i, item in enumerate(items)]
    result = Scanner(models.load(str(WEIGHTS / "pipeline")), SPEC, batch_size=16).scan(captions)
    assert not result.rejects
    return {item.caption: item for item in items}, result


def test_memorized_captions_score_above_all_others(scanned):
    items, result = scanned
    scores = {memorized: [] for memorized in (True, False)}
    for row in result.scores:
        scores[items[row.caption.text].memorized].append(row.delta_s)
    above = np.mean([s > o for s in scores[True] for o in scores[False]])
    assert above > 0.9


def test_curvature_differences_are_larger_inside_the_template(scanned):
    items, result = scanned
    right = []
    for row in result.masks:
        item = items[row.caption.text]
        if item.kind == "template" and row.metric == "delta_h":
            m = masks.from_heatmap(row.heatmap, row.height, row.width)
            inside = masks.resize(item.mask, *m.shape)
            right.append(np.median(m[inside]) > np.median(m[~inside]))
    assert len(right) == KINDS["template"]
    assert np.mean(right) >= 0.75


def test_another_batch_changes_numbers_by_rounding_alone():
    """The tolerances that docs/performance.md promises, for float32 on one device."""
    model = models.load(str(WEIGHTS / "pipeline"))
    texts = [item.caption for item in make.evaluation_items(SHIPPED_SEED, 40)[::12]][:5]
    draws = [Draw(text, caption_hash(text), 0) for text in texts]

    def maps(size: int) -> dict[str, np.ndarray]:
        found: dict[str, list[np.ndarray]] = {}
        for start in range(0, len(draws), size):
            some = draws[start : start + size]
            seen = detect(model, some, SPEC)
            more = localize(model, {}, some, seen, SPEC).maps
            for (metric, _), values in ({("delta_s", "null"): seen.delta_s} | more).items():
                found.setdefault(metric, []).append(values.double().numpy())
        return {metric: np.concatenate(values) for metric, values in found.items()}

    alone = maps(1)
    for size in (2, 5):
        together = maps(size)
        scores = together["delta_s"].mean(axis=(1, 2)) / alone["delta_s"].mean(axis=(1, 2))
        assert np.abs(scores - 1).max() < 2e-5
        for metric, values in alone.items():
            apart = np.linalg.norm(together[metric] - values, axis=(1, 2))
            assert (apart / np.linalg.norm(values, axis=(1, 2))).max() < 2e-4, metric
