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
from scanner.engine import cluster
from scanner.models.gaussian import Gaussian

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


def write(path, texts: list[str], bare: int = 0):
    """Write samples with pictures of noise, the last few without one."""
    noise = np.random.default_rng(len(texts))
    with TarWriter(str(path)) as tar:
        for number, text in enumerate(texts):
            stream = io.BytesIO()
            pixels = noise.integers(0, 256, (32, 32, 3), np.uint8)
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
    shard = write(tmp_path / "a.tar", texts, bare=2)
    of = {name: tmp_path / f"{name}.json" for name in ("image", "generated")}

    def said(*words: object) -> tuple[int, str, str]:
        return memscan(monkeypatch, capsys, *words)

    with cluster():
        for source, path in of.items():
            words = ("calibrate", null, *OPTIONS, "--source", source, "--timestep", 201)
            assert said(*words, "--out", path)[0] == 0
        scan = ("scan", shard, *OPTIONS, "--actors", 1, "--fpr", 0.05, "--json")
        image = ("--source", "image", "--out", tmp_path / "image", "--calibration", of["image"])
        code, out, _ = said(*scan, *image, "--timestep", 201)
        assert (code, json.loads(out)["rejected"]) == (0, 2)
        code, _, told = said(*scan, *image)
        assert code == 2
        assert "timestep (calibration 201, scan 61)" in told
        auto = ("--source", "auto", "--out", tmp_path / "auto", "--timestep", 201)
        code, _, told = said(*scan, *auto, "--calibration", of["generated"])
        assert (code, "auto needs two calibrations" in told) == (2, True)
        both = ("--calibration", of["generated"], "--image-calibration", of["image"])
        code, out, _ = said(*scan, *auto, *both)
        assert (code, json.loads(out)["rejected"]) == (0, 0)
    rows = {
        name: {row["caption"]: row for row in table(tmp_path / name)} for name in ("image", "auto")
    }
    assert {c for c, row in rows["image"].items() if row["flagged"]} == set(texts[6:8])
    assert set(texts[6:]) <= {c for c, row in rows["auto"].items() if row["flagged"]}
    for caption, row in rows["image"].items():
        assert row["image_sha256"]
        for name in ("delta_s", "snap_back", "p_value"):
            assert row[name] == rows["auto"][caption][name]
    assert {c for c, row in rows["auto"].items() if row["image_sha256"] is None} == set(texts[8:])
    code, out, _ = said(
        "query", tmp_path / "image", "--format", "json",
        "SELECT caption, metric, image_sha256 FROM findings WHERE metric = 'snap_back' ORDER BY 1",
    )  # fmt: skip
    assert [row["caption"] for row in json.loads(out)] == sorted(texts[6:8])
    assert said("verify", tmp_path / "auto", "--keys")[0] == 0


def table(folder) -> list[dict]:
    return ds.dataset(folder / "scores", format="parquet").to_table().to_pylist()
