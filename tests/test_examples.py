"""What the docs and examples tell a user to type, run for real against a small scan."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from webdataset.writer import TarWriter

ROOT = Path(__file__).parents[1]

from scan_here import scan_here  # noqa: E402

from scanner.analysis.coco import CATEGORIES, export  # noqa: E402
from scanner.analysis.query import run_query  # noqa: E402
from scanner.engine.job import Job  # noqa: E402
from scanner.errors import ConfigError  # noqa: E402
from scanner.masks import from_runs  # noqa: E402
from scanner.results.folder import Results  # noqa: E402
from scanner.spec import ScanSpec  # noqa: E402

SQL = (ROOT / "docs/sql.md").read_text("utf-8")
RECIPES = re.findall(r"```sql\n(.*?)```", SQL, re.S)
RUN_BY_RUN = re.findall(r"```sql\n(.*?)```", SQL.partition("need `--all-runs`")[2], re.S)[:2]
"""Recipes that compare runs."""


def png(level):
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), (level, 80, 200)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs of the closed-form model over two shards, with urls, duplicates and a bad sample."""
    folder = tmp_path_factory.mktemp("examples")
    keys = []
    for number in range(2):
        with TarWriter(str(folder / f"s-{number}.tar")) as tar:
            for i in range(8):
                about = json.dumps({"url": f"https://www.site-{i % 3}.example/{i}.jpg"})
                text = f"caption {number} {i}" if i % 4 else "one that occurs often"
                keys.append(f"{number}{i:03d}")
                tar.write({"__key__": keys[-1], "txt": text, "json": about, "png": png(30 * i)})
            tar.write({"__key__": f"bad{number}", "txt": " ", "json": "{}", "png": png(1)})
    licenses = ["cc-by" if i % 2 else "unknown" for i in range(len(keys))]
    pq.write_table(pa.table({"key": keys, "license": licenses}), folder / "metadata.parquet")
    for threshold in (0.0, 1e-6):
        spec = ScanSpec(
            seeds=(0, 1), steps=10, probes=4, localize="all", threshold=threshold,
            pixel_threshold=0.0,
        )  # fmt: skip
        shards = tuple(str(folder / f"s-{n}.tar") for n in range(2))
        job = Job(
            model="gaussian", results=str(folder / "results"), spec=spec, shards=shards, images=True
        )
        scan_here(job)
    return folder


@pytest.mark.parametrize("sql", RECIPES, ids=lambda sql: " ".join(sql.split())[:40])
def test_a_recipe_of_the_docs_answers(sql, folder, monkeypatch):
    monkeypatch.chdir(folder)
    out = io.StringIO()
    results, also = Results("results"), ["metadata.parquet"] if "metadata.parquet" in sql else []
    runs = None if sql in RUN_BY_RUN else [results.default_run()]
    assert run_query(results, sql, "json", out, also=also, runs=runs) > 0
    for row in json.loads(out.getvalue()):
        assert all(value is not None for name, value in row.items() if name in ("site", "caption"))


def test_a_file_of_ones_own_is_read_only_if_it_is_named(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError, match=r"metadata\.parquet"):
        run_query(Results("results"), RECIPES[-1], "json", io.StringIO())


def test_pycocotools_reads_the_masks_that_were_exported(folder, tmp_path):
    from pycocotools.coco import COCO

    results = Results(folder / "results")
    run = results.runs()[-1]
    number = export(results, run, tmp_path / "deep" / "masks.json")
    coco = COCO(str(tmp_path / "deep" / "masks.json"))
    assert len(coco.anns) == number > 0
    assert [coco.cats[i]["name"] for i in sorted(coco.cats)] == list(CATEGORIES)
    found = next(ann for ann in coco.anns.values() if ann["area"] > 0)
    counts = found["segmentation"]["counts"]
    image = coco.imgs[found["image_id"]]
    expected = from_runs(counts, image["height"], image["width"])
    mask = coco.annToMask(found)
    assert np.array_equal(mask.astype(bool), expected)
    left, top, width, height = found["bbox"]
    assert mask[top : top + height, left : left + width].sum() == found["area"] == mask.sum()
    with pytest.raises(ConfigError, match=r"no mask of wrong.*delta_h against null"):
        export(results, run, tmp_path / "none.json", metric="wrong")


@pytest.mark.parametrize(
    ("name", "pictures", "said"),
    [
        ("explore", 4, "captions,"),
        ("score_one_caption", 3, "flagged True   the hidden castle by bukugo delo"),
        ("compare_methods", 1, "delta_s      1.000"),
    ],
)
def test_a_notebook_runs_and_draws(name, pictures, said, folder, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("MEMSCAN_RESULTS", str(folder / "results"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    book = nbformat.read(ROOT / f"examples/{name}.ipynb", 4)
    shipped = [str(cell.get("outputs")) for cell in book.cells]
    assert sum("image/png" in text for text in shipped) == pictures, "run it again, with outputs"
    nbclient.NotebookClient(book, timeout=500, kernel_name="python3").execute()
    drawn = [str(cell.get("outputs")) for cell in book.cells]
    assert sum("image/png" in text for text in drawn) == pictures
    for texts in (shipped, drawn):
        assert said in " ".join(texts)


def test_the_page_on_python_does_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text("utf-8"), re.S)
    assert len(blocks) == 8
    names = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    said = capsys.readouterr().out
    assert "a red circle True (2,)" in said
    assert "steps (calibration 10, scan 11)" in said
    assert "complete 3" in said
    assert (tmp_path / "panel.png").read_bytes().startswith(b"\x89PNG")
