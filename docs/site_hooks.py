"""Hooks of mkdocs: pages of the repository that lie outside of docs/, and links that reach them.

The pages are written for a plain code host, where a link is a path in the repository. In the site a
link to one of `PAGES` leads to its page, and a link to any other file of the repository is left as
text, unless ``repo_url`` says where that file can be seen.
"""

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "infra/README.md": "infra.md",
    "scanner/testbed/weights/README.md": "model-card.md",
}
"""Pages outside of docs/, and where they stand in the site."""
HOME = "---\nhide: [navigation]\n---\n"
"""The first page alone has no list of pages beside it."""
FOLDERS = {"infra": "infra/README.md", "docs/decisions": "docs/decisions/README.md"}
"""Folders that have a page."""
LINK = re.compile(r"(?<!\!)\[(?P<text>[^\]\n]*(?:\n[^\]\n]+)?)\]\((?P<target>[^)\s]+)\)")
IMAGE = re.compile(r"(?P<begin>\!\[[^\]]*\]\(|<img src=\")(?P<target>[^)\"\s]+)")
CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`(?!\]))", re.DOTALL | re.MULTILINE)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie outside of docs/."""
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        content = (ROOT / source).read_text(encoding="utf-8")
        if page == "index.md":
            content = HOME + content
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Turn links into links of the site.

    Raises:
        PluginError: If a link leads to nothing.
    """
    page_uri = page.file.src_uri
    sources = {page: source for source, page in PAGES.items()}
    source = sources.get(page_uri, f"docs/{page_uri}")
    try:
        return rewritten(markdown, source, page_uri, config.repo_url or "")
    except FileNotFoundError as error:
        from mkdocs.exceptions import PluginError

        raise PluginError(str(error)) from error


def rewritten(markdown: str, source: str, page: str, repository: str = "") -> str:
    """Return a page whose links fit its place in the site.

    Args:
        markdown: The page.
        source: Its path in the repository.
        page: Its path in the site's sources.
        repository: Address below which files of the repository are seen, or nothing.

    Raises:
        FileNotFoundError: If a link leads to nothing in the repository.
    """

    def link(found: re.Match[str]) -> str:
        place = target(found["target"], source, page)
        if place is None and not repository:
            return found["text"]
        return f"[{found['text']}]({place or _seen(found['target'], source, repository)})"

    def image(found: re.Match[str]) -> str:
        return f"{found['begin']}{target(found['target'], source, page)}"

    parts = CODE.split(markdown)
    for i in range(0, len(parts), 2):
        parts[i] = IMAGE.sub(image, LINK.sub(link, parts[i]))
    return "".join(parts)


def target(link: str, source: str, page: str) -> str | None:
    """Return a link as it must be in the site, null if it leads to a file that is not in it.

    Raises:
        FileNotFoundError: If it leads to nothing in the repository.
    """
    path, _, anchor = link.partition("#")
    if not path or "://" in link or link.startswith("mailto:"):
        return link
    there = PurePosixPath(os.path.normpath(PurePosixPath(source).parent / path)).as_posix()
    if not (ROOT / there).exists():
        raise FileNotFoundError(f"{source} links to {link}, and there is no {there}")
    there = FOLDERS.get(there, there)
    if there in PAGES:
        there = PAGES[there]
    elif there.startswith("docs/"):
        there = there.removeprefix("docs/")
    else:
        return None
    relative = os.path.relpath(there, PurePosixPath(page).parent)
    return relative + (f"#{anchor}" if anchor else "")


def _seen(link: str, source: str, repository: str) -> str:
    there = os.path.normpath(PurePosixPath(source).parent / link)
    return f"{repository.rstrip('/')}/blob/HEAD/{there}"
