"""`--source image` and `auto` as a user types them: real tars, real Ray, real Parquet."""

import io
import json
import sys

import numpy as np
import pyarrow.dataset as ds
import pytest
from PIL import Image
from webdataset import TarWriter

from scanner import cli
from scanner.engine.cluster import cluster
from scanner.models.gaussian import Gaussian
from scanner.testbed import WEIGHTS

OPTIONS = ("--model", "gaussian", "--steps", 2, "--probes", 1, "--device", "cpu")


def memscan(monkeypatch, capsys, *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["memscan", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    said = capsys.readouterr()
    return int(left.value.code or 0), said.out, said.err


def is_memorized(caption: str) -> bool:
    return bool(Gaussian().encode([caption])[0, 1].min() < 0.5)


def captions(tag: str, number: int, *, memorized: bool) -> list[str]:
    every = (f"{tag} {n}" for n in range(1000))
    return [c for c in every if is_memorized(c) is memorized][:number]


def write(path, texts: list[str], bare: int = 0, copied: str = ""):
    """Write samples with pictures of noise, one with its caption's, the last few without any."""
    noise = np.random.default_rng(len(texts))
    with TarWriter(str(path)) as tar:
        for number, text in enumerate(texts):
            stream = io.BytesIO()
            pixels = noise.integers(0, 256, (32, 32, 3), np.uint8)
            if text == copied:
                pixels = Gaussian().decode(Gaussian().encode([text])[:, 0])[0].numpy()
            Image.fromarray(pixels).save(stream, "PNG")
            sample = {"__key__": f"{number:03d}", "txt": text, "png": stream.getvalue()}
            if number >= len(texts) - bare:
                del sample["png"]
            tar.write(sample)
    return path


@pytest.mark.timeout(600)
def test_images_are_calibrated_scanned_and_told_apart(tmp_path, monkeypatch, capsys):
    null = write(tmp_path / "null.tar", captions("null", 40, memorized=False))
    texts = captions("plain", 6, memorized=False) + captions("copied", 4, memorized=True)
    shard = write(tmp_path / "a.tar", texts, bare=2, copied=texts[6])
    of = {name: tmp_path / f"{name}.json" for name in ("image", "generated")}

    def said(*words: object) -> tuple[int, str, str]:
        return memscan(monkeypatch, capsys, *words)

    with cluster():
        for source, path in of.items():
            words = ("calibrate", null, *OPTIONS, "--source", source, "--timestep", 401)
            assert said(*words, "--out", path)[0] == 0
        scan = ("scan", shard, *OPTIONS, "--actors", 1, "--fpr", 0.05, "--json")
        image = ("--source", "image", "--out", tmp_path / "image", "--calibration", of["image"])
        code, out, _ = said(*scan, *image, "--timestep", 401)
        assert (code, json.loads(out)["rejected"]) == (0, 2)
        code, out, told = said(*scan, *image)  # what nobody typed is the calibration's
        assert (code, json.loads(out)["chunks_done"], "--timestep 401" in told) == (0, 0, True)
        code, _, told = said(*scan, *image, "--timestep", 61)
        assert code == 2
        assert "timestep (calibration 401, scan 61)" in told
        auto = ("--source", "auto", "--out", tmp_path / "auto", "--timestep", 401)
        code, _, told = said(*scan, *auto, "--calibration", of["generated"])
        assert (code, "auto needs two calibrations" in told) == (2, True)
        both = ("--calibration", of["generated"], "--image-calibration", of["image"])
        code, out, _ = said(*scan, *auto, *both)
        assert (code, json.loads(out)["rejected"]) == (0, 0)
    rows = {
        name: {row["caption"]: row for row in table(tmp_path / name)} for name in ("image", "auto")
    }
    assert {c for c, row in rows["image"].items() if row["flagged"]} == {texts[6]}
    assert rows["image"][texts[7]]["seed_p_value"] < 0.05, "its caption is memorized"
    assert rows["image"][texts[7]]["snap_back"] < 0, "and this is not its image"
    flagged = {c for c, row in rows["auto"].items() if row["flagged"]}
    assert {texts[6], *texts[8:]} <= flagged < set(texts) - {texts[7]}
    for caption, row in rows["image"].items():
        assert row["image_sha256"]
        for name in ("delta_s", "snap_back", "p_value"):
            assert row[name] == rows["auto"][caption][name]
    assert {c for c, row in rows["auto"].items() if row["image_sha256"] is None} == set(texts[8:])
    code, out, _ = said(
        "query", tmp_path / "image", "--format", "json",
        "SELECT caption FROM finding_maps WHERE metric = 'snap_back' ORDER BY 1",
    )  # fmt: skip
    assert [row["caption"] for row in json.loads(out)] == texts[6:7]
    assert said("verify", tmp_path / "auto", "--keys")[0] == 0


@pytest.mark.timeout(600)
def test_images_whose_captions_are_lost_are_scored_without(tmp_path, monkeypatch, capsys):
    shards = [tmp_path / "null.tar", tmp_path / "a.tar"]
    for number, path in enumerate(shards):
        with TarWriter(str(path)) as tar:
            for n in range(8):
                stream = io.BytesIO()
                colours = np.random.default_rng(100 * number + n % 6).integers(0, 256, (64, 64, 3))
                Image.fromarray(colours.astype(np.uint8)).save(stream, "PNG")
                sample = {"__key__": f"{n}", "png": stream.getvalue()}
                if n == 3:
                    sample |= {"txt": "  ", "json": b"{"}  # of no use, and not looked at
                if n == 4:
                    sample = {"__key__": f"{n}", "txt": "a caption without an image"}
                tar.write(sample)

    def said(*words: object) -> tuple[int, str, str]:
        return memscan(monkeypatch, capsys, *words)

    options = ("--model", WEIGHTS / "pipeline", "--device", "cpu", "--probes", 1, "--no-captions")
    early = ("--baseline", WEIGHTS / "early", "--source", "image")
    code, _, told = said("plan", shards[1], *options, "--source", "image")
    assert (code, "less-trained network: give one --baseline" in told) == (2, True)
    code, _, told = said("plan", shards[1], *options, "--baseline", WEIGHTS / "early")
    assert (code, "without captions only images can be scored" in told) == (2, True)
    code, out, _ = said("plan", shards[1], *options, *early, "--rate", 100, "--json")
    planned = json.loads(out)
    assert (code, planned["captions"], planned["detection"]["forward"]) == (0, 8, 16)
    null = tmp_path / "null.json"
    with cluster():
        assert said("calibrate", shards[0], *options, *early, "--out", null)[0] == 0
        scan = ("scan", shards[1], *early, "--calibration", null, "--fpr", 0.4, "--json")
        code, _, told = said(*scan, *options[:-1], "--captions", "--out", tmp_path / "out")
        assert code == 2
        assert "different: captions (calibration False, scan True)" in told
        code, out, _ = said(*scan, *options, "--localize", "all", "--out", tmp_path / "out")
    assert (code, json.loads(out)["scored"], json.loads(out)["rejected"]) == (0, 7, 1)
    rows = table(tmp_path / "out")
    assert {(row["caption"], row["caption_sha256"] == row["image_sha256"]) for row in rows} == {
        ("", True)
    }
    assert len({row["image_sha256"] for row in rows}) == len({row["delta_s"] for row in rows}) == 5
    sql = "SELECT count(*) AS n, max(occurrences) AS most FROM captions"
    _, out, _ = said("query", tmp_path / "out", "--format", "json", sql)
    assert json.loads(out) == [{"n": 5, "most": 2}]
    sql = "SELECT DISTINCT metric, baseline, mask IS NULL AS bare FROM masks ORDER BY ALL"
    _, out, _ = said("query", tmp_path / "out", "--format", "json", sql)
    assert [tuple(row.values()) for row in json.loads(out)] == [
        ("curvature", "none", False), ("delta_h", "early", False), ("delta_s", "early", False),
        ("snap_back", "early", False),
    ]  # fmt: skip
    assert said("verify", tmp_path / "out", "--keys")[0] == 0


def table(folder) -> list[dict]:
    return ds.dataset(folder / "scores", format="parquet").to_table().to_pylist()
