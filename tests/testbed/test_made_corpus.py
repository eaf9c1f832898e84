"""A folder holds the corpus of one seed and one number of negatives."""

from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from scanner.cli import app
from scanner.errors import ConfigError
from scanner.testbed.demo import make_corpus


@contextmanager
def quiet(_):
    yield lambda *_, **__: None


@contextmanager
def broken(title):
    raise AssertionError(f"{title} although it is there")
    yield


def made(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    make_corpus(folder, 1, 4, quiet)
    return folder


def test_the_same_settings_find_it_made(corpus):
    before = made(corpus)
    make_corpus(corpus, 1, 4, broken)
    assert made(corpus) == before


@pytest.mark.parametrize(("seed", "negatives"), [(2, 4), (1, 8)])
def test_other_settings_are_refused_and_change_nothing(seed, negatives, corpus):
    before = made(corpus)
    with pytest.raises(ConfigError, match="another seed or another number of negatives"):
        make_corpus(corpus, seed, negatives, quiet)
    options = ["--seed", str(seed), "--negatives", str(negatives)]
    done = CliRunner().invoke(app, ["testbed", "make", "--out", str(corpus), *options])
    assert isinstance(done.exception, ConfigError)
    assert made(corpus) == before


def test_what_was_interrupted_goes_on_and_more_shards_than_asked_for_are_refused(tmp_path, corpus):
    for name in ("evaluation-00000.tar", "calibration-00000.tar", "calibration-truth.parquet"):
        (tmp_path / name).write_bytes((corpus / name).read_bytes())
    (tmp_path / "evaluation-00009.tar").touch()
    with pytest.raises(ConfigError, match="another seed or another number of negatives"):
        make_corpus(tmp_path, 1, 4, quiet)
    (tmp_path / "evaluation-00009.tar").unlink()
    make_corpus(tmp_path, 1, 4, quiet)
    assert {n: c for n, (c, _) in made(tmp_path).items()} == {
        n: c for n, (c, _) in made(corpus).items()
    }


def test_a_truth_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "evaluation-truth.parquet").write_bytes(b"no Parquet")
    with pytest.raises(ConfigError, match=r".*evaluation-truth.parquet cannot be read"):
        make_corpus(tmp_path, 1, 4, quiet)
