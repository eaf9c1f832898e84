"""What is looked at: captions, one of them, rejects, two runs compared, SQL, and pictures."""

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from scanner.analysis.changes import STATES
from scanner.analysis.diff import RunView, diff
from scanner.analysis.findings import message_of
from scanner.errors import ConfigError
from scanner.matching.copies import explain
from scanner.report.thumbnails import reencoded
from scanner.serve import images
from scanner.serve.asking import MOST_ROWS, SECONDS
from scanner.serve.detail import detail
from scanner.serve.export import FORMATS, removal
from scanner.serve.filters import Filter, hash_in
from scanner.serve.rows import beside, page
from scanner.serve.site import Site
from scanner.shards import reading

MOST_CHANGES, REJECTS = 200, 100
EXAMPLES = (
    "SELECT caption, occurrences, worst, p_value FROM findings LIMIT 20",
    "SELECT reason, count(*) AS samples FROM rejects GROUP BY reason ORDER BY samples DESC",
    "SELECT shard, count(*) FILTER (flagged) AS flagged, count(*) AS captions\nFROM captions "
    "GROUP BY shard ORDER BY flagged DESC",
    "SELECT metric, baseline, count(*) AS maps, avg(area) AS area FROM masks GROUP BY ALL",
)


class Pages:
    """The pages, one method each.

    Args:
        site: What they share.
    """

    def __init__(self, site: Site) -> None:
        self.site = site

    def captions(self, request: Request) -> Response:
        """Return the table of captions; the part that changes alone where the script asks."""
        site, asked = self.site, self.site.filter(request)
        found, known = site.listing(asked.run), site.known()
        after, before = (request.query_params.get(name, "") for name in ("after", "before"))
        after, before = hash_in(after), hash_in(before)
        shown = page(found, asked, known, after=after, before=before)
        is_part = request.headers.get("x-part") == "1"
        return site.page(
            request, "_captions.html" if is_part else "captions.html",
            run=found.run, runs=site.source.runs(), asked=asked, found=found, page=shown,
            marks=known.marks, mutes=known.muted, audit=site.source.audit(),
            progress=site.live(found.run).progress(), formats=FORMATS,
            after=after, before=before,
        )  # fmt: skip

    def live(self, request: Request) -> Response:
        """Return how far a run is, as a part of a page."""
        run = self.site.run(request.query_params.get("run", ""))
        found = self.site.listing(run)
        progress = self.site.live(run).progress()
        return self.site.page(request, "_live.html", run=run, found=found, progress=progress)

    def caption(self, request: Request) -> Response:
        """Return the page of one caption."""
        site, asked = self.site, self.site.filter(request)
        found, known = site.listing(asked.run), site.known()
        id = hash_in(request.query_params.get("id", ""))
        shown = detail(found, id)
        if shown is None:
            return site.message(
                404, "No such caption", f"Run {found.run} has no caption with this hash.", request
            )
        earlier, later, number, total = beside(found, asked, known, id)
        remark = site.source.remarks(found.run).get(id)
        copies = remark.images if remark else None
        row = shown.row
        return site.page(
            request, "caption.html",
            run=found.run, runs=site.source.runs(), asked=asked, shown=shown, row=row,
            earlier=earlier, later=later, number=number, total=total, remark=remark,
            copies=copies, copies_words=explain(copies) if copies else "",
            history=site.marks.history().get(id, []), can_mark=site.marks.path is not None,
            has_state=site.source.state is not None, message_of=message_of,
            mute=_muted(known.muted, id, row["caption_sha256"]), images=site.source.images,
        )  # fmt: skip

    def rejects(self, request: Request) -> Response:
        """Return the samples of a run that could not be scored."""
        asked = self.site.filter(request)
        found = self.site.listing(asked.run)
        reason = request.query_params.get("reason", "")
        start = _number(request, "start")
        with found.cursor() as con:
            reasons = con.execute(
                "SELECT reason, count(*) FROM rejects GROUP BY reason ORDER BY 2 DESC, 1"
            ).fetchall()
            rows = con.execute(
                "SELECT reason, detail, shard, key FROM rejects WHERE $1 = '' OR reason = $1 "
                "ORDER BY shard, key LIMIT $3 OFFSET $2",
                [reason, start, REJECTS + 1],
            ).fetchall()
        return self.site.page(
            request, "rejects.html", run=found.run, runs=self.site.source.runs(), asked=asked,
            reasons=reasons, reason=reason, rows=rows[:REJECTS], start=start, most=REJECTS,
            has_more=len(rows) > REJECTS,
        )  # fmt: skip

    def compare(self, request: Request) -> Response:
        """Return what changed between two runs."""
        site, runs = self.site, self.site.source.runs()
        names = list(runs)
        a, b = (request.query_params.get(name, "") for name in ("a", "b"))
        a, b = a or (names[-2] if len(names) > 1 else names[-1]), b or names[-1]
        a, b = site.run(a), site.run(b)
        found = None
        if a != b:
            before, after = (RunView(results=site.source.results, run=run) for run in (a, b))
            found = diff(before, after)
        by_state = {
            state: [c for c in found.changes if c.state == state][:MOST_CHANGES] if found else []
            for state in STATES
        }
        return site.page(
            request, "compare.html", run=b, runs=runs, a=a, b=b, found=found, by_state=by_state,
            counts=found.counts() if found else {}, most=MOST_CHANGES, asked=Filter(),
        )  # fmt: skip

    def sql(self, request: Request) -> Response:
        """Return a question in SQL and its answer."""
        site, run = self.site, self.site.run(request.query_params.get("run", ""))
        asked, answer, said = request.query_params.get("sql", "").strip(), None, ""
        if asked:
            try:
                answer = site.questions.answer(run, asked)
            except ConfigError as error:
                said = str(error)
        return site.page(
            request, "sql.html", status=400 if said else 200, run=run, runs=site.source.runs(),
            sql=asked, answer=answer, said=said, examples=EXAMPLES, asked=Filter(),
            tables=_tables(), most=MOST_ROWS, seconds=SECONDS,
        )  # fmt: skip

    def sql_csv(self, request: Request) -> Response:
        """Return the answer to a question as a CSV file."""
        run = self.site.run(request.query_params.get("run", ""))
        content = self.site.questions.csv(run, request.query_params.get("sql", ""))
        return _file(content.encode(), "answer.csv")

    def removal(self, request: Request) -> Response:
        """Return the removal list of a filter as a file."""
        asked, name = self.site.filter(request), request.query_params.get("format", FORMATS[0])
        found = self.site.listing(asked.run)
        return _file(removal(self.site.source, found, asked, self.site.known(), name), name)

    def picture(self, request: Request) -> Response:
        """Return a picture of a row, of the kind that the path names."""
        kind = request.path_params["kind"]
        found = self.site.listing(request.query_params.get("run", ""))
        id = hash_in(request.query_params.get("id", ""))
        makes: dict[str, Callable[[], bytes]] = {
            "generated": lambda: images.generated(found, id, _number(request, "seed")),
            "small": lambda: images.small(found, id),
            "map": lambda: self._map(images.map_picture, request, found, id),
            "values": lambda: self._map(images.map_values, request, found, id),
        }  # fmt: skip
        if self.site.source.images:
            makes |= {
                "training": lambda: images.training(found, id),
                "nearest": lambda: images.nearest(
                    found, id, _number(request, "seed"), _number(request, "rank")
                ),
                "copy": lambda: self._copy(found.run, id, _number(request, "place")),
            }  # fmt: skip
        content = makes[kind]() if kind in makes else b""
        if not content:
            return Response("there is no such picture", 404, media_type="text/plain")
        media = {"map": "image/png", "values": "application/octet-stream"}.get(kind, "image/webp")
        return Response(
            content, media_type=media, headers={"cache-control": "private, max-age=600"}
        )

    def _map(self, make: Callable[..., bytes], request: Request, found: Any, id: str) -> bytes:
        metric, baseline = (request.query_params.get(n, "") for n in ("metric", "baseline"))
        return make(found, self.site.scale(found), id, _number(request, "seed"), metric, baseline)

    def _copy(self, run: str, id: str, place: int) -> bytes:
        """Return the picture of an image that the last audit found to copy a finding."""
        remark = self.site.source.remarks(run).get(id)
        copies = remark.images.copies if remark and remark.images else []
        if place >= len(copies):
            return b""
        content = reading.image(copies[place].shard, copies[place].key)
        return reencoded(content, images.SMALL) if content else b""


def _number(request: Request, name: str) -> int:
    """Return a number of an address.

    Raises:
        ConfigError: If it is none, or below zero.
    """
    text = request.query_params.get(name, "0")
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ConfigError(f"{name} must be a number from 0 on, got {text[:40]!r}")
    return int(text)


def _muted(mutes: Any, *names: str) -> dict[str, str] | None:
    return next((mutes[name] | {"of": name} for name in names if name in mutes), None)


def _file(content: bytes, name: str) -> Response:
    media = "text/csv; charset=utf-8" if name.endswith(".csv") else "application/octet-stream"
    return Response(
        content, media_type=media, headers={"content-disposition": f'attachment; filename="{name}"'}
    )


def _tables() -> list[tuple[str, str, list[str]]]:
    """Return name, meaning and columns of the views."""
    from scanner.results.schema import VIEWS

    return [(table.name, table.row.replace("`", ""), list(table.names)) for table in VIEWS.values()]
