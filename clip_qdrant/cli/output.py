"""What the commands print: results on stdout, everything else on stderr.

On a terminal results are tables; in a pipe they are lines with tabs, whole, one a result.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Task

    from clip_qdrant.cli.demo import Shown
    from clip_qdrant.collection.ingest import IngestReport
    from clip_qdrant.types import Hit


_SHOWN = 5


def note(message: str) -> None:
    """A line for the person, not for the pipe."""
    if is_first_process():
        _print_aside(message)


def error(message: str) -> None:
    """What a command failed by; every process of a training tells, as each may fail by itself."""
    _print_aside(f"Error: {message}" if is_first_process() else f"Error in process {os.environ['RANK']}: {message}")


def _print_aside(message: str) -> None:
    Console(stderr=True, soft_wrap=True).print(_printable(message), markup=False, highlight=False)


def is_first_process() -> bool:
    """Whether this is the one of a training's processes that talks."""
    return os.environ.get("RANK", "0") == "0"


class _Rate(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


@contextmanager
def progress(total: int, what: str = "Indexing") -> Iterator[Callable[[int], None]]:
    """A bar on stderr, where that is a terminal; yields a function that takes how many are done."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn(what), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn(), console=console,
        disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)


def report(report: IngestReport, *, as_json: bool) -> None:
    """What became of the records, and of those that failed why."""
    if as_json:
        document(asdict(report))
        return
    if report.failed:
        failures = [[failure.source, failure.reason] for failure in report.failed]
        table(["not indexed", "why"], failures, Console(stderr=True))
    rate = report.total / report.seconds if report.seconds else 0.0
    Console(soft_wrap=True).print(
        f"{report.embedded:,} embedded, {report.copied:,} copied, {report.updated:,} updated, "
        f"{report.unchanged:,} unchanged, {len(report.failed):,} failed in {report.seconds:.1f} s ({rate:,.0f}/s)",
        highlight=False,
    )


def hits(query: str, hits: Sequence[Hit], *, as_json: bool) -> None:
    """The answers of a search, best first."""
    if as_json:
        keys = ("id", "score", "source", "text", "metadata")
        document({"query": query, "hits": [{key: getattr(hit, key) for key in keys} for hit in hits]})
        return
    if not hits:
        note("Nothing found.")
        return
    table(["score", "source", "text"], [[f"{hit.score:.3f}", hit.source or hit.id, hit.text or ""] for hit in hits])


def collections(described: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """The collections of a location."""
    if as_json:
        document(described)
        return
    if not described:
        note("No collections.")
        return
    rows = [
        [", ".join(value) if isinstance(value, list) else _cell(value) for value in one.values()] for one in described
    ]
    table(list(described[0]), rows)


def demo(shown: Shown) -> None:
    """What the demo asked and found."""
    report(shown.report, as_json=False)
    if shown.report.embedded == 0:
        note("Everything was indexed already: nothing was embedded again.")
    rows = [
        [row.title, row.note, ", ".join(f"{name} {score}" for _, name, score in row.cells[:_SHOWN])]
        for row in shown.rows
    ]
    table(["query", "asked as", "found"], rows)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], console: Console | None = None) -> None:
    """Rows under columns on a terminal, lines with tabs elsewhere."""
    console = console or Console()
    if not console.is_terminal:
        for row in rows:
            console.file.write("\t".join(map(_printable, row)) + "\n")
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*(Text(_printable(cell), overflow="fold") for cell in row))
    console.print(table)


def _printable(cell: str) -> str:
    """Control characters, which a file's name may have, as escapes: they would break lines or command the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in cell)


def document(document: Any) -> None:
    """A JSON document."""
    Console().file.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
