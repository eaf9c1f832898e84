"""The state behind the pages, and how a page is made of a template."""

import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from scanner import __version__
from scanner.errors import ConfigError
from scanner.report.templates import environment
from scanner.serve.asking import Questions
from scanner.serve.detail import meaning
from scanner.serve.filters import CHOICES, Filter, Known
from scanner.serve.gate import Access
from scanner.serve.images import scale_of
from scanner.serve.listing import SORTS, Listing, Listings
from scanner.serve.live import Live
from scanner.serve.marks import MARKS, Marks
from scanner.serve.source import Source
from scanner.text import bytes_text, cut, printable, shown

THEMES = ("light", "dark")


class Site:
    """Everything that the pages share.

    Attributes:
        source: What is shown.
        access: Who may ask.
        marks: What people decided.
        listings: The runs' captions.
        questions: What answers SQL.

    Args:
        source: What is shown.
        access: Who may ask.
        marks: The file of marks; by default the source's own.
    """

    def __init__(self, source: Source, access: Access, marks: Path | None = None) -> None:
        self.source, self.access = source, access
        self.marks = Marks(marks or source.marks_file())
        self.listings, self.questions = Listings(source), Questions(source)
        self._live, self._scales = dict[str, Live](), dict[str, tuple[Any, dict[str, float]]]()
        self._lock = threading.Lock()
        self._templates = environment("scanner.serve", "templates")
        self._templates.filters |= {
            "cell": shown, "cut": cut, "bytes": bytes_text, "title_of": lambda n: meaning(n)[0],
            "lines": _lines,
        }  # fmt: skip
        self._templates.globals |= {
            "root": access.root, "key": access.key, "version": __version__, "sorts": SORTS,
            "choices": CHOICES, "mark_words": MARKS, "address": _address,
        }  # fmt: skip

    def filter(self, request: Request) -> Filter:
        """Return the filter that an address names, with its run.

        Raises:
            ConfigError: If it names what there is not.
            ResultsError: If the results cannot be read.
        """
        return Filter.of(request.query_params)

    def run(self, name: str) -> str:
        """Return a run that was named, or the one that is shown where none is.

        Raises:
            ConfigError: If there is no such run.
            ResultsError: If the results cannot be read.
        """
        wanted = name or self.source.default_run()
        if wanted not in (known := self.source.results.runs()):
            raise ConfigError(f"there is no run {wanted[:40]}; there are: {', '.join(known)}")
        return wanted

    def listing(self, name: str) -> Listing:
        """Return the captions of a run.

        Raises:
            ConfigError: If there is no such run.
            ResultsError: If the results cannot be read.
        """
        return self.listings.get(self.run(name))

    def known(self) -> Known:
        """Return what people said of findings.

        Raises:
            ResultsError: If it cannot be read.
        """
        return Known(self.marks.current(), self.source.mutes())

    def live(self, run: str) -> Live:
        """Return what follows a run."""
        with self._lock:
            return self._live.setdefault(run, Live(self.source.results, run))

    def scale(self, found: Listing) -> dict[str, float]:
        """Return the brightest colour's value of a run's maps by metric."""
        known = self._scales.get(found.run)
        if known is None or known[0] != found.version:
            with found.cursor() as con:
                known = found.version, scale_of(con)
            self._scales[found.run] = known
        return known[1]

    def page(
        self, request: Request, template: str, *, status: int = 200, **content: Any
    ) -> Response:
        """Return a page.

        Args:
            request: What was asked.
            template: Its file.
            status: Of the answer.
            content: What it shows, by name.
        """
        theme = request.cookies.get("memscan-theme", "")
        usual: dict[str, Any] = {
            "theme": theme if theme in THEMES else "", "here": request.url.path, "said": "",
            "run": content.get("run", ""),
        }  # fmt: skip
        return HTMLResponse(
            self._templates.get_template(template).render(usual | content), status_code=status
        )

    def message(self, status: int, title: str, text: str, request: Request | None = None,
                back: str = "") -> Response:  # fmt: skip
        """Return a page that says something in a line or two."""
        asked = request or Request({"type": "http", "path": "", "headers": []})
        return self.page(
            asked, "message.html", status=status, title=title, text=text, back=back,
            is_known=request is not None,
        )  # fmt: skip


def _address(path: str, **parameters: object) -> str:
    """Return a path with the parameters that are not empty."""
    named = {name: str(value) for name, value in parameters.items() if value not in (None, "")}
    return f"{path}?{urlencode(named)}" if named else path


def _lines(text: str) -> Markup:
    """Return a text of several lines as markup: each printable and escaped."""
    return Markup("\n").join(map(printable, text.splitlines()))
