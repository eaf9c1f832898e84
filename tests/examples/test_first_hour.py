"""The first hour, as its page says it: the commands of the docs, run by a shell, one way a test."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from hook_server import hook_server
from PIL import Image

from scanner.testbed import SHIPPED_SEED, WEIGHTS, corpus, lora

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "first-hour.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|toml)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
INSTALL, TABLE, FINE_TUNE, NIGHT = (text for kind, text in BLOCKS if kind == "sh")
(CONFIG,) = (text for kind, text in BLOCKS if kind == "toml")


@pytest.fixture
def desk(tmp_path):
    """A newcomer's folder: the checkout's weights, memscan.toml, and held-out captions."""
    (tmp_path / "scanner").symlink_to(ROOT / "scanner")
    (tmp_path / "memscan.toml").write_text(CONFIG)
    null = corpus.negatives(SHIPPED_SEED, "calibration", "scene", 24)
    lines = ["caption", *(f'"{item.caption}"' for item in null)]
    (tmp_path / "held-out.csv").write_text("\n".join(lines))
    return tmp_path


def planted(kind, number, seed=SHIPPED_SEED):
    return [item for item in corpus.planted(seed) if item.kind == kind][:number]


def samples():
    """Six memorized captions and six that are not."""
    clean = corpus.negatives(SHIPPED_SEED, "evaluation", "scene", 6)
    return [*planted("verbatim", 4), *planted("template", 2), *clean]


def run(commands, folder, **environment):
    """Run a block of the page; a command may end with 1, which says that something was found."""
    usual = {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", commands], cwd=folder, env=os.environ | usual | environment,
        capture_output=True, text=True, timeout=540, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


def test_the_extras_that_are_installed_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (asked,) = re.findall(r"'\.\[(.*)\]'", INSTALL)
    assert set(asked.split(",")) <= set(project["optional-dependencies"])


def test_a_table_of_captions_leads_to_findings_a_page_and_a_removal_list(desk):
    found = samples()
    pq.write_table(
        pa.table({"caption": [item.caption for item in found]}), desk / "captions.parquet"
    )
    done = run(TABLE, desk)
    assert done.returncode == 0, done.stderr
    page = (desk / "report.html").read_text(encoding="utf-8")
    known = {item.caption for item in found if item.memorized}
    assert all(caption in page for caption in known)
    assert (desk / "report.pdf").read_bytes().startswith(b"%PDF")
    rows = pq.read_table(desk / "removal" / "removal.parquet").to_pylist()
    assert known <= {found[row["row"]].caption for row in rows}
    assert {row["file"] for row in rows} == {"captions.parquet"}
    assert "captions from column caption" in done.stderr


def test_a_fine_tune_of_twenty_images_is_answered_with_a_picture(desk):
    photos = desk / "photos"
    photos.mkdir()
    known = [item for item in corpus.half(lora.SEED) if item.kind in ("verbatim", "template")]
    chosen = [*known[:5], *known[-5:], *corpus.negatives(lora.SEED, "train", "scene", 10)]
    for number, item in enumerate(chosen):
        picture = item.draw(corpus.generator("photos", number))
        Image.fromarray(picture).save(photos / f"{number:02}.png")
        (photos / f"{number:02}.txt").write_text(item.caption)
    (desk / "lora.safetensors").symlink_to(WEIGHTS / "lora" / lora.FILE)
    done = run(FINE_TUNE, desk)
    assert done.returncode == 1, done.stderr
    told = json.loads((desk / "reproduced" / "samples.json").read_text())
    given = {int(one["key"]) for one in told["samples"] if one["verdict"] in ("whole", "region")}
    assert len(given & set(range(10))) >= 7
    assert given <= set(range(10))
    with Image.open(desk / "reproduced" / "sheet.png") as sheet:
        assert sheet.height > 20 * 128


def test_a_night_in_a_bucket_is_told_to_a_webhook_and_the_next_one_is_quiet(desk, s3):
    with webdataset.TarWriter(str(desk / "a.tar")) as tar:
        for number, item in enumerate(samples()):
            picture = item.draw(corpus.generator("night", number))
            tar.write({"__key__": f"{number:02}", "txt": item.caption, "png": picture})
    fsspec.filesystem("s3").put(str(desk / "a.tar"), f"{s3.bucket}/shards/a.tar")
    commands = NIGHT.replace("s3://corpus", s3.bucket)
    with hook_server() as hooks:
        first = run(commands, desk, WEBHOOK=f"{hooks.url}/night")
        second = run(commands, desk, WEBHOOK=f"{hooks.url}/night")
        posts = [post.json() for post in hooks.taken("/night")]
    assert (first.returncode, second.returncode) == (1, 0), first.stderr + second.stderr
    assert [post["banner"]["word"] for post in posts] == ["ALARM", "CLEAR"]
    assert first.stdout.splitlines()[-1].startswith(f"report  {s3.bucket}/audit/audits/000001-")
    assert "starting Ray" not in second.stderr
