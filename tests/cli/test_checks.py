"""What doctor finds and says is to be done, and models that are refused."""

import json
import shutil

import pytest
from typer.testing import CliRunner
from webdataset import TarWriter

from scanner import models
from scanner.cli import app
from scanner.errors import ConfigError

NOWHERE = "http://127.0.0.1:1"  # spares the start of a local Ray


def doctor(*words):
    done = CliRunner().invoke(app, ["doctor", "--address", NOWHERE, "--json", *map(str, words)])
    return {check["name"]: check for check in json.loads(done.stdout)}, done.exit_code


def test_a_doctor_finds_what_works_and_what_does_not(tmp_path):
    with TarWriter(str(tmp_path / "a.tar")) as writer:
        writer.write({"__key__": "a", "txt": "a caption"})
    (tmp_path / "cut.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:1200])
    (tmp_path / "file").touch()
    found, code = doctor(
        "--model", "gaussian", "--shards", tmp_path / "a.tar", "--results", tmp_path / "new/r"
    )
    assert code == 2
    failed = {name for name, check in found.items() if check["status"] == "fail"}
    assert failed == {"jobs API"}
    assert "no Jobs API answers" in found["jobs API"]["found"]
    assert "1; the first and the last hold 1 samples" in found["shards"]["found"]
    assert list((tmp_path / "new/r").iterdir()) == []
    found, code = doctor(
        "--model", tmp_path, "--shards", tmp_path / "cut.tar", "--results", tmp_path / "file"
    )
    assert "is not a model folder" in found["model"]["found"]
    assert (found["shards"]["status"], found["results"]["status"]) == ("warn", "fail")


def test_a_store_without_its_package_is_to_be_installed(monkeypatch):
    from scanner.cli import checks

    def absent(package):
        raise checks.PackageNotFoundError(package)

    monkeypatch.setattr(checks, "version", absent)
    assert checks._extras(["s3://b/0.tar"]).fix == "pip install 'memscan[s3]'"
    assert checks._extras(["gs://b/0.tar"]).fix == "pip install 'memscan[gcs]'"
    assert checks._extras(["/here/0.tar"]).status == "ok"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("FluxKontextPipeline", "is a FluxKontextPipeline: it edits a given picture"),
        ("Flux2Pipeline", "is a Flux2Pipeline: it is guidance-distilled"),
        ("LatentConsistencyModelPipeline", "is a Latent.*Pipeline: it is distilled to few steps"),
    ],
)
def test_a_model_of_another_class_is_refused_with_the_reason(kind, said, tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    with pytest.raises(ConfigError, match=f".*{said}"):
        models.load(str(tmp_path))


def test_pickled_weights_are_refused(pipeline_folder, tmp_path):
    folder = shutil.copytree(pipeline_folder, tmp_path / "pickled")
    for file in (folder / "unet").glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))
    with pytest.raises(ConfigError, match=r".*pickled has pickled weights in unet/, which run"):
        models.load(str(folder))
