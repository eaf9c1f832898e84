"""Failed downloads, as img2dataset tells them beside its shards."""

import json

import pytest
from typer.testing import CliRunner

from scanner.cli import app
from scanner.shards.download_logs import failed_downloads


def test_failures_are_counted_over_local_tars_and_told_by_a_plan(tmp_path):
    for n, (count, successes) in enumerate([(10, 7), (5, 5)]):
        (tmp_path / f"{n:05d}.tar").write_bytes(bytes(1024))
        stats = {"count": count, "successes": successes, "failed_to_download": count - successes}
        (tmp_path / f"{n:05d}_stats.json").write_text(json.dumps(stats))
    tars = [str(tmp_path / f"{n:05d}.tar") for n in range(3)]
    assert failed_downloads([*tars, "s3://b/0.tar", str(tmp_path / "a.csv")]) == (3, 15)
    options = ["plan", str(tmp_path), "--model", "gaussian", "--rate", "9", "--local"]
    said = CliRunner().invoke(app, options).stdout
    assert "downloads   3 of 15 failed, by img2dataset's statistics: they are in no shard" in said


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"count": 3}',
        '{"count": "3", "successes": 1}',
        '{"count": 1, "successes": 2}',
    ],
)
def test_statistics_that_are_none_count_for_nothing(tmp_path, text):
    (tmp_path / "0_stats.json").write_text(text)
    assert failed_downloads([str(tmp_path / "0.tar")]) == (0, 0)
