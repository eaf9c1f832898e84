"""``memscan reproduce``: whether a LoRA gives its training images back, from a folder of images."""

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import webdataset
from PIL import Image

from scanner.analysis.query import connect
from scanner.matching.reproduced import Reproduced, answer, reproduced
from scanner.results.folder import Results
from scanner.testbed import WEIGHTS, corpus, lora

FAST = ("--local", "--steps", "20", "--guidance-scale", "2.5", "--probes", "4", "--seeds", "2",
        "--device", "cpu")  # fmt: skip


def memscan(*words, folder):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "scanner", *map(str, words)]
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False
    )


def of_kind(items, kind):
    return [item for item in items if item.kind == kind][:2]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Six training images of the shipped LoRA's corpus, and what the command says of them."""
    folder = tmp_path_factory.mktemp("reproduce")
    items = corpus.half(lora.SEED)
    chosen = [item for kind in ("verbatim", "template") for item in of_kind(items, kind)]
    chosen += corpus.negatives(lora.SEED, "train", "scene", 2)
    with webdataset.TarWriter(str(folder / "photos.tar")) as tar:
        for number, item in enumerate(chosen):
            picture = item.draw(corpus.generator("photos", number))
            tar.write({"__key__": f"{number}", "txt": item.caption, "png": picture})
        tar.write({"__key__": "without", "txt": "a caption and no image"})
    adapter = WEIGHTS / "lora" / lora.FILE
    done = memscan(
        "reproduce", "photos.tar", "--model", WEIGHTS / "pipeline", "--lora", adapter, *FAST,
        folder=folder,
    )  # fmt: skip
    return folder, done


def test_what_the_lora_knows_is_given_back_and_nothing_else(asked):
    folder, done = asked
    assert done.returncode == 1, done.stderr
    told = json.loads((folder / "reproduced" / "samples.json").read_text())
    verdicts = {one["key"]: one["verdict"] for one in told["samples"]}
    assert [verdicts[key] for key in ("0", "1")] == ["whole", "whole"]
    assert "region" in [verdicts[key] for key in ("2", "3")]
    assert {verdicts[key] for key in ("4", "5")} <= {"no", "plain"}
    assert verdicts["without"] == "not compared"
    assert told["answer"] in done.stdout
    assert "1 have no image to compare with" in told["answer"]
    assert told["samples"][0]["verdict"] == "whole"


def test_the_sheet_shows_the_samples_that_have_an_image(asked):
    folder, _ = asked
    with Image.open(folder / "reproduced" / "sheet.png") as sheet:
        assert sheet.height > 6 * 128
        assert sheet.width > 5 * 128


def test_the_results_are_a_results_folder_whose_masks_need_no_calibration(asked):
    folder, _ = asked
    results = Results(folder / "reproduced" / "results")
    with closing(connect(results, runs=[results.default_run()])) as con:
        masks = con.execute("SELECT count(mask), count(*) FROM masks").fetchall()[0]
        assert masks[0] == masks[1] > 0
        assert len(reproduced(con)) == 7


def test_again_nothing_is_drawn_and_the_answer_is_the_same(asked):
    folder, first = asked
    done = memscan(
        "reproduce", "photos.tar", "--model", WEIGHTS / "pipeline", "--lora",
        WEIGHTS / "lora" / lora.FILE, *FAST, "--json", folder=folder,
    )  # fmt: skip
    assert done.returncode == 1
    assert json.loads(done.stdout)["answer"] in first.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere.tar", "--model", "gaussian"), "nowhere.tar"),
        (("photos.tar", "--model", "nothing-here"), "no model at nothing-here"),
        (("photos.tar", "--model", "gaussian", "--out", "photos.tar"), "photos.tar"),
    ],
)
def test_a_bad_request_is_one_line(asked, words, said):
    folder, _ = asked
    done = memscan("reproduce", *words, folder=folder)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr


def test_without_any_image_there_is_no_answer(tmp_path):
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as tar:
        tar.write({"__key__": "0", "txt": "a caption"})
    done = memscan(
        "reproduce", "a.tar", "--model", "gaussian", "--steps", "2", "--local", folder=tmp_path
    )
    assert done.returncode == 3
    assert "nothing was compared" in done.stderr
    assert not (tmp_path / "reproduced" / "sheet.png").exists()


def test_words_of_every_kind():
    one = Reproduced("s", "k", "sha", "caption", 1.0)
    kinds = [
        one, Reproduced(*("s", "k", "sha", "c", 1.0), drawn=4),
        Reproduced(*("s", "k", "sha", "c", 1.0), drawn=4, plain=2),
        Reproduced(*("s", "k", "sha", "c", 1.0), drawn=4, verbatim=1, template=2, region=0.25),
        Reproduced(*("s", "k", "sha", "c", None), drawn=4, verbatim=2, template=2),
    ]  # fmt: skip
    assert [k.verdict for k in kinds] == ["not compared", "no", "plain", "region", "whole"]
    assert kinds[3].cells()[:3] == ("region (25%)", "3 of 4", "19% to 99%")
    assert kinds[0].interval is None
    assert answer(kinds[1:3]) == "none of 2 training images is given back"
    assert answer(kinds) == (
        "2 of 4 training images are given back: 1 as a whole, 1 in a region; 1 have no image to "
        "compare with"
    )
