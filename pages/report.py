"""Write the report of a run: one self-contained HTML file, or a folder of pages for a large run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final

from markupsafe import Markup

from promptreel.pages.items import ItemPart, item_parts
from promptreel.pages.overview import RunOverview, run_overview
from promptreel.pages.run_tables import open_tables
from promptreel.pages.templating import encode, render
from promptreel.pages.thumbnails import inline_pictures
from promptreel.schemas.errors import InvalidInput
from promptreel.tables.reader import CommittedRun
from promptreel.tables.request import read_request
from promptreel.tables.storage import Storage

MAX_PAGE_BYTES: Final = 4_000_000
SUFFIX: Final = ".html"
INDEX: Final = f"index{SUFFIX}"
_PAGE: Final = "page-{:04d}" + SUFFIX


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """A report on disk: the file to open, the number of files and their total size in bytes."""

    path: Path
    files: int
    size_bytes: int


@dataclass
class ReportPage:
    """A page of items: the rendered parts, and what the list of pages says about it."""

    number: int
    items: list[Markup] = field(default_factory=list)
    size_bytes: int = 0
    first_name: str = ""
    last_name: str = ""
    segments: int = 0
    failed_segments: int = 0

    @property
    def file(self) -> str:
        return _PAGE.format(self.number)

    def add(self, item: ItemPart, html: Markup, size_bytes: int) -> None:
        self.first_name = self.first_name if self.items else item.name
        self.last_name = item.name
        self.segments += len(item.segments)
        self.failed_segments += sum(segment.status == "failed" for segment in item.segments)
        self.items.append(html)
        self.size_bytes += size_bytes


def write_report(
    storage: Storage, run: CommittedRun, out: Path, *, max_page_bytes: int = MAX_PAGE_BYTES
) -> WrittenReport:
    """Write the report of a committed state.

    If the items do not fit in one file, the report is a folder named like `out` without its suffix, with an index and
    pages.

    Args:
        out: the file, which is replaced if it exists.
        max_page_bytes: size of the items on one page; a page has at least one part of an item.

    Raises:
        InvalidInput: `out` has another suffix than .html, cannot be written, or its folder has other files.
        RunDamaged: a file of the run is missing or truncated.
        StateExpired: the run is in progress, and a newer state has replaced this one.
    """
    if out.suffix.lower() != SUFFIX:
        raise InvalidInput(f"{out}: a report is an HTML file; use the suffix {SUFFIX}")
    request = read_request(storage, run.run_id)
    with open_tables(storage, run) as tables:
        overview = run_overview(tables, request)
        pages = _pages(storage, item_parts(tables), max_page_bytes)
        first, second = next(pages, None), next(pages, None)
        try:
            if first is None or second is None:
                return _write_file(overview, first, out)
            return _write_folder(overview, chain([first, second], pages), out.with_suffix(""))
        except OSError as error:
            raise InvalidInput(f"{out}: cannot be written ({error.strerror or error})") from error


def _pages(storage: Storage, items: Iterable[ItemPart], max_page_bytes: int) -> Iterator[ReportPage]:
    page = ReportPage(1)
    for item in items:
        frames = {segment.frame for segment in item.segments if segment.frame is not None}
        html = Markup(render("item.html", item=item, pictures=inline_pictures(storage, frames)))
        size_bytes = len(encode(html))
        if page.items and page.size_bytes + size_bytes > max_page_bytes:
            yield page
            page = ReportPage(page.number + 1)
        page.add(item, html, size_bytes)
    if page.items:
        yield page


def _write_file(overview: RunOverview, page: ReportPage | None, out: Path) -> WrittenReport:
    content = encode(render("report.html", run=overview, items=page.items if page else [], pages=[]))

    def write(partial: Path) -> None:
        partial.write_bytes(content)

    out.parent.mkdir(parents=True, exist_ok=True)
    _replace(out, write)
    return WrittenReport(out, 1, len(content))


def _write_folder(overview: RunOverview, pages: Iterable[ReportPage], folder: Path) -> WrittenReport:
    _check_folder(folder)
    sizes: list[int] = []

    def write(partial: Path) -> None:
        partial.mkdir()
        listed = []
        for page, previous, following in _with_neighbours(pages):
            html = render(
                "report_page.html", run=overview, page=page, items=page.items, previous=previous, next=following
            )
            sizes.append((partial / page.file).write_bytes(encode(html)))
            page.items = []
            listed.append(page)
        sizes.append((partial / INDEX).write_bytes(encode(render("report.html", run=overview, items=[], pages=listed))))

    folder.parent.mkdir(parents=True, exist_ok=True)
    _replace(folder, write)
    return WrittenReport(folder / INDEX, len(sizes), sum(sizes))


def _with_neighbours(pages: Iterable[ReportPage]) -> Iterator[tuple[ReportPage, str | None, str | None]]:
    """Yield each page with the file names of the previous and the next one."""
    previous: str | None = None
    current: ReportPage | None = None
    for following in pages:
        if current is not None:
            yield current, previous, following.file
            previous = current.file
        current = following
    if current is not None:
        yield current, previous, None


def _check_folder(folder: Path) -> None:
    """Check that replacing a folder removes only an earlier report.

    Raises:
        InvalidInput: it has other files.
    """
    if not folder.exists():
        return
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else [folder.name]
    others = [name for name in names if name != INDEX and not (name.startswith("page-") and name.endswith(SUFFIX))]
    if others or (names and INDEX not in names):
        raise InvalidInput(
            f"{folder}: the report needs this folder for its pages, but it contains {(others or names)[0]!r}; "
            f"choose another name with --out"
        )


def _replace(target: Path, write: Callable[[Path], None]) -> None:
    """Write a file or folder under a temporary name, and then replace `target`."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        write(partial)
        if partial.is_dir() and target.is_dir():
            shutil.rmtree(target)
        os.replace(partial, target)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
