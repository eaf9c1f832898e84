"""What a terminal gets: nothing steers it, and an interruption is exit code 130."""

import os
import pty
import sys
import unicodedata
from pathlib import Path

import pytest

from scanner import cli
from scanner.analysis import query
from scanner.errors import ConfigError
from scanner.records import Caption, ChunkResult, Reject, ScoreRow
from scanner.results.folder import Results

VILE = "key\x1b]0;owned\x07\x9b2J\r\u202e\u2028"
END = "<end of what was shown>"
HIDDEN = {"Cc", "Cf", "Zl", "Zp"}


@pytest.fixture
def results(tmp_path: Path) -> str:
    results = Results(tmp_path / "results")
    results.write_run("r1", {"started": "2026", "status": "key" + VILE})
    row = ScoreRow(Caption("a.tar", VILE, "=1+1" + VILE), 0, stage="detect", delta_s=1.0)
    reject = Reject("a.tar", VILE, "no_caption", VILE)
    chunk = ChunkResult(scores=[row], masks=[], rejects=[reject])
    assert results.commit("r1", "c", chunk, extra=[], facts={"samples": 2})
    return results.root


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str]:
    """Return exit code and output of a command whose standard streams are a terminal."""
    main, side = pty.openpty()
    with os.fdopen(side, "w", encoding="utf-8") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["memscan", *words])
        patch.setattr(sys, "stdout", stream)
        patch.setattr(sys, "stderr", stream)
        with pytest.raises(SystemExit) as left:
            cli.main()
        stream.write(END)
        stream.flush()
        text = b""
        while not text.endswith(END.encode()):  # a terminal gives what it has, line by line
            text += os.read(main, 1 << 16)
    os.close(main)
    shown = text.decode().removesuffix(END)
    return int(left.value.code or 0), shown.replace("\r\n", "\n")


def steers(text: str) -> set[str]:
    return {char for char in text if char != "\n" and unicodedata.category(char) in HIDDEN}


@pytest.mark.parametrize("fmt", ["table", "csv", "json"])
def test_a_query_steers_no_terminal(results: str, monkeypatch, fmt: str) -> None:
    code, text = on_a_terminal(monkeypatch, "query", results, "FROM rejects", "-f", fmt)
    assert code == 0
    assert "key" in text
    assert not steers(text)
    if fmt == "csv":
        assert r"key\x1b]0;owned\x07\x9b2J\r\u202e\u2028" in text


def test_a_file_and_a_pipe_get_what_is_there(results: str, tmp_path, capsys, monkeypatch) -> None:
    for more in ([], ["--out", str(tmp_path / "out.csv")], ["--spreadsheet"]):
        words = ["memscan", "query", results, "SELECT caption FROM scores", "-f", "csv", *more]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit):
            cli.main()
    piped, safe = capsys.readouterr().out.split("caption\n")[1:]
    quoted = f'"=1+1{VILE}"\n'
    assert piped == quoted
    assert (tmp_path / "out.csv").read_bytes().decode() == "caption\n" + quoted
    assert safe.startswith("'=1+1")
    assert not steers(safe)


def test_a_table_fits_a_terminal_and_is_whole_in_a_pipe(results: str, monkeypatch, capsys) -> None:
    words = ["query", results, "SELECT repeat('long-key ', 40) AS key, 1 AS n"]
    monkeypatch.setenv("COLUMNS", "80")
    _, shown = on_a_terminal(monkeypatch, *words)
    assert max(map(len, shown.splitlines())) == 80
    assert "…" in shown
    monkeypatch.setattr(sys, "argv", ["memscan", *words])
    with pytest.raises(SystemExit):
        cli.main()
    assert "long-key " * 40 in capsys.readouterr().out


def test_other_commands_and_errors_steer_no_terminal(results: str, monkeypatch) -> None:
    _, text = on_a_terminal(monkeypatch, "runs", results)
    assert "key" in text
    assert not steers(text)

    def fails(*_: object, **__: object) -> None:
        raise ConfigError(f"two\nlines {VILE}")

    monkeypatch.setattr(query, "run_query", fails)
    code, text = on_a_terminal(monkeypatch, "query", results, "SELECT 1")
    assert code == 2
    assert "two\nlines key" in text
    red, reset = "\x1b[31m", "\x1b[0m"
    assert not steers(text.replace(red, "").replace(reset, ""))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("Query interrupted")])
def test_an_interruption_is_exit_code_130(results: str, monkeypatch, error) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(query, "run_query", interrupted)
    code, text = on_a_terminal(monkeypatch, "query", results, "SELECT 1")
    assert (code, "interrupted" in text) == (130, True)
