"""The tables of benchmarks/methods.py: means and ranges over corpora, beside published numbers."""

import importlib
from pathlib import Path

import pytest

from scanner.analysis.evaluation import Evaluation
from scanner.methods.registry import DETECTORS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def methods():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        return importlib.import_module("methods")


def made(auc, iou):
    def row(score, against, value):
        return {"score": score, "against": against, "auc": value, "tpr@1%": value,
                "tpr@0.1%": value, "positives": 3, "negatives": 140}  # fmt: skip

    detection = [
        row(score, against, value)
        for score, value in (("delta_s", auc), ("wen", auc / 2), ("delta_s, seed 0 alone", 0.1))
        for against in ("all", "all but trap", "kind scene")
    ]
    localization = [
        {"pool": pool, "metric": "delta_h", "baseline": "null", "method": method, "iou": iou}
        for pool in ("template", "all")
        for method in ("oracle", "smoothed", "all ones")
    ]
    flags = [{"against": "all", "tpr": 1.0, "fpr": 0.02}]
    return Evaluation("r", {"captions_evaluated": 9}, detection, flags, localization)


def test_tables_have_mean_and_range_over_corpora_and_what_was_published(methods):
    beds = [methods.Testbed(Path("a"), 1), methods.Testbed(Path("b"), 2)]
    content = methods.text(beds, [made(1.0, 0.8), made(0.9, 0.6)])
    assert "Corpus seeds 1, 2" in content
    assert "| TPR at 1% FPR, without traps | TPR with no false positive among 140, w" in content
    assert "9 captions each, 3 of them memorized" in content
    line, by_kind = [one for one in content.splitlines() if one.startswith("| `delta_s` |")]
    assert line.startswith("| `delta_s` | 0.950 (0.900–1.000) |")
    assert by_kind == "| `delta_s` | 0.950 (0.900–1.000) |"
    assert line.endswith("| .997 / .982 | .997 / .968 | Kim & Lee, map mean |")
    assert content.index("| `delta_s` |") < content.index("| `wen` |")
    assert "alone" not in content
    assert "| `delta_h` | null | 0.700 (0.600–0.800) | 0.700 (0.600–0.800) |  |" in content
    assert "| all | 1.000 | 0.020 |" in content
    single = methods.text(beds[:1], [made(1.0, 0.8)])
    assert "| `delta_s` | 1.000 | 1.000 |" in single


def test_the_page_is_replaced_between_its_marks_alone(methods, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{methods.MARKS[0]}\nold\n{methods.MARKS[1]}\nafter\n")
    methods.written(page, methods.MARKS, "new")
    methods.written(page, methods.MARKS, "newer")
    assert page.read_text() == f"before\n{methods.MARKS[0]}\nnewer\n{methods.MARKS[1]}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="must have the lines"):
        methods.written(page, methods.MARKS, "new")


def test_published_numbers_are_of_scores_that_there_are(methods):
    columns = {*DETECTORS, "delta_s", "delta_h", "delta_s_early", "delta_h_early", "curvature",
               "increment_z", "tightness"}  # fmt: skip
    assert set(methods.PUBLISHED) <= columns
    with pytest.raises(SystemExit, match="is it a finished testbed train"):
        methods.measured(methods.Testbed(Path("nowhere"), 1), Path("out"), 4, print)
