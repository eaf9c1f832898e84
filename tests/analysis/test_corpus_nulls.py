"""A calibration from a finished scan: which captions it takes, and what it knows of maps."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from made_results import MODEL, SPEC, commit, mask, record, score

from scanner.analysis.corpus_nulls import fit_corpus
from scanner.analysis.fit import fit
from scanner.errors import ConfigError
from scanner.records import caption_hash

WORDS = [f"{a}{b} {b}{a} {a}{a}" for a in "abcdefghij" for b in "klmnopqrst"]
"""A hundred captions of which no two are near-identical."""


def scanned(make, scores, masks=(), **spec):
    """Return results with a run over captions with these scores by text."""
    results = make(runs=())
    results.write_run("r1", record() | {"spec": asdict(replace(SPEC, **spec))})
    rows = [score(text, value + seed / 8, seed=seed, extra={"wen": -value})
            for text, value in scores.items() for seed in (0, 1)]  # fmt: skip
    commit(results, "r1", rows, list(masks))
    return results


def usual() -> dict[str, float]:
    return {text: float(n) for n, text in enumerate(WORDS)}


def test_as_many_scores_are_left_out_as_may_be_memorized(make):
    results = scanned(make, usual(), detectors=("wen",))
    c = fit_corpus(results, "r1", 0.05)
    assert (c.model, c.score_fingerprint) == (MODEL, SPEC.score_fingerprint())
    assert c.null_scores == tuple(n + 1 / 16 for n in range(5, 100))
    assert c.seed_scores[1] == tuple(n + 1 / 8 for n in range(5, 100))
    assert c.others["wen"].null_scores == tuple(float(-n) for n in range(94, -1, -1))
    assert c.corpus is not None
    assert (c.corpus.taken, c.corpus.left_out, c.corpus.run) == (100, 5, "r1")
    assert c.p_value(97 + 1 / 16) == (1 + 3) / (100 - 5 + 1)
    assert fit_corpus(results, "r1", 0.05, trim=True).null_scores[-1] == 94 + 1 / 16
    assert fit_corpus(results, "r1", 0.0).null_scores == fit(results, "r1").null_scores


def test_one_caption_per_family_and_no_more_than_were_asked_for(make):
    alike = {f"the same red mug on a table number {n}": 500.0 + n for n in range(30)}
    c = fit_corpus(scanned(make, usual() | alike), "r1", 0.01)
    assert (c.captions, c.families, len(c.null_scores)) == (130, 101, 100)
    assert sum(x > 400 for x in c.null_scores) == 1


def test_of_a_large_corpus_the_smallest_hashes_are_taken(make):
    results = scanned(make, usual())
    c = fit_corpus(results, "r1", 0.0, most=40)
    first = sorted(WORDS, key=caption_hash)[:40]
    assert c.null_scores == tuple(sorted(usual()[text] + 1 / 16 for text in first))


def copy_of(text: str, match: str):
    return replace(mask(text, np.full((8, 8), 2.0)), match=match)


def test_captions_whose_picture_is_a_copy_may_be_left_out(make):
    masks = [copy_of(WORDS[99], "verbatim"), copy_of(WORDS[98], "template"),
             copy_of(WORDS[97], "plain"), copy_of(WORDS[96], "none")]  # fmt: skip
    results = scanned(make, usual(), masks)
    c = fit_corpus(results, "r1", 0.05, without_copies=True)
    assert c.corpus is not None
    assert (c.corpus.copies, c.corpus.taken, c.corpus.left_out) == (2, 98, 4)
    assert c.null_scores == tuple(n + 1 / 16 for n in range(4, 98))
    assert fit_corpus(results, "r1", 0.05).null_scores[-1] == 99 + 1 / 16


def test_masks_have_a_floor_only_where_every_caption_has_maps(make):
    masks = [mask(text, np.full((8, 8), 2.0)) for text in WORDS[:3]]
    few = fit_corpus(scanned(make, usual(), masks, localize="flagged"), "r1", 0.01)
    assert (few.pixel_thresholds, few.has_floor) == ({}, False)
    assert few.mask_share == 0.3


def test_with_maps_of_every_caption_there_is_one(make):
    masks = [mask(text, np.full((8, 8), 2.0)) for text in WORDS]
    every = fit_corpus(scanned(make, usual(), masks, localize="all"), "r1", 0.01)
    assert every.pixel_thresholds["delta_h/null"] == pytest.approx(2, rel=0.01)
    assert every.has_floor


def test_what_cannot_be_null_captions_is_refused(make):
    results = scanned(make, usual(), source="auto")
    with pytest.raises(ConfigError, match="of one source, and run r1 has two"):
        fit_corpus(results, "r1", 0.01)
    with pytest.raises(ConfigError, match=r"contamination must be in 0\.\.0\.25"):
        fit_corpus(results, "r1", math.nan)


def test_a_screened_run_and_one_of_copies_alone_are_refused(make):
    results = scanned(make, {WORDS[0]: 1.0, WORDS[1]: 2.0},
                      [copy_of(WORDS[0], "verbatim"), copy_of(WORDS[1], "verbatim")])  # fmt: skip
    with pytest.raises(ConfigError, match="no scored captions that could be null captions"):
        fit_corpus(results, "r1", 0.01, without_copies=True)
    commit(results, "r1", [score("dropped", None, stage="screen", extra={"wen": 0.0})], chunk="b-0")
    with pytest.raises(ConfigError, match="calibrate on a scan without a screen"):
        fit_corpus(results, "r1", 0.01)


def test_a_consensus_has_null_scores_where_the_run_has_what_it_is_of(make):
    results = make(runs=())
    spec = replace(SPEC, detectors=("wen", "wen_5"))
    results.write_run("r1", record() | {"spec": asdict(spec)})
    rows = [
        score(text, 1.0 + n, seed=seed, extra={"wen": 2.0 + n, "wen_5": 3.0 + n})
        for n, text in enumerate(WORDS) for seed in (0, 1)
    ]  # fmt: skip
    commit(results, "r1", rows)
    c = fit_corpus(results, "r1", 0.05, consensus=True)
    assert c.consensus is not None
    assert len(c.others["consensus"].null_scores) == 95
    assert set(fit_corpus(results, "r1", 0.05).others) == {"wen", "wen_5"}


def test_a_consensus_of_scores_that_were_not_taken_is_refused(make):
    results = scanned(make, usual(), detectors=("wen",))
    with pytest.raises(ConfigError, match="needs wen_5 of every caption, and run r1 has none"):
        fit_corpus(results, "r1", 0.01, consensus=True)
