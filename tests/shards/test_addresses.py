from pathlib import Path

import fsspec
import pytest

from scanner.errors import ConfigError
from scanner.shards import addresses
from scanner.shards.expansion import expand


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("1.tar", "2.tar", "10.tar", "x.tar.gz", "note.md", "odd[1].tar", "br{a,b}.tar"):
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "00007.tar").touch()
    return tmp_path


def names(corpus: Path, patterns: list[str]) -> list[str]:
    found = expand(patterns)
    assert all(Path(p).is_absolute() for p in found)
    return [str(Path(p).relative_to(corpus)) for p in found]


def test_order_is_kept_and_each_comes_once(corpus: Path) -> None:
    assert names(corpus, ["10.tar", "1.tar", "./deep/../10.tar"]) == ["10.tar", "1.tar"]


def test_globs_come_in_natural_order(corpus: Path) -> None:
    assert names(corpus, ["[0-9]*.tar"]) == ["1.tar", "2.tar", "10.tar"]
    assert "deep/00007.tar" in names(corpus, ["**/*.tar"])


def test_a_folder_is_its_tars(corpus: Path) -> None:
    assert names(corpus, ["deep"]) == ["deep/00007.tar"]
    assert names(corpus, ["."])[:3] == ["1.tar", "2.tar", "10.tar"]
    assert "note.md" not in names(corpus, [str(corpus)])


def test_a_name_that_exists_is_not_a_pattern(corpus: Path) -> None:
    assert names(corpus, ["odd[1].tar", "br{a,b}.tar"]) == ["odd[1].tar", "br{a,b}.tar"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{08..11}", ["08", "09", "10", "11"]),
        ("{8..11}", ["8", "9", "10", "11"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{a,b}-{0..1}", ["a-0", "a-1", "b-0", "b-1"]),
        ("{a,b{1,2}}", ["a", "b1", "b2"]),
        ("{x}{}", ["{x}{}"]),
    ],
)
def test_braces_expand_as_in_a_shell(pattern: str, expected: list[str]) -> None:
    found = expand([f"s3://bucket/{pattern}.tar"])
    assert found == [f"s3://bucket/{e}.tar" for e in expected]


def test_a_web_server_may_be_named_by_its_ipv6_address() -> None:
    found = expand(["http://[::1]:8000/{1..2}.tar", "https://[2001:db8::7]/a.tar?part=1"])
    assert found == [
        "http://[::1]:8000/1.tar",
        "http://[::1]:8000/2.tar",
        "https://[2001:db8::7]/a.tar?part=1",
    ]
    assert addresses.file_name(found[0]) == "1.tar"


def test_a_list_names_one_a_line(corpus: Path) -> None:
    lines = "# mine\n\n  1.tar  \ndeep/*.tar\nhttps://x.org/{0..1}.tar?sig=a\n"
    (corpus / "list.txt").write_text(lines)
    assert expand(["list.txt"]) == [
        str(corpus / "1.tar"),
        str(corpus / "deep/00007.tar"),
        "https://x.org/0.tar",
        "https://x.org/1.tar",
    ]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("missing.tar", "missing.tar does not exist"),
        ("~nobody-at-all/a.tar", "names a home folder that is not there"),
        ("~nobody-at-all#split=x", "names a home folder that is not there"),
        ("{1..3}.tar", "3.tar does not exist"),
        ("no-*.tar", "no-.* matches no file"),
        ("empty", "the folder empty holds no"),
        ("/dev/null", "/dev/null is not a file"),
        ("none.txt", "the list of shards none.txt cannot be read"),
        ("s3://b/list.txt", "a list of shards must be a local file"),
        ("https://x.org/*.tar", ".*a web server lists nothing"),
        ("http://[::1]/[0-9].tar", ".*a web server lists nothing"),
        ("http://user:word@[2001:db8::1]/a.tar", "(?!.*word).*shards are opened from"),
        ("x" * 5000, "a path cannot be looked up"),
        ("{0..99999999999}.tar", "0.tar does not exist"),
        ("s3://b/{0..99999999999}.tar", "the patterns name more than"),
        *(
            (command, "shards are opened from")
            for command in (
                "pipe:cat x",
                " pipe:cat x",
                "PIPE:cat x",
                "|cat x",
                "hf://a/b",
                "ssh://h/x.tar",
                "file:///etc/passwd",
                "https://x/a.tar::file:///etc/passwd",
                "simplecache::s3://b/x.tar",
                "http://[::1]/a.tar::file:///etc/passwd",
                "simplecache::http://[::1]/a.tar",
                "http://[::1::2]/a.tar",
                "http://[x::y]/a.tar",
                "s3://[::1]/a.tar",
                "s3:b/x.tar",
                "local:x.tar",
            )
        ),
    ],
)
def test_what_cannot_be_opened_is_refused_at_once(corpus: Path, pattern: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        expand([pattern])


def test_lists_are_checked_like_arguments(corpus: Path) -> None:
    (corpus / "bad.txt").write_text("1.tar\npipe:curl evil\n")
    with pytest.raises(ConfigError, match=r"shards are opened from"):
        expand(["bad.txt"])
    (corpus / "loop.txt").write_text("loop.txt\n")
    with pytest.raises(ConfigError, match=r"loop.txt:1: a list must name shards"):
        expand(["loop.txt"])
    with pytest.raises(ConfigError, match=r"no shards named"):
        expand([])


def test_a_glob_on_a_store_is_listed_by_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("10", "9"):
        memory.pipe(f"/bucket/{name}.tar", b"")
    monkeypatch.setattr(addresses, "REMOTE", (*addresses.REMOTE, "memory"))

    found = expand(["memory://bucket/*.tar"])

    assert found == ["memory:///bucket/9.tar", "memory:///bucket/10.tar"] or found == [
        "memory://bucket/9.tar",
        "memory://bucket/10.tar",
    ]
    with pytest.raises(ConfigError, match=r"memory://bucket/x.* matches nothing"):
        expand(["memory://bucket/x*.tar"])
