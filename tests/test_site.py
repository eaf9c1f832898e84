"""Pages: links lead somewhere, commands exist, and each page is in the site."""

import re
import shlex
import tomllib
import unicodedata
from pathlib import Path

import pytest
import typer
import yaml
from docs_modules import docs_module

from scanner import __version__, cli

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        ROOT / "infra/README.md",
        ROOT / "scanner/testbed/weights/README.md",
    ]
)
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")


def hooks():
    return docs_module("site_hooks")


def prose(page):
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page):
    text = re.sub(r"`[^`\n]+`(?!\])", "", prose(page))
    return [a or b for a, b in LINK.findall(text)]


def anchors(page):
    """Anchors of a page's headings, as code hosts name them."""
    found = set()
    for title in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", title).strip().lower()
        kept = [c for c in text if c in " -_" or unicodedata.category(c)[0] in "LN"]
        found.add("".join(kept).replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_lead_to_files_and_headings(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), link
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), link


def test_every_page_is_in_the_navigation_of_the_site_and_nothing_else():
    def leaves(tree):
        if isinstance(tree, str):
            yield tree
        for each in tree if isinstance(tree, list) else []:
            yield from leaves(each)
        for each in tree.values() if isinstance(tree, dict) else []:
            yield from leaves(each)

    named = list(leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]))
    docs = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    assert sorted(named) == sorted(docs | set(hooks().PAGES.values()))


@pytest.mark.parametrize(
    ("markdown", "source", "page", "expected"),
    [
        ("[a](docs/sql.md)", "README.md", "index.md", "[a](sql.md)"),
        ("![a](docs/x.png)", "README.md", "index.md", None),
        ("![a](docs/panel.png)", "README.md", "index.md", "![a](panel.png)"),
        ('<img src="docs/panel.png" width="4">', "README.md", "index.md",
         '<img src="panel.png" width="4">'),
        ("[a](../infra/README.md#slurm)", "docs/cluster.md", "cluster.md", "[a](infra.md#slurm)"),
        ("[a](../infra)", "docs/cluster.md", "cluster.md", "[a](infra.md)"),
        ("[a](../jobs)", "docs/cluster.md", "cluster.md", "a"),
        ("[a](../sql.md#masks)", "docs/how-to/x.md", "how-to/x.md", "[a](../sql.md#masks)"),
        ("[a](../docs/sql.md)", "infra/README.md", "infra.md", "[a](sql.md)"),
        ("[a](https://x.invalid/b)", "README.md", "index.md", "[a](https://x.invalid/b)"),
        ("`[a](no.md)`", "README.md", "index.md", "`[a](no.md)`"),
        ("```\n[a](no.md)\n```", "README.md", "index.md", "```\n[a](no.md)\n```"),
        ("[a](no.md)", "README.md", "index.md", None),
    ],
)  # fmt: skip
def test_a_link_of_the_repository_becomes_one_of_the_site(markdown, source, page, expected):
    rewritten = hooks().rewritten
    if expected is None:
        with pytest.raises(FileNotFoundError, match=re.escape(source)):
            rewritten(markdown, source, page)
    else:
        assert rewritten(markdown, source, page) == expected


def test_files_outside_of_the_site_are_seen_where_the_repository_is():
    there = "https://host.invalid/memscan"
    found = hooks().rewritten("[a](../jobs)", "docs/cluster.md", "cluster.md", there)
    assert found == f"[a]({there}/blob/HEAD/jobs)"


def test_the_readme_is_two_screens():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert [line for line in lines if len(line) > 120 and not line.startswith("python3")] == []


APPENDED = {"CHANGELOG.md"}
"""Pages that are appended to: their lines are as they were written."""


def test_no_line_of_prose_is_longer_than_120_characters():
    long = [
        f"{page.relative_to(ROOT)}: {line[:60]}"
        for page in PAGES
        if page.name not in APPENDED
        for line in prose(page).splitlines()
        if len(line) > 120 and not line.startswith(("|", "!["))
    ]
    assert long == []


def test_the_citation_is_of_this_version_and_license():
    about = yaml.load((ROOT / "CITATION.cff").read_text(encoding="utf-8"), yaml.BaseLoader)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert about["cff-version"] == "1.2.0"
    assert about["version"] == __version__
    assert about["license"] == project["license"]
    assert about["title"] == project["name"]
    assert about["message"]
    for work in (about, *about["references"]):
        assert work["title"]
        for author in work["authors"]:
            assert "name" in author or {"family-names", "given-names"} <= set(author)


def typed(page):
    """Commands of memscan in a page's blocks of code, as words."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for block in re.findall(r"^```.*?\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        for line in re.findall(r"(?:^\$ |^|&& |; )memscan ([a-z].*)$", block, re.MULTILINE):
            try:
                words = shlex.split(line, comments=True)
            except ValueError:  # a line of output that begins like a command
                continue
            ends = (i for i, word in enumerate(words) if word in {"|", "||", "&&", ";"})
            yield words[: next(ends, len(words))]


def options_of(words):
    """The options that a command has, and those words that are meant as options of it.

    Returns:
        A list of pairs: `submit` and what follows its ``--`` are two commands.
    """
    command, *rest = words
    if "--" in rest:
        own, inner = rest[: rest.index("--")], rest[rest.index("--") + 1 :]
        return options_of([command, *own]) + options_of(inner)
    root = typer.main.get_command(cli.app)
    found = root.commands[command]
    if hasattr(found, "commands"):
        found, rest = found.commands[rest[0]], rest[1:]
    known = {name for p in found.params for name in (*p.opts, *p.secondary_opts)}
    return [(known | {"-h", "--help"}, [w.partition("=")[0] for w in rest if w.startswith("--")])]


TYPED = [(page, words) for page in PAGES for words in typed(page)]


@pytest.mark.parametrize(
    ("page", "words"), TYPED, ids=lambda v: " ".join(v)[:40] if isinstance(v, list) else v.name
)
def test_a_command_in_a_page_exists_with_its_options(page, words):
    for known, used in options_of(words):
        assert set(used) <= known


def test_pages_show_many_commands():
    assert len(TYPED) > 100
