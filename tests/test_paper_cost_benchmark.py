"""GPU-days and money of a corpus on paper, by hand."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest

TERA = 1e12


@pytest.fixture(scope="module")
def paper_cost():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        return importlib.import_module("paper_cost")


@pytest.fixture
def made(paper_cost):
    """A model of round numbers of TFLOP."""
    return paper_cost.Operations(
        forward=int(TERA), vjp=int(2 * TERA), text=int(0.5 * TERA), encoding=int(3 * TERA),
        decoding=int(4 * TERA), channels=4, products=16,
    )  # fmt: skip


def cells(paper_cost, made, *words):
    asked = paper_cost.parsed(words)
    return {row[1]: row[2:] for row in paper_cost.rows("made", made, asked)}


def test_a_cell_is_what_one_computes_by_hand(paper_cost, made):
    words = ("--peak", "1000", "--utilization", "0.5", "--price", "2", "--flagged", "0.1")
    found = cells(paper_cost, made, *words)
    clean, flagged, days, money, *_, share = found["fast"]
    # 5 steps of two branches, a text; mapped: 2 evaluations, 2 x 16 products, a picture
    assert clean == "10 F = 10.5"
    assert flagged == "12 F + 32 V = 80.5"
    seconds = 400e6 * (10.5 + 0.1 * (80.5 - 10.5)) / (1000 * 0.5)
    assert days == f"{seconds / 86400:,.0f}" == "162"
    assert money == f"{seconds / 3600 * 2 / 1000:,.0f}" == "8"
    # published: two trajectories of 50 steps, 2 x 16 products, four texts, of every caption
    assert found["published"][0] == found["published"][1] == "200 F + 32 V = 266.0"
    assert share == f"{266 / 17.5:.1f}"
    assert found["image"][:2] == ["2 F = 5.5", "4 F + 32 V = 75.5"]


def test_what_is_repeated_is_not_scored_again_and_goes_into_no_ratio(paper_cost, made):
    whole, half = (cells(paper_cost, made, *words) for words in ((), ("--repeated", "0.5")))
    for name, row in whole.items():
        assert float(half[name][2].replace(",", "")) == pytest.approx(
            float(row[2].replace(",", "")) / 2, abs=1
        )
        assert half[name][-1] == row[-1]


def test_a_device_that_nobody_knows_needs_its_peak(paper_cost, capsys):
    with pytest.raises(SystemExit):
        paper_cost.parsed(["--device", "abacus"])
    assert "gpu_peaks.py has no abacus: give its --peak" in capsys.readouterr().err
    assert paper_cost.parsed(["--device", "abacus", "--peak", "2"]).peak == 2


def test_products_are_those_that_a_scan_of_the_model_takes(paper_cost, made):
    found = paper_cost.ways(replace(made, channels=16, products=64))
    assert {n: way.flagged.evaluations["vjp"] for n, way in found.items()} == {
        "published": 32, "paper": 32, "balanced": 128, "fast": 128, "image": 128,
    }  # fmt: skip


def test_stable_diffusion_is_counted_and_its_page_written(paper_cost, tmp_path, monkeypatch):
    subject = paper_cost.true_subjects()[0]
    of = paper_cost.operations_of(subject)
    assert of.forward == pytest.approx(0.803e12, rel=0.01)  # docs/models.md
    assert of.vjp == pytest.approx(0.923e12, rel=0.01)
    layers = 12 * (2 * 12 * 768**2 * 77 + 4 * 77**2 * 768)
    assert of.text == pytest.approx(layers, rel=0.01)  # CLIP-L: 12 layers of width 768
    assert of.encoding < of.decoding < 4 * of.forward

    monkeypatch.setattr(paper_cost, "true_subjects", lambda: [subject])
    page = tmp_path / "page.md"
    page.write_text("\n".join(["before", *paper_cost.MARKS, "after"]))
    paper_cost.main(["--docs", str(page)])
    content = page.read_text()
    assert "Assumed: 30% of the peak of the device (H100 SXM: 989 TFLOP/s" in content
    assert "| Stable Diffusion 1.4 | paper | 100 F = 80.3 | 102 F + 32 V = 114.0 |" in content
    assert content.endswith("after")
