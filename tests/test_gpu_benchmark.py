"""The benchmark for a GPU, at toy size on the CPU: what it writes, and that its checks can fail."""

import importlib
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

TOY = ["--toy", "--device", "cpu", "--captions", "2", "--seconds", "0.05", "--no-compile"]
PLANTED = 1.5
"""What a wrong score is of the right one, beyond every tolerance."""


@pytest.fixture(scope="module")
def modules():
    """The benchmark's modules by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        names = ("gpu", "gpu_bench", "gpu_checks", "gpu_networks", "gpu_peaks", "gpu_report",
                 "gpu_speed")  # fmt: skip
        yield {name: importlib.import_module(name) for name in names}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def ended(modules, tmp_path_factory):
    """A whole toy run: its exit code, its JSON and its tables."""
    out = tmp_path_factory.mktemp("gpu")
    code = modules["gpu"].main([*TOY, "--out", str(out), "--peak-tflops", "0.1"])
    return code, json.loads((out / "gpu.json").read_text()), (out / "gpu.md").read_text()


def rows_of(page, title):
    section = page.split(f"## {title}\n\n")[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in section]


def test_a_toy_run_passes_and_says_what_it_ran_on(ended):
    code, found, page = ended
    assert code == 0
    assert found["complete"] is True
    assert "- ended: yes" in page
    assert {"device", "torch", "diffusers", "command", "peak"} <= set(found["environment"])
    assert found["environment"]["command"].startswith("python benchmarks/gpu.py --toy")
    assert [note for note in found["notes"] if "TF32" in note]


def test_its_tables_have_a_row_for_every_way_and_setting(modules, ended):
    _, found, page = ended
    report = modules["gpu_report"]
    for title, heads, number in (
        ("Checks", report.CHECKS, 2 * 3), ("Speed", report.SPEED, 3 * 4),
        ("Memory", report.MEMORY, 1 + 3),
    ):  # fmt: skip
        head, line, *rows = rows_of(page, title)
        assert head == list(heads.values())
        assert set(line) == {"---"}
        assert [len(row) for row in rows] == [len(heads)] * number
        assert len(found[title.lower()]) == number
    assert {row["way"] for row in found["checks"]} == {
        "float32, TF32 off, cpu", "float16, cpu", "bfloat16, cpu",
    }  # fmt: skip


def test_shares_of_the_time_add_up_and_the_speed_follows_from_the_operations(ended):
    parts = ("network", "product", "autoencoder", "preparation", "other")
    for row in ended[1]["speed"]:
        assert sum(row[part] for part in parts) == pytest.approx(1)
        assert row["share_of_peak"] == pytest.approx(row["tflops"] / 0.1)
        assert row["captions_per_second"] > 0
        assert row["extrapolated"] == row["measured"].startswith("extrapolated")
        has_products = row["evaluations"].get("vjp", 0) > 0
        assert (row["product"] > 0) == has_products


def test_memory_that_runs_out_is_recovered_from_with_the_same_scores(ended):
    forced = ended[1]["memory"][0]
    assert forced["verdict"] == "PASS"
    assert forced["shortages"] >= 2  # once for the sampling, once for the maps
    assert forced["rejects"] == 0
    assert forced["largest_score"] <= 2e-3


def test_a_planted_wrong_score_fails(modules, tmp_path, capsys):
    def wrong(numbers):
        scores = numbers.scores.copy()
        scores[0] *= PLANTED
        return replace(numbers, scores=scores)

    code = modules["gpu"].main([*TOY, "--out", str(tmp_path), "--only", "checks"], spoil=wrong)
    assert code == 1
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert {row["verdict"] for row in found["checks"]} == {"FAIL"}
    assert all(row["largest_score"] > 0.4 for row in found["checks"])
    assert "6 FAIL" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["largest_score", "largest_map", "smallest_iou", "rank"])
def test_every_number_alone_can_fail_a_check(modules, name):
    checks = modules["gpu_checks"]
    good = {"largest_score": 0.0, "largest_map": 0.0, "smallest_iou": 1.0, "rank": 1.0}
    assert checks.verdict(good, checks.EXACT) == "PASS"
    for bad in (1 - good[name], float("nan")):
        assert checks.verdict(good | {name: bad}, checks.EXACT) == "FAIL"


def test_a_run_that_is_stopped_leaves_what_it_had(modules, tmp_path):
    report = modules["gpu_report"].Report(tmp_path / "new", {"device": "a"})
    report.add("checks", {"model": "m | n", "way": "w", "verdict": "PASS"})
    page = (tmp_path / "new" / "gpu.md").read_text()
    assert "no, what follows is a part" in page
    assert "| m / n | w |" in page
    assert json.loads((tmp_path / "new" / "gpu.json").read_text())["complete"] is False


def test_a_stack_that_does_not_fit_is_measured_with_fewer_blocks(modules, tmp_path):
    networks, speed = modules["gpu_networks"], modules["gpu_speed"]
    unet, _, flux = networks.toy_subjects()
    assert networks.fitting(unet, 1) is None
    assert networks.fitting(flux, 10**9) is flux
    half = flux.shrunk(0.5)
    assert half.blocks == (4, 2)
    whole, built = networks.operations(flux), networks.operations(half)
    layers = whole[0] / built[0]
    assert layers == pytest.approx(2, rel=0.1)  # what is no block is small
    spec = speed.settings(16, toy=True)[2].spec
    ran = speed.ran(networks.built(half, torch.device("cpu")), spec, 2, speed.Batch(2, 2))
    line = speed.row(half, speed.settings(16, toy=True)[2], "eager", (ran, spec), whole, layers, 1)
    assert line["measured"] == "extrapolated from 2 of 2 steps, 2 of 4 blocks"
    assert line["captions_per_second"] < 2 / ran.seconds


def test_blocks_are_halved_until_a_draw_fits(modules, tmp_path, monkeypatch):
    bench_of, networks = modules["gpu_bench"], modules["gpu_networks"]
    built = networks.built

    def too_large(of, device):
        denoiser = built(of, device)
        if of.blocks[1] > 2:  # the allocator's own error
            denoiser.network.register_forward_pre_hook(lambda *_: torch.empty(2**50))
        return denoiser

    def settings_of(*arguments, **options):
        return modules["gpu_speed"].settings(*arguments, **options)[2:]

    monkeypatch.setattr(bench_of, "built", too_large)
    monkeypatch.setattr(bench_of, "settings", settings_of)
    report = modules["gpu_report"].Report(tmp_path, {})
    ends = time.perf_counter() + 60
    bench = bench_of.Bench(report, torch.device("cpu"), None, 0.05, ends, toy=True, compiles=False)
    bench.of_all(networks.toy_subjects()[2:])
    assert [row["measured"] for row in report.speed] == [
        "extrapolated from 2 of 2 steps, 2 of 4 blocks", "extrapolated from 2 of 4 blocks",
    ]  # fmt: skip
    assert "half of its blocks are taken: " in report.notes[0]
    assert report.failures == 0


def test_a_scan_that_takes_too_long_is_shortened_and_told_as_a_whole(modules):
    speed, networks = modules["gpu_speed"], modules["gpu_networks"]
    denoiser = networks.built(networks.toy_subjects()[0], torch.device("cpu"))
    setting = speed.Setting("long", replace(speed.settings(4, toy=True)[1].spec, steps=500))
    ran, spec = speed.measured(denoiser, setting, speed.Batch(1, 1), 0.5)
    assert spec.steps < 500
    full, short = (speed.expected(each, 4) for each in (setting.spec, spec))
    parts = speed.whole_seconds(ran, full, 1.0)
    assert parts["network"] == pytest.approx(
        ran.parts["network"] * full["forward"] / short["forward"]
    )


def test_a_compiler_that_fails_is_a_note_and_a_failing_network_an_error(modules, tmp_path):
    report = modules["gpu_report"].Report(tmp_path, {})
    subject = modules["gpu_networks"].toy_subjects()[0]
    setting = modules["gpu_speed"].settings(4, toy=True)[0]
    bench = modules["gpu_bench"].Bench(
        report, torch.device("cpu"), None, 1, time.perf_counter(), toy=True, compiles=True
    )

    def failing():
        raise RuntimeError("no kernel image")

    bench._try("compiled", subject, setting, failing)
    assert (report.failures, len(report.notes)) == (0, 1)
    bench._try("eager", subject, setting, failing)
    assert (report.failures, len(report.notes)) == (1, 2)
    bench.of_all([subject])
    assert "no time was left" in report.notes[-1]
    assert not report.speed


def test_peaks_are_found_by_whole_words_of_a_name(modules):
    peak_of = modules["gpu_peaks"].peak_of
    assert peak_of("NVIDIA H100 80GB HBM3")[0] == 989.4
    assert peak_of("NVIDIA H100 PCIe")[0] == 756
    assert peak_of("NVIDIA A100-SXM4-80GB")[0] == 312
    assert peak_of("Tesla T4")[0] == 65
    assert peak_of("NVIDIA L40S")[0] == 362
    assert peak_of("NVIDIA A10G") is None
    assert peak_of("cpu (x86_64)") is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "cpu"], "add --toy"),
        (["--device", "banana", "--toy"], "--device must be"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_line(modules, tmp_path, arguments, said):
    with pytest.raises(SystemExit, match=said):
        modules["gpu"].main(["--out", str(tmp_path / "none"), *arguments])
    assert not (tmp_path / "none").exists()
