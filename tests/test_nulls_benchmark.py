"""The benchmark of null captions that are not as one would wish, at small size."""

import importlib
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from made_results import SPEC, commit, record, score

RATE, BOUND = 0.02, 0.01


@pytest.fixture(scope="module")
def nulls():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        yield importlib.import_module("nulls")


@pytest.fixture(scope="module")
def rows(nulls):
    found = nulls.synthetic(RATE, 600, 30, 5)
    return {row["case"]: row for row in found}


def test_the_default_is_at_or_under_nominal_in_every_case(rows, nulls):
    assert set(rows) == set(nulls.CASES)
    for name, row in rows.items():
        for form in ("corpus", "corpus, new"):
            own = row[form]
            assert own["rate"] <= RATE + 3 * own["error"] + 1e-9, (name, form)


def test_trimmed_is_above_nominal_where_nothing_is_memorized_and_within_what_is_stated(rows):
    for name, row in rows.items():
        own = row["trimmed"]
        assert own["rate"] <= RATE + BOUND / (1 - BOUND) + 3 * own["error"], name
    clean = rows["exponential, nothing memorized"]
    assert clean["trimmed"]["rate"] > RATE + 0.5 * BOUND
    assert clean["trimmed"]["power"] is None


def test_nulls_of_other_kinds_are_no_nulls_and_the_corpus_is(rows):
    row = rows["kinds in other shares than set aside, 0.5%"]
    assert row["held-out"]["rate"] > 1.5 * RATE
    assert row["corpus"]["rate"] <= RATE
    assert row["corpus"]["power"] == 1


def test_a_lower_tail_says_nothing_of_a_heavy_upper_one(rows):
    assert rows["heavy tail, 0.1%"]["mirrored"]["rate"] > 5 * RATE


def test_rows_of_a_scan_are_drawn_from(make, tmp_path, nulls):
    results = make("results", runs=())
    results.write_run("r1", record() | {"spec": asdict(replace(SPEC, seeds=(0,)))})
    rng = np.random.default_rng(0)
    common = [score(f"common {i}", x, key=f"r00-{i}") for i, x in enumerate(rng.random(90))]
    others = [score(f"trap {i}", 2 + x, key=f"trap-{i}") for i, x in enumerate(rng.random(60))]
    planted = [score(f"planted {i}", 9.0 + i, key=f"{i}", seed=seed)
               for i in range(4) for seed in (100, 101)]  # fmt: skip
    commit(results, "r1", common + others + planted)
    drawn = list(nulls.real(tmp_path, 0.1, 5, 0))
    assert [row["case"] for row in drawn] == list(nulls.OTHERS)
    mixed = drawn[2]
    assert mixed["held-out"]["rate"] > 0.4  # half of that corpus are traps
    assert mixed["corpus"]["rate"] <= 0.1
    text = nulls.table(drawn)
    assert text.count("\n") == 1 + len(drawn)
    assert "100%" in text
    assert 0 < mixed["corpus"]["power"] <= 1
