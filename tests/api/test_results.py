"""A corpus scanned from Python, and its results opened: what the commands do and read."""

import time
from io import BytesIO

import duckdb
import numpy as np
import pytest
import tiny
from engine_harness import write_shard
from PIL import Image

import scanner
from scanner.errors import ConfigError, ResultsError
from scanner.pictures import encode_jpeg
from scanner.results.folder import Results

CAPTIONS = [f"caption {n % 5}" for n in range(8)]
STEPS = {"steps": 4, "probes": 4}


@pytest.fixture(scope="module")
def model():
    return scanner.load_model("gaussian", device="cpu")


@pytest.fixture(scope="module")
def place(model, tmp_path_factory):
    """A results folder with two runs, of which the second has a threshold."""
    folder = tmp_path_factory.mktemp("results")
    write_shard(folder / "a.tar", CAPTIONS)
    write_shard(folder / "b.tar", [*CAPTIONS[:3], " "])
    for asked in ({}, {"threshold": 0.0, "localize": "all"}):
        done = scanner.scan_shards(
            str(folder / "*.tar"), model, folder / "results", chunk_size=3, **STEPS, **asked
        )
        assert (done.samples, done.scored, done.rejected) == (12, 11, 1)
        time.sleep(1.1)  # runs are told apart by the second at which they began
    return folder / "results"


def test_a_scan_goes_on_where_one_stopped_and_scores_no_caption_twice(model, tmp_path):
    shard = str(write_shard(tmp_path / "a.tar", CAPTIONS))
    first = scanner.scan_shards(shard, model, tmp_path / "r", limit=3, chunk_size=3, **STEPS)
    then = scanner.scan_shards(shard, model, tmp_path / "r", chunk_size=3, **STEPS)
    assert (first.samples, then.samples, then.chunks_skipped) == (3, 8, 1)
    assert then.run == first.run
    assert then.evaluations["draws"] == 5


def test_a_calibration_in_memory_flags_and_a_rate_is_settled_over_the_run(model, tmp_path):
    kept = scanner.calibrate(model, [f"null {n}" for n in range(19)], **STEPS)
    shard = str(write_shard(tmp_path / "a.tar", CAPTIONS))
    done = scanner.scan_shards(shard, model, tmp_path / "r", calibration=kept, fdr=0.3)
    record = Results(tmp_path / "r").read_run(done.run)
    assert record["identity"]["calibration"] == kept.fingerprint()
    assert record["spec"]["steps"] == 4
    assert record["verdict"]["rate"] == 0.3
    with pytest.raises(ConfigError, match="cannot read a calibration in memory"):
        scanner.scan_shards(shard, model, tmp_path / "r", calibration=kept, where="10.0.0.1:1")


def test_a_name_does_for_a_model_and_the_run_is_the_same(model, place):
    done = scanner.scan_shards(
        str(place.parent / "*.tar"), "gaussian", place, device="cpu", chunk_size=3, **STEPS
    )
    assert (done.chunks_done, done.samples) == (0, 12)


def test_on_ray_it_is_the_same_run(model, place, local_ray):
    done = scanner.scan_shards(
        str(place.parent / "*.tar"), model, place, where="ray", actors=1, chunk_size=3, **STEPS
    )
    assert (done.chunks_done, done.samples) == (0, 12)


def test_runs_and_views_are_those_of_the_commands(place):
    opened = scanner.open_results(place)
    runs = opened.runs()
    assert [one.status for one in runs] == ["complete"] * 2
    assert [one.run for one in runs] == Results(place).runs()
    assert (runs[0].model, runs[0].counts["samples"]) == ("gaussian", 12)
    scores = opened.arrow("scores")
    assert scores.num_rows == 11
    assert set(scores["run"].to_pylist()) == {runs[1].run}
    assert opened.arrow("scores", run="all").num_rows == 22
    assert opened.arrow("scores", run=runs[0].run).num_rows == 11
    assert opened.arrow("captions", run=[runs[0].run]).num_rows == 5
    assert opened.sql("SELECT count(*) AS n FROM masks").to_pylist()[0]["n"] > 0
    for view in ("masks", "rejects", "runs", "findings", "finding_maps", "retrieved", "confirmed"):
        assert opened.arrow(view).num_columns > 1


def test_a_stored_caption_is_what_scoring_it_gives(model, place):
    opened = scanner.open_results(place)
    sha = opened.sql("SELECT caption_sha256 FROM captions WHERE caption = 'caption 2'")
    kept = opened.score(sha.to_pylist()[0]["caption_sha256"][:16])
    (fresh,) = scanner.score(model, "caption 2", threshold=0.0, **STEPS)
    assert (kept.caption, kept.seeds, kept.flagged) == ("caption 2", (0,), fresh.flagged)
    assert kept.scores.keys() == fresh.scores.keys()
    assert kept.delta_s == pytest.approx(fresh.delta_s, rel=2e-5)
    assert list(kept.maps) == ["delta_h", "curvature", "delta_s"]
    for name, own in fresh.maps.items():
        assert kept.maps[name].values == pytest.approx(own.values, rel=5e-3, abs=5e-3), name
    again = Image.open(BytesIO(encode_jpeg(fresh.images[0])))
    assert np.array_equal(kept.images[0], np.asarray(again))
    with pytest.raises(ConfigError, match="nothing"):
        opened.score("nothing")


def test_pandas_is_used_where_it_is(place):
    pandas = pytest.importorskip("pandas")
    frame = scanner.open_results(place).pandas("captions")
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) == 5


def test_the_connection_reads_and_nothing_else(place, tmp_path):
    con = scanner.open_results(place).duckdb()
    assert con.execute("SELECT count(*) FROM scores").fetchall() == [(11,)]
    with pytest.raises(duckdb.Error):
        con.execute(f"COPY (SELECT 1) TO '{tmp_path}/a.csv'")
    con.close()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda o: o.arrow("nonsense"), "a view must be one of scores, masks"),
        (lambda o: o.arrow("scores", run="nonsense"), "no run nonsense"),
        (lambda o: o.sql("COPY (SELECT 1) TO 'a.csv'"), "only one SELECT"),
        (lambda o: o.sql("SELECT nonsense FROM scores"), "nonsense"),
    ],
)
def test_what_cannot_be_read_is_refused(place, call, said):
    with pytest.raises(ConfigError, match=said):
        call(scanner.open_results(place))


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(ResultsError, match="scan into it first"):
        scanner.open_results(tmp_path)


@pytest.mark.parametrize("wanted", [True, False])
def test_progress_is_shown_or_not_as_it_is_asked(model, capsys, wanted):
    scanner.score(model, ["a caption", "another"], progress=wanted, **STEPS)
    said = capsys.readouterr().err
    assert bool(said) == wanted
    if wanted:
        assert "score" in said


def test_what_a_scan_cannot_be_asked_is_refused(model, tmp_path):
    shard = str(write_shard(tmp_path / "a.tar", ["a caption"]))
    for asked in ({"actors": 2}, {"limit": 0}, {"source": "nonsense"}):
        with pytest.raises(ConfigError):
            scanner.scan_shards(shard, model, tmp_path / "r", **asked)
    assert not (tmp_path / "r").exists()


def test_a_models_channels_and_tokens_decide_the_products_as_for_the_command(tmp_path):
    flow = tiny.save(tiny.sd3, tmp_path / "sd3")
    model = scanner.load_model(str(flow), device="cpu")
    shard = str(write_shard(tmp_path / "a.tar", CAPTIONS[:1]))
    asked = {"steps": 2, "localize": "none"}
    done = scanner.scan_shards(shard, model, tmp_path / "r", **asked)
    told = scanner.scan_shards(shard, model, tmp_path / "r", probes=16, **asked)
    probes = [Results(tmp_path / "r").read_run(run.run)["spec"]["probes"] for run in (done, told)]
    assert probes == [64, 16]


def test_where_parts_lie_goes_with_a_model(tmp_path):
    folder = str(tiny.save(tiny.sd15, tmp_path / "sd15"))
    shard, asked = str(write_shard(tmp_path / "a.tar", CAPTIONS[:1])), {"steps": 2}
    model = scanner.load_model(folder, device="cpu", offload="text")
    assert (model.offload, model.denoiser.placement.offload) == ("text", "text")
    done = scanner.scan_shards(shard, model, tmp_path / "r", **asked)
    named = scanner.scan_shards(shard, folder, tmp_path / "s", device="cpu", offload="all", **asked)
    assert done.run == named.run
    kept = [Results(tmp_path / out).read_run(done.run)["config"]["offload"] for out in "rs"]
    assert kept == ["text", "all"]
    with pytest.raises(ConfigError, match="split over GPUs alone"):
        scanner.load_model(folder, device="cpu", gpus=2)
