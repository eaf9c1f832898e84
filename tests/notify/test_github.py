"""Annotations that no caption can forge, and a summary that fits."""

from told import VILE, outcome, top

from scanner.notify.github import MOST_ANNOTATIONS, MOST_BYTES, GitHub, annotations, command


def test_an_alarm_is_an_error_and_a_gap_a_warning_and_quiet_is_nothing():
    assert annotations(outcome())[0] == (
        "::error title=memscan audit 000002-2026-01-02%3A ALARM::1 new finding"
    )
    gap = outcome("INCOMPLETE", findings=(), missing=("/data/b.tar: cut",))
    assert [text.split(" ")[0] for text in annotations(gap)] == ["::warning", "::warning"]
    assert annotations(outcome("FAILED", findings=()))[0].startswith("::error ")
    assert annotations(outcome("CLEAR")) == annotations(outcome("PARTIAL")) == []


def test_no_more_are_written_than_are_shown():
    assert len(annotations(outcome(findings=tuple(map(top, range(50)))))) == MOST_ANNOTATIONS


def test_no_text_ends_a_command_or_begins_another():
    said = command("error", "a:b,c\n::error::", "x%\r\n::set-env a::b ##[error]c")
    assert said.count("\n") == said.count("\r") == 0
    assert said == (
        "::error title=a%3Ab%2Cc%0A%3A %3Aerror%3A %3A::x%25%0D%0A: :set-env a: :b ## [error]c"
    )
    for text in annotations(outcome(findings=(top(key=VILE + "\n::error::x", caption=VILE),))):
        assert text.isprintable()
        assert text.count("::") == 2
        assert "##[" not in text


def test_the_summary_is_appended_and_cut_where_github_cuts(tmp_path, monkeypatch, capfd):
    file, folder = tmp_path / "step.md", tmp_path / "audit"
    folder.mkdir()
    (folder / "summary.md").write_text("# A night\n")
    file.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    GitHub().finished(outcome(), folder)
    assert file.read_text() == "before\n# A night\n\n"
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("::error title=")
    (folder / "summary.md").write_text("a line ü\n" * MOST_BYTES)
    for _ in range(2):
        GitHub().finished(outcome(), folder)
        assert MOST_BYTES - 100 < file.stat().st_size <= MOST_BYTES
    assert file.read_text().endswith("a line ü\n\nThe rest is left out.\n")


def test_without_a_folder_the_message_is_the_summary(tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    GitHub().finished(outcome("FAILED", why="```\n@all"), None)
    said = (tmp_path / "step.md").read_text()
    assert said.startswith("**memscan audit 000002-2026-01-02: FAILED**")
    assert said.count("```") == 2
    assert "@" not in said
