import pytest
from typer.testing import CliRunner

from scanner.cli import app, options
from scanner.errors import ConfigError, IncompleteError
from scanner.methods.registry import DETECTORS
from scanner.models import fingerprint
from scanner.spec import ScanSpec
from scanner.statistics.calibration import Calibration


def test_names_are_a_list_or_a_word_for_one():
    assert options.detectors("all") == tuple(DETECTORS)
    assert options.detectors("none") == ()
    assert options.detectors(" wen , dsm,") == ("wen", "dsm")
    assert options.maps("default") == ("delta_s", "delta_h", "curvature")
    assert options.maps("default,combined_s, delta_s")[3:] == ("combined_s",)
    assert options.maps("default", "image")[-1] == "snap_back"
    assert options.detectors("all,wen") == tuple(DETECTORS)
    assert options.detectors("default") == ("default",), "for the spec to refuse"
    with pytest.raises(ConfigError, match="none and other names exclude each other"):
        options.detectors("none,wen")


EXCLUDING = [
    (("--threshold", "1", "--fpr", "0.01"), "--fpr and --threshold exclude each other"),
    (("--threshold", "1", "--fdr", "0.01"), "--fdr and --threshold exclude each other"),
    (("--fpr", "0.01", "--fdr", "0.01"), "--fpr and --fdr exclude each other"),
    (("--fpr", "0.01"), "--fpr needs the p-values of a calibration"),
    (("--screen", "--screen-threshold", "1"), "--screen and --screen-threshold exclude"),
]  # fmt: skip


@pytest.mark.parametrize("command", ["scan", "plan", "audit"])
@pytest.mark.parametrize(("asked", "said"), EXCLUDING, ids=lambda value: str(value)[:30])
def test_an_option_that_another_would_override_is_refused(command, asked, said, tmp_path):
    shard = tmp_path / "a.tar"
    shard.write_bytes(bytes(1024))
    own = {
        "scan": ["--out", str(tmp_path / "out")],
        "plan": ["--rate", "1"],
        "audit": ["--state", str(tmp_path / "state")],
    }
    words = [command, str(shard), "--model", "gaussian", *own[command], *asked]
    if command == "audit" and "--threshold" not in asked:
        words += ["--calibration", str(tmp_path / "c.json")]
        if asked == ("--fpr", "0.01"):
            return
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, ConfigError)
    assert said in str(done.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar"]


def test_a_plan_refuses_a_share_that_would_be_ignored(tmp_path):
    (tmp_path / "a.tar").write_bytes(bytes(1024))
    words = ["plan", str(tmp_path), "--model", "gaussian", "--rate", "1", "--localize", "all"]
    done = CliRunner().invoke(app, [*words, "--flagged", "0.5"])
    assert "--flagged is of --localize flagged" in str(done.exception)
    done = CliRunner().invoke(app, [*words, "--device", "tpu"])
    assert "device must be one of" in str(done.exception)


def test_an_option_without_effect_is_told(tmp_path, capsys):
    (tmp_path / "a.tar").write_bytes(bytes(1024))
    words = ["plan", str(tmp_path), "--model", "gaussian", "--rate", "1"]
    said = CliRunner().invoke(app, [*words, "--source", "image", "--steps", "20"]).stderr
    assert "--steps is without effect with --source image" in said
    assert "--guidance-scale" not in said
    said = CliRunner().invoke(app, [*words, "--timestep", "20"]).stderr
    assert "--timestep is without effect with --source generated" in said


def test_where_parts_lie_is_refused_in_a_plan_as_in_a_scan(tmp_path):
    (tmp_path / "a.tar").write_bytes(bytes(1024))
    words = ["plan", str(tmp_path), "--model", "gaussian", "--rate", "1"]
    done = CliRunner().invoke(app, [*words, "--offload", "half"])
    assert "offload must be one of none, text, all, got 'half'" in str(done.exception)
    done = CliRunner().invoke(app, [*words, "--device", "cpu", "--gpus-per-actor", "2"])
    assert "split over GPUs alone, got 2 GPUs an actor and device cpu" in str(done.exception)


@pytest.mark.parametrize(
    ("option", "known"), [("--detectors", "sharpness"), ("--maps", "combined")]
)
def test_an_unknown_method_is_refused_with_the_known_ones(option, known, tmp_path):
    asked = ["scan", str(tmp_path), "--model", "gaussian", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*asked, option, "wen,typo"])
    assert isinstance(done.exception, ConfigError)
    assert known in str(done.exception)
    assert "'typo'" in str(done.exception)


@pytest.mark.parametrize("command", ["scan", "calibrate"])
def test_the_help_names_the_methods(command):
    text = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
    assert "--maps" in text
    assert "--detectors" in text


def test_a_plan_of_damaged_shards_says_that_nothing_can_be_said_of_them(tmp_path):
    for number in range(6):
        (tmp_path / f"{number}.tar").write_bytes(bytes([200 + number]) * 3000)
    words = ["plan", str(tmp_path), "--model", "gaussian", "--rate", "1"]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, IncompleteError)
    assert "damaged     6 shards; what they hold is not counted in full" in done.stdout
    assert "left        unknown: nothing can be said of damaged shards" in done.stdout
    assert "0.tar" in str(done.exception)


def test_a_plan_refuses_the_calibration_that_a_scan_refuses(tmp_path):
    (tmp_path / "a.tar").write_bytes(bytes(1024))
    calibration, spec = tmp_path / "calibration.json", ScanSpec(steps=10)
    model = fingerprint("gaussian")
    Calibration(model, spec.score_fingerprint(), (1.0, 2.0), {}, 0.01, 2, "").save(calibration)
    words = [str(tmp_path), "--model", "gaussian", "--calibration", str(calibration)]
    for command in (["plan", "--rate", "1"], ["scan", "--out", str(tmp_path / "out")]):
        done = CliRunner().invoke(app, [*command, *words, "--steps", "11"])
        assert isinstance(done.exception, ConfigError)
        assert "the calibration must be made with the scan's settings" in str(done.exception)
    assert CliRunner().invoke(app, ["plan", "--rate", "1", *words, "--steps", "10"]).stdout
    hub = CliRunner().invoke(app, ["plan", str(tmp_path), "--model", "some/hub", "--rate", "1"])
    assert "model       not looked at: a scan may refuse it" in hub.stdout


@pytest.mark.parametrize("command", ["inspect", "choose"])
def test_a_device_or_precision_that_there_is_not_is_refused(command, tmp_path):
    words = {
        "inspect": ["inspect", "gaussian"],
        "choose": ["choose", str(tmp_path), "--model", "gaussian", "--truth", str(tmp_path / "t")],
    }
    done = CliRunner().invoke(app, [*words[command], "--device", "tpu"])
    assert "device must be one of auto, cpu, cuda, mps, got 'tpu'" in str(done.exception)
    done = CliRunner().invoke(app, [*words[command], "--dtype", "half"])
    known = "float32, bfloat16, float16, auto"
    assert f"dtype must be one of {known}, got 'half'" in str(done.exception)


def test_options_that_a_command_would_pass_over_are_refused(tmp_path):
    mute = ["mute", "0" * 64, "--state", str(tmp_path), "--undo", "--reason", "x"]
    assert "--undo ends a mute" in str(CliRunner().invoke(app, mute).exception)
    train = ["testbed", "train", "--start", str(tmp_path), "--vae-steps", "3"]
    for part in ("pipeline", "early"):
        (tmp_path / part).mkdir()
    assert "--start trains the main network alone" in str(CliRunner().invoke(app, train).exception)
    env = tmp_path / "env.json"
    env.write_text('{"working_dir": "x"}')
    submit = ["submit", "--working-dir", str(tmp_path), "--runtime-env", str(env)]
    done = CliRunner().invoke(app, [*submit, "--", "runs", "/x"])
    assert "--working-dir and the working_dir of" in str(done.exception)


def test_positives_are_looked_up_before_anything_is_scanned(tmp_path):
    (tmp_path / "a.tar").write_bytes(bytes(1024))
    words = ["calibrate", str(tmp_path / "a.tar"), "--model", "gaussian", "--screen-recall", "0.9"]
    out = ["--out", str(tmp_path / "c.json"), "--positives", str(tmp_path / "none.tar")]
    done = CliRunner().invoke(app, [*words, *out])
    assert "none.tar does not exist" in str(done.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar"]
