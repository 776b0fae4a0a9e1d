"""The reader behind a loopback server: the same pages, made when they are asked for, with lists that DuckDB pages.

Only this machine can connect, and only who has the token in the address gets an answer; the token is new every time.
"""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl, quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from promptcot_assets.lake import LakeError
from promptcot_assets.reports.reader import export, listing, marks, pages
from promptcot_assets.reports.reader.front import Failure
from promptcot_assets.reports.reader.library import MODELS, Library, Record
from promptcot_assets.reports.reader.listing import PROBLEM
from promptcot_assets.reports.reader.pages import (
    Around,
    Pages,
    anchor,
    asked_query,
    list_columns,
    path_of,
    problems_of,
    unslug,
)
from promptcot_assets.tables import MODEL_ROLES
from promptcot_assets.tables.marks import MARKS
from promptcot_assets.tables.references import id_column

LOOPBACK = "127.0.0.1"
HEADERS = {
    "Content-Security-Policy": pages.SERVED_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
FORM_BYTES = 64 << 10
LONGEST_S = 60.0  # of one query: meanwhile nobody else is answered
TRAINING, COMPARED, ASKED_AGAIN_S = "training", f"{MODELS}/compare.html", 5
TYPES = {pages.STYLE: "text/css", pages.SCRIPT: "text/javascript"}


class Served:
    """`Links` of the server: every record has a page."""

    served = True

    def record(self, record: Record) -> str | None:
        return path_of(record.key)

    def model(self, name: str) -> str | None:
        return path_of((MODELS, name)) if name.partition("/")[0] in MODEL_ROLES else None

    def table(self, table: str, **asked: str) -> str | None:
        if table in MODEL_ROLES:
            return f"{MODELS}/index.html"
        query = listing_query(asked)
        return f"{table}/index.html{'?' if query else ''}{query}"


def listing_query(asked: Mapping[str, str]) -> str:
    return "&".join(f"{quote(name)}={quote(value)}" for name, value in asked.items() if value)


class Reader:
    """Answers requests for one home, one at a time; what is committed meanwhile is there at the next request."""

    def __init__(
        self,
        home: Path,
        failures: Callable[[], Sequence[Failure]] = tuple,
        asset: str = "",
        partition: str = "",
        where: str = "",
        sample: int = 0,
    ) -> None:
        """asset and so on: the list to begin with; empty: the front page. Raises: LakeError when they name nothing."""
        self.home, self.token = home, secrets.token_urlsafe(24)
        self._failures = failures
        self._lock = threading.Lock()
        self._assets = export.assets()
        self._known: tuple[tuple[tuple[str, int], ...], Library, Pages] | None = None
        self._filters: dict[tuple[str, str], dict[str, list[tuple[str, int]]]] = {}  # of the home as it is known
        self.start = start_page(asset, partition, where, sample)
        with self._lock:
            library = self._pages().library  # says at once when there is no lake
            if asset:
                library.entries(asset if asset in MODEL_ROLES else listing.known(asset), partition or None)
            if asset and asset not in MODEL_ROLES:
                listing.count(home, listing.Asked(asset, partition, where))
            elif where:
                raise LakeError("--where needs a table to look in: promptcot read ASSET --where ...")

    def application(self) -> Starlette:
        return Starlette(
            routes=[Route("/{token}/{path:path}", self.answer, methods=["GET", "POST"])],
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"])],
        )

    async def answer(self, request: Request) -> Response:
        if not secrets.compare_digest(request.path_params["token"].encode(), self.token.encode()):
            return HTMLResponse("not found", 404, HEADERS)
        path = request.path_params["path"] or "index.html"
        if request.method == "POST":
            # a form is small: whatever is longer is not one of ours
            body = b""
            async for chunk in request.stream():
                if len(body := body + chunk) > FORM_BYTES:
                    return HTMLResponse("too long", 413, HEADERS)
            form = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
            response = await run_in_threadpool(self._guarded, self._mark, path, form)
        else:
            response = await run_in_threadpool(self._guarded, self._page, path, dict(request.query_params))
        response.headers.update(HEADERS)
        return response

    def _guarded(self, make: Callable[[str, dict[str, str]], Response], path: str, given: dict[str, str]) -> Response:
        """What cannot be shown is said on a page, in one sentence."""
        root = "../" * path.count("/")
        with self._lock:
            try:
                return make(path, given)
            except LakeError as error:
                return HTMLResponse(self._pages().missing(str(error), root), 404)
            except OSError as error:  # a disk that is full, gone or only for reading
                return HTMLResponse(self._pages().missing(str(error), root, "This machine refused"), 500)

    def _pages(self) -> Pages:
        """Pages of the home as it is now."""
        # a commit adds a file to its table's log, and so changes the folder
        version = tuple(
            sorted((log.parent.name, log.stat().st_mtime_ns) for log in self.home.glob("lake/*/_delta_log"))
        )
        if self._known is None or self._known[0] != version:
            if self._known is not None:
                self._known[1].__exit__(None, None, None)
            library = Library(self.home)
            self._known, self._filters = (version, library, Pages(library, Served())), {}
        return self._known[2]

    def _page(self, path: str, given: dict[str, str]) -> Response:
        filled = self._pages()
        if path in self._assets:
            return Response(self._assets[path], media_type=TYPES[path])
        if path == "index.html":
            return HTMLResponse(filled.front(self._known_failures()))
        folder, slash, name = path.partition("/")
        if path == COMPARED:
            return HTMLResponse(filled.compare([given.get("first", ""), given.get("second", "")]))
        fixed = {MODELS: filled.models, "em": filled.rounds, MARKS: filled.marks, TRAINING: filled.training}
        if not slash and not path.endswith(".html"):  # links of the page are relative to its folder
            query = listing_query(given)
            return RedirectResponse(f"{quote(path)}/index.html{'?' if query else ''}{query}", 303)
        if slash and name in ("", "index.html"):
            again = {"Refresh": str(ASKED_AGAIN_S)} if folder == TRAINING else None
            return HTMLResponse(
                fixed[folder]() if folder in fixed else self._list(filled, folder, given), headers=again
            )
        if not slash or not name.endswith(".html"):
            raise LakeError(f"there is no page {path}")
        return self._record(filled, folder, unslug(name.removesuffix(".html")), given)

    def _known_failures(self) -> Sequence[Failure]:
        """What failed. Who knows of runs may not be readable where the records are, as in a home of someone else's."""
        try:
            return self._failures()
        except Exception as error:  # noqa: BLE001, of whatever database Dagster keeps its runs in
            return [Failure("the runs of this home cannot be read", str(error), "promptcot doctor")]

    def _record(self, filled: Pages, table: str, row_id: str, given: dict[str, str]) -> Response:
        library = filled.library
        record = library.find(table, row_id)
        subject = library.subjects([record])[record]
        if subject != record:
            query = listing_query(given)
            return RedirectResponse(f"../{path_of(subject.key)}{'?' if query else ''}{query}#{anchor(record)}", 303)
        (joined,) = library.join([record])
        return HTMLResponse(filled.record(joined, self._around(given), given.get("said", "")))

    def _list(self, filled: Pages, table: str, given: dict[str, str]) -> str:
        """The list; a wrong condition is said above an empty one."""
        asked, problem = self._asked(table, given), ""
        entries = filled.library.entries(listing.known(table))
        place = table, asked.partition
        if place not in self._filters:
            self._filters[place] = listing.filters(self.home, *place)
        try:
            listed = listing.read(self.home, asked, LONGEST_S)
            if asked.page > (last := _last_page(listed)):
                asked = replace(asked, page=last)
                listed = listing.read(self.home, asked, LONGEST_S)
        except LakeError as error:
            listed, problem = listing.Listed([], 0, 0), str(error)
        columns, rows = list_columns(table), []
        told = problems_of(filled.library, self._records(filled.library, table, listed)) if PROBLEM in columns else {}
        for at, row in enumerate(listed.rows):
            own = row[id_column(table)]
            query = asked_query(asked, list=table, at=str(listed.first + at))
            row = {PROBLEM: told.get((table, own), ""), **row}
            rows.append((f"{path_of((table, own))}?{query}", {name: row[name] for name in columns}))
        return filled.table(
            entries, rows=rows, columns=columns, numbers=listing.numbers(table), total=listed.total, first=listed.first,
            note=f"a sample of {asked.sample:,}" if asked.sample else "", pages=_pager(asked, listed), asked=asked,
            filters=self._filters[place], problem=problem, searched=listing.searched(table),
        )  # fmt: skip

    def _records(self, library: Library, table: str, listed: listing.Listed) -> list[Record]:
        """The rows of a page, whole."""
        by_partition: dict[str, list[str]] = {}
        for row in listed.rows:
            by_partition.setdefault(row[listing.PARTITION_COLUMN], []).append(row[id_column(table)])
        newest = library.history.newest
        return [one for partition, ids in by_partition.items() for one in library.load(newest[table, partition], ids)]

    def _asked(self, table: str, given: Mapping[str, str]) -> listing.Asked:
        return listing.Asked(
            table, given.get("partition", ""), given.get("where", "").strip(), given.get("q", "").strip(),
            {name[3:]: value for name, value in given.items() if name.startswith("is.") and value},
            given.get("sort", ""), given.get("desc") == "1", _natural(given.get("page"), 1),
            _natural(given.get("sample"), 0), given.get("in", ""),
        )  # fmt: skip

    def _around(self, given: dict[str, str]) -> Around | None:
        """The neighbours in the list that the record was opened from."""
        if "list" not in given or "at" not in given:
            return None
        asked, at = self._asked(listing.known(given["list"]), given), _natural(given["at"], 0)
        total = listing.count(self.home, asked, LONGEST_S)
        if at >= total:
            return None
        first = max(0, at - 1)
        near = dict(enumerate(listing.places(self.home, asked, first, 3 if at else 2, LONGEST_S), first))

        def to(place: int) -> str | None:
            if place not in near or place < 0:
                return None
            return f"{path_of((asked.table, near[place][1]))}?{asked_query(asked, list=asked.table, at=str(place))}"

        page = at // listing.PAGE + 1
        back = f"{asked.table}/index.html?{asked_query(asked, page=str(page))}"
        return Around(to(at - 1), to(at + 1), at + 1, total, back)

    def _mark(self, path: str, form: dict[str, str]) -> Response:
        if path != "mark":
            raise LakeError(f"there is no page {path}")
        record = self._pages().library.find(form.get("table", ""), form.get("row", ""))
        made = marks.mark(self.home, record.ref, record.id, form.get("verdict", ""), form.get("reason", "").strip())
        said = listing_query({"said": f"marked {made['verdict']}"})
        return RedirectResponse(f"{path_of(record.key)}?{said}#mark", 303)


def serve(reader: Reader, port: int, ready: Callable[[str], None]) -> None:
    """Serve until interrupted; `ready` gets the address once the port is open. Raises: LakeError when it is taken."""
    import uvicorn

    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError as error:
            raise LakeError(f"cannot open port {port} on {LOOPBACK}: {error}; give another --port, or none") from error
        ready(f"http://{LOOPBACK}:{listener.getsockname()[1]}/{reader.token}/{reader.start}")
        config = uvicorn.Config(reader.application(), log_level="warning", access_log=False, lifespan="off")
        uvicorn.Server(config).run(sockets=[listener])


def start_page(asset: str, partition: str, where: str, sample: int) -> str:
    """The page that `promptcot read ASSET ...` opens, below the token."""
    if not asset:
        return ""
    if asset in MODEL_ROLES:
        return f"{MODELS}/index.html"
    query = asked_query(listing.Asked(asset, partition, where, sample=sample))
    return f"{asset}/index.html{'?' if query else ''}{query}"


def _pager(asked: listing.Asked, listed: listing.Listed) -> dict[str, object] | None:
    if (last := _last_page(listed)) == 1:
        return None

    def to(page: int) -> str | None:
        return f"?{asked_query(asked, page=str(page))}" if 1 <= page <= last else None

    return {"at": asked.page, "of": last, "previous": to(asked.page - 1), "following": to(asked.page + 1)}


def _last_page(listed: listing.Listed) -> int:
    return max(1, -(-listed.total // listing.PAGE))


def _natural(text: str | None, otherwise: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 12 else otherwise
