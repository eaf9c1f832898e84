"""Products in rounds: each draw stops by itself, and says how far its maps may be off."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scanner import masks
from scanner.errors import ConfigError
from scanner.models.gaussian import Gaussian
from scanner.numerics import noise, portions
from scanner.numerics.curvature import Pullback
from scanner.records import Caption
from scanner.scan.scanner import Scanner
from scanner.scan.stages.draws import ProbePortion
from scanner.scan.stages.rounds import as_many_as, both_branches
from scanner.spec import ScanSpec
from scanner.statistics.calibration import Calibration

SPEC = ScanSpec(
    steps=4, localize="all", probes=64, target_error=0.2,
    maps=("delta_s", "delta_h", "curvature", "combined_s"),
)  # fmt: skip
CAPTIONS = [Caption("s.tar", f"k{i}", f"caption number {i}") for i in range(8)]
SHAPE = (2, 4, 4)


class Mixing(Gaussian):
    """The Gaussian model, its entries mixed with what lies two rows above, each caption's own."""

    def score(self, x, level, condition):
        own = super().score(x, level, condition)
        share = condition[:, 0].mean(dim=(1, 2, 3))[:, None, None, None]
        return own + 5 * share * own.roll(2, dims=2)


def probes(draws, *asked, design="structured"):
    plan = portions.portions_of(SHAPE[0], *asked, design, adaptive=True)
    own = [noise.in_portions(str(draw), 0, SHAPE, plan) for draw in range(draws)]
    return [
        ProbePortion(torch.stack(vectors, dim=2), portion.is_new)
        for portion, *vectors in zip(plan, *own, strict=True)
    ]


def mixing(strengths, by=1):
    """Two branches: the entries themselves, and these mixed by a draw's own strength."""
    point = torch.zeros(len(strengths), *SHAPE)
    evaluated = []

    def graph_of(draws):
        evaluated.append(draws.tolist())
        scale = torch.tensor(strengths)[draws].view(-1, 1, 1, 1)

        def function(pair):
            own, null = pair.chunk(2)
            return torch.cat([-3 * own + scale * own.roll(by, dims=-1), null])

        return Pullback(function, point[draws].repeat(2, 1, 1, 1))

    return graph_of, evaluated


def test_all_rounds_of_one_grid_are_the_mean_over_them():
    graph_of, evaluated = mixing([0.5, 2.0])
    found = both_branches(graph_of, probes(2, 9, design="rademacher"), None)
    assert evaluated == [[0, 1]]
    assert (found.taken.tolist(), found.products.tolist()) == ([9, 9], [9, 9])
    torch.testing.assert_close(found.traces.mean(dim=0), found.diagonals.sum(dim=2))


def test_a_finer_grid_begins_anew_and_only_draws_that_need_it_take_it():
    """What is mixed with its next neighbour is exact on a grid of two; of four draws, two are not
    mixed much."""
    graph_of, evaluated = mixing([0.0, 3.0, 0.01, 3.0])
    found = both_branches(graph_of, probes(4, 64), 0.05)
    assert found.products.tolist() == [4, 4 + 16, 4, 4 + 16]
    assert found.taken.tolist() == [2] * 4
    assert (found.first.tolist(), found.last.tolist()) == ([0, 1, 0, 1], [0, 1, 0, 1])
    assert evaluated == [[0, 1, 2, 3], [1, 3]]
    truth = torch.tensor([-3.0, 1.0]).view(2, 1, 1, 1).expand(2, *SHAPE)
    for draw in (1, 3):
        torch.testing.assert_close(found.diagonals[:, draw], truth)


def test_each_draw_stops_by_itself_and_no_other_changes_it():
    strengths, asked = [0.0, 3.0, 1.5, 12.0], probes(4, 40, design="rademacher")
    together = both_branches(mixing(strengths)[0], asked, 0.25)
    assert len(set(together.taken.tolist())) > 2
    for draw, strength in enumerate(strengths):
        own = [ProbePortion(p.vectors[:, :, [draw]], p.is_new) for p in asked]
        alone = both_branches(mixing([strength])[0], own, 0.25)
        assert alone.taken == together.taken[draw] == together.products[draw]
        torch.testing.assert_close(alone.diagonals[:, 0], together.diagonals[:, draw])
        taken = int(alone.taken)
        torch.testing.assert_close(alone.traces[:taken, :, 0], together.traces[:taken, :, draw])


def test_another_network_takes_the_rounds_of_the_last_grid_alone():
    asked = probes(2, 128)
    first = both_branches(mixing([0.0, 3.0], by=2)[0], asked, 0.05)
    assert first.products.tolist() == [4, 4 + 16 + 64]
    graph_of, evaluated = mixing([0.0, 3.0], by=2)
    found = as_many_as(first, graph_of, asked, branches=2)
    assert evaluated == [[0], [1]]
    assert found.products.tolist() == [4, 64]
    assert torch.equal(found.taken, first.taken)
    torch.testing.assert_close(found.diagonals, first.diagonals)
    torch.testing.assert_close(found.scores, first.scores)


def maps_of(result):
    return {(row.caption.key, row.metric, row.baseline): row for row in result.masks}


@pytest.fixture(scope="module")
def scanned():
    scanner = Scanner(Mixing(), SPEC, baselines={"early": Gaussian()}, batch_size=4)
    return maps_of(scanner.scan(CAPTIONS))


def test_rows_say_products_and_error(scanned):
    used = {row.products for (_, metric, _), row in scanned.items() if metric != "delta_s"}
    assert used <= {8, 40, 56}
    assert len(used) > 1, "captions must differ in what they take"
    for (key, metric, baseline), row in scanned.items():
        assert (row.products is None) == (metric == "delta_s")
        assert (row.map_error is None) == (metric in ("delta_s", "combined_s"))
        own = scanned[key, "delta_h", "null"]
        if metric != "delta_s":
            assert row.products == own.products, (metric, baseline)
        assert own.map_error <= SPEC.target_error or own.products == 56


def test_what_a_draw_takes_does_not_depend_on_its_batch(scanned):
    scanner = Scanner(Mixing(), SPEC, baselines={"early": Gaussian()}, batch_size=1)
    alone = maps_of(scanner.scan(CAPTIONS[::-1]))
    assert scanned.keys() == alone.keys()
    for name, row in scanned.items():
        assert row.products == alone[name].products, name
        own, other = (masks.from_heatmap(r.heatmap, 8, 8) for r in (row, alone[name]))
        np.testing.assert_allclose(own, other, rtol=5e-3, atol=5e-3)


def test_without_a_target_every_map_takes_all_and_one_round_says_no_error():
    for probes, error in ((16, False), (32, True)):
        asked = replace(SPEC, probes=probes, target_error=None)
        rows = maps_of(Scanner(Mixing(), asked).scan(CAPTIONS[:2])).values()
        assert {row.products for row in rows if row.metric == "delta_h"} == {probes}
        assert {row.map_error is not None for row in rows if row.metric == "delta_h"} == {error}
        assert {row.mask_doubt for row in rows} == {None}, "there is no mask without a threshold"


@pytest.mark.parametrize("rule", [{"mask_share": 0.3}, {"pixel_threshold": 0.45}])
def test_rows_say_which_pixels_of_their_mask_are_in_doubt(rule):
    asked = replace(SPEC, probes=8, target_error=None, **rule)
    rows = Scanner(Mixing(), asked).scan(CAPTIONS).masks
    known = [row for row in rows if row.mask and row.map_error is not None]
    assert len(known) >= len(CAPTIONS)
    for row in known:
        mask, doubt = (masks.from_runs(runs, 8, 8) for runs in (row.mask, row.doubt))
        for share, where in ((row.mask_doubt, mask), (row.outside_doubt, ~mask)):
            assert share == (pytest.approx(doubt[where].mean()) if where.any() else None)
    assert any(0 < row.mask_doubt < 1 for row in known if row.mask_doubt is not None)
    assert {(row.mask_doubt, row.doubt) for row in rows if row.map_error is None} == {(None, None)}


def test_a_target_is_part_of_what_names_a_run_and_none_leaves_it_alone():
    plain, near = ScanSpec(), ScanSpec(target_error=0.1)
    assert plain.fingerprint() != near.fingerprint() != ScanSpec(target_error=0.2).fingerprint()
    assert plain.score_fingerprint() != near.score_fingerprint()
    assert "target_error" not in plain.score_settings()
    settings = plain.score_settings()
    made = Calibration("m", plain.score_fingerprint(), (0.0,), {}, 0.01, 1, "", settings=settings)
    with pytest.raises(ConfigError, match=r"different: target_error \(calibration None, scan 0.1"):
        made.check("m", near)


@pytest.mark.parametrize("target", [0.0, 1.0, -0.5])
def test_a_target_that_is_no_share_is_refused(target):
    with pytest.raises(ConfigError, match="target_error must lie between 0 and 1"):
        ScanSpec(target_error=target)


def test_a_target_without_a_second_product_is_refused():
    with pytest.raises(ConfigError, match="at least 2 products, got 1 probes"):
        ScanSpec(target_error=0.1, probes=1)
