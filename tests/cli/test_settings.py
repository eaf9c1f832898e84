"""Options that nobody typed: from memscan.toml, then from the calibration."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner
from webdataset.writer import TarWriter

from scanner.cli import app
from scanner.errors import ConfigError
from scanner.models import fingerprint
from scanner.spec import ScanSpec
from scanner.statistics.calibration import Calibration

SPEC = ScanSpec(seeds=(0, 1), steps=20, guidance_scale=2.5, probes=4, map_back=1)


def calibration(spec=SPEC, **changes):
    scores = tuple(float(n) for n in range(1, 200))
    known = Calibration(
        fingerprint("gaussian"), spec.score_fingerprint(), scores, {}, 0.01, 199, "today",
        settings=spec.score_settings(),
    )  # fmt: skip
    return replace(known, **changes)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEMSCAN_CONFIG", raising=False)
    with TarWriter(str(tmp_path / "a.tar")) as tar:
        for number in range(3):
            tar.write({"__key__": f"{number}", "txt": f"caption {number}"})
    calibration().save(tmp_path / "c.json")
    return tmp_path


def plan(*words):
    usual = ["--model", "gaussian", "--rate", "1", "--json"]
    done = CliRunner().invoke(app, ["plan", "a.tar", *usual, *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return json.loads(done.stdout), done.stderr


def test_a_calibration_gives_the_settings_of_its_scores(here):
    found, said = plan("--calibration", "c.json", "--out", "r")
    assert found["run"] == plan("--calibration", "c.json", "--out", "r", *TYPED)[0]["run"]
    assert "as c.json was calibrated: --steps 20 --guidance-scale 2.5 --probes 4 " in said
    assert "--map-back 1 --seeds 2\n" in said


TYPED = (
    "--seeds", "2", "--steps", "20", "--guidance-scale", "2.5", "--probes", "4", "--map-back", "1",
)  # fmt: skip


def test_what_is_typed_beats_the_calibration_and_is_refused_where_it_cannot_be(here):
    with pytest.raises(ConfigError, match=r"steps \(calibration 20, scan 50\)"):
        plan("--calibration", "c.json", "--out", "r", "--steps", "50")


def test_a_calibration_of_images_makes_a_scan_of_images(here):
    spec = ScanSpec(source="image", timestep=101)
    calibration(spec).save(here / "i.json")
    _, said = plan("--calibration", "i.json", "--out", "r")
    assert "--source image --timestep 101" in said


def test_a_target_error_is_the_scans_or_its_calibrations_and_names_the_run(here):
    found = plan("--target-error", "0.1", "--out", "r")[0]
    assert found["run"] != plan("--out", "r")[0]["run"]
    assert found["probes"] == 40, "at most, with room for two rounds of 16"
    calibration(replace(SPEC, probes=40, target_error=0.2)).save(here / "near.json")
    near, said = plan("--calibration", "near.json", "--out", "r")
    assert "--target-error 0.2" in said
    assert near["probes"] == 40
    with pytest.raises(ConfigError, match=r"target_error \(calibration 0.2, scan 0.3\)"):
        plan("--calibration", "near.json", "--out", "r", "--target-error", "0.3")
    with pytest.raises(ConfigError, match="target_error must lie between 0 and 1, got 2"):
        plan("--target-error", "2")


def test_a_calibration_without_settings_gives_none(here):
    calibration(ScanSpec(), settings={}).save(here / "old.json")
    _, said = plan("--calibration", "old.json", "--out", "r")
    assert "was calibrated" not in said


def test_a_file_gives_options_to_every_command_and_to_one(here):
    plain, _ = plan()
    (here / "memscan.toml").write_text("guidance-scale = 3.0\n[plan]\nseeds = 3\n")
    found, said = plan()
    assert found["draws"] == 3 * plain["draws"]
    assert "from memscan.toml, unless typed: --guidance-scale --seeds" in said
    assert plan("--seeds", "1")[0]["draws"] == plain["draws"]


def test_a_command_below_another_has_a_table_below_the_others(here):
    (here / "memscan.toml").write_text("[testbed.make]\nnegatives = 4\nout = 'planted'\n")
    done = CliRunner().invoke(app, ["testbed", "make"])
    assert done.exception is None, done.output
    assert "from memscan.toml, unless typed: --negatives --out" in done.stderr
    assert (here / "planted").is_dir()


@pytest.mark.parametrize("value", ["'nowhere/at/all'", "['null', 'nowhere/at/all']"])
def test_an_option_that_repeats_is_one_word_or_a_list_in_the_file(here, value):
    (here / "memscan.toml").write_text(f"baseline = {value}\n")
    with pytest.raises(ConfigError, match="a baseline network needs a diffusers pipeline"):
        plan()


@pytest.mark.parametrize(
    ("preset", "same"),
    [
        ("paper", ("--steps", "50", "--guidance-scale", "7.5", "--probes", "16",
                   "--probe-design", "rademacher")),
        ("balanced", ("--steps", "20")),
        ("fast", ("--steps", "5", "--map-back", "2")),
    ],
)  # fmt: skip
def test_a_preset_is_the_settings_that_it_stands_for(here, preset, same):
    found = plan("--out", "r", "--preset", preset)[0]
    assert found["run"] == plan("--out", "r", *same)[0]["run"]
    assert found["run"] != plan("--out", "r")[0]["run"]


def test_what_is_typed_or_in_a_file_beats_a_preset(here):
    fast = plan("--out", "r", "--preset", "fast", "--steps", "7")[0]["run"]
    assert fast == plan("--out", "r", "--steps", "7", "--map-back", "2")[0]["run"]
    (here / "memscan.toml").write_text("steps = 7\n")
    assert plan("--out", "r", "--preset", "fast")[0]["run"] == fast


def test_a_preset_goes_no_steps_back_at_an_image(here):
    image = ("--out", "r", "--source", "image")
    found = plan(*image, "--preset", "fast")[0]["run"]
    assert found == plan(*image, "--steps", "5")[0]["run"]


def test_a_preset_that_there_is_not_is_refused(here):
    with pytest.raises(ConfigError, match="--preset must be one of paper, balanced, fast, got 'q'"):
        plan("--out", "r", "--preset", "q")


def test_a_preset_beats_a_calibration_which_then_is_refused_if_it_differs(here):
    with pytest.raises(ConfigError, match=r"steps \(calibration 20, scan 5\)"):
        plan("--calibration", "c.json", "--out", "r", "--preset", "fast")


def test_a_consensus_is_refused_without_a_calibration_that_has_one(here):
    with pytest.raises(ConfigError, match="give a --calibration that was made with --flag-by con"):
        plan("--out", "r", "--flag-by", "consensus")
    with pytest.raises(ConfigError, match="no null scores of consensus"):
        plan("--out", "r", "--flag-by", "consensus", "--calibration", "c.json")


def test_a_file_beats_a_calibration(here):
    (here / "memscan.toml").write_text("steps = 50\n")
    with pytest.raises(ConfigError, match=r"steps \(calibration 20, scan 50\)"):
        plan("--calibration", "c.json", "--out", "r")


def test_another_file_is_named_by_an_option_or_the_environment(here, monkeypatch):
    (here / "other.toml").write_text("seeds = 2\n")
    words = ["plan", "a.tar", "--model", "gaussian", "--rate", "1", "--json"]
    done = CliRunner().invoke(app, ["--config", "other.toml", *words])
    assert "from other.toml, unless typed: --seeds" in done.stderr
    monkeypatch.setenv("MEMSCAN_CONFIG", "other.toml")
    assert "from other.toml, unless typed: --seeds" in plan()[1]
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read"):
        raise CliRunner().invoke(app, ["--config", "none.toml", *words]).exception


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step = 3\n", "step: no command has such an option; did you mean steps?"),
        ("[plan]\nevents = 'x'\n", "events: plan has no such option"),
        ("[scans]\nsteps = 3\n", "scans: there is no such command; did you mean scan?"),
        ("[jobs.lists]\n", "lists: memscan jobs has no such command; did you mean list?"),
        (
            "[jobs]\naddress = 'x'\n",
            "address: memscan jobs has no options: name one of its commands",
        ),
        (
            "[jobs.list]\nadress = 'x'\n",
            "adress: jobs list has no such option; did you mean address?",
        ),
        ("steps = \n", "cannot be read as TOML"),
    ],
)
def test_a_slip_in_the_file_is_told(here, text, message):
    (here / "memscan.toml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        plan()
    assert message in str(raised.value)


def test_a_precision_that_auto_decides_names_the_run_as_if_it_were_typed(here, pipeline_folder):
    model = ("--model", str(pipeline_folder), "--out", "r")
    for device, dtype in (("cuda", "float16"), ("cpu", "float32")):
        found, said = plan(*model, "--device", device, "--dtype", "auto")
        typed, nothing = plan(*model, "--device", device, "--dtype", dtype)
        assert found["run"] == typed["run"]
        assert found["dtype"] == typed["dtype"] == dtype
        assert f"--dtype auto is {dtype}: the device is {device}" in said
        assert "--dtype" not in nothing


def test_auto_goes_by_the_device_and_a_cluster_does_not_say_it_yet(here, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(ConfigError, match="what a cluster has is known when it is joined"):
        plan("--dtype", "auto")
    assert plan("--dtype", "auto", "--local")[0]["dtype"] == "float32"
    assert plan("--dtype", "auto", "--device", "cpu")[0]["dtype"] == "float32"


def test_auto_beside_a_calibration_of_another_precision_is_refused(here, pipeline_folder):
    spec = replace(SPEC, dtype="float32")
    calibration(spec, model=fingerprint(str(pipeline_folder))).save(here / "p.json")
    words = ("--model", str(pipeline_folder), "--calibration", "p.json", "--device", "cuda")
    assert plan(*words)[0]["dtype"] == "float32"
    with pytest.raises(ConfigError, match=r"dtype \(calibration float32, scan float16\)"):
        plan(*words, "--dtype", "auto")
