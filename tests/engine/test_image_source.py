"""Samples scored at their own image, through tars, Ray and Parquet."""

import io
import os
import signal
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
from engine_harness import job_of, rows, run, slow_build
from PIL import Image

from scanner.engine.identity import identify
from scanner.errors import ConfigError
from scanner.results.folder import Results
from scanner.spec import ScanSpec

SPEC = ScanSpec(
    source="image", timestep=201, seeds=(0, 1), probes=1, threshold=0.0,
    maps=("delta_s", "delta_h", "snap_back"),
)  # fmt: skip


def png(number: int) -> bytes:
    stream = io.BytesIO()
    colours = np.random.default_rng(number).integers(0, 256, (40, 30, 3), np.uint8)
    Image.fromarray(colours).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def pictured(tmp_path_factory):
    """Two shards in chunks of four in which captions and images repeat apart from one another."""
    folder, paths = tmp_path_factory.mktemp("pictured"), []
    for shard in range(2):
        paths.append(folder / f"{shard}.tar")
        with webdataset.TarWriter(str(paths[-1])) as tar:
            for n in range(10):
                sample = {"__key__": f"{n:03d}", "txt": f"caption {n % 3}", "png": png(n % 4)}
                if n == 6:
                    sample["png"] = sample["png"][:60]
                if n == 7:
                    del sample["png"]
                tar.write(sample)
    return paths


def table(root, name):
    results = Results(str(root))
    files = results.files(name, results.runs())
    return [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]


def test_killing_and_running_again_changes_no_row_of_samples_that_share_captions(
    pictured, tmp_path
):
    whole = tmp_path / "whole"
    summary = run(job_of(pictured, whole, spec=SPEC), actors=2)
    assert (summary.samples, summary.scored, summary.rejected) == (20, 16, 4)
    numbers = {
        (row["caption"], row["image_sha256"], row["seed"]): row["delta_s"]
        for row in table(whole, "scores")
    }
    assert len(set(numbers.values())) == len(numbers) > 2 * 2 * 3
    reasons = sorted(row["reason"] for row in table(whole, "rejects"))
    assert reasons == ["no_image"] * 2 + ["unreadable_image"] * 2

    def terminate(event):
        if event.kind == "chunk":
            os.kill(os.getpid(), signal.SIGTERM)

    (pids := tmp_path / "pids").mkdir()
    again = tmp_path / "again"
    with pytest.raises(KeyboardInterrupt):
        run(
            job_of(pictured, again, spec=SPEC, batch_size=1), actors=1, progress=terminate,
            build=slow_build(pids, 0.4),
        )  # fmt: skip
    assert 0 < len(table(again, "scores")) < 32
    assert run(job_of(pictured, again, spec=SPEC, batch_size=3), actors=1).samples == 20
    for name in ("scores", "masks", "rejects"):
        assert rows(again, name) == rows(whole, name)


def test_auto_needs_both_calibrations_or_none(pictured, tmp_path):
    auto = replace(SPEC, source="auto", threshold=None)
    for name in ("calibration", "image_calibration"):
        with pytest.raises(ConfigError, match="source auto needs two calibrations or none"):
            job_of(pictured, tmp_path, spec=auto, **{name: "c.json"})
    with pytest.raises(ConfigError, match="is for source auto, not image"):
        job_of(pictured, tmp_path, spec=SPEC, image_calibration="c.json")
    assert identify(job_of(pictured, tmp_path, spec=auto)).calibration == ""
