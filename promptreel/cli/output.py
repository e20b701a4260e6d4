"""Output: tables for people, tab-separated text in a pipe, JSON for programs."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

_MAX_CELL_CHARS = 100
_MAX_RECORD_CHARS = 1000
_MIN_VALUE_WIDTH = 20

# Control characters, line separators, direction marks and bytes that are not text: a file name or an answer with these
# could change what the terminal shows.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_ESCAPES = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def print_json(value: Any) -> None:
    """Print one JSON value on standard output."""
    click.echo(json.dumps(_finite(value), indent=2, ensure_ascii=False, default=str))


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, err: bool = False, in_report: bool = False
) -> None:
    """Print a table on standard output.

    In a terminal it is a table, or one block of `key  value` lines per row if the terminal is too narrow for that. Otherwise
    it is tab-separated text with complete values and a header, and the title is a note.

    Args:
        err: print on standard error instead, because standard output has another table.
        in_report: the table is a part of a text, so its title stays with it.
    """
    stream = sys.stderr if err else sys.stdout
    if stream.isatty():
        _print_for_terminal(title, columns, [list(row) for row in rows], stream)
        return
    click.echo(_one_line(title), err=err or not in_report)
    for row in ([*columns], *rows):
        click.echo("\t".join(map(plain_value, row)), err=err)


def print_note(text: str) -> None:
    """Print a remark on a table on standard error, so that piped output is only the table."""
    click.echo(text, err=True)


def plain_value(value: Any) -> str:
    """Render a complete value as one field of tab-separated text; `\\t`, `\\n`, `\\\\` and `\\x1b` are escapes."""
    return printable(_text(value).replace("\\", "\\\\"))


def cell(value: Any, max_chars: int = _MAX_CELL_CHARS) -> str:
    """Render a value for a person, as one line of at most `max_chars` characters."""
    if isinstance(value, float):
        return f"{value:g}" if abs(value) < 1e6 else f"{value:.1f}"
    text = _one_line(_text(value))
    return text if len(text) <= max_chars else f"{text[: max_chars - 1]}…"


def setting_text(value: Any) -> str:
    """Render the value of a setting; a list by its length."""
    if isinstance(value, list | tuple):
        return f"{len(value)} {'entry' if len(value) == 1 else 'entries'}"
    return str(value)


def _print_for_terminal(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], stream: TextIO) -> None:
    console = Console(file=stream, markup=False, highlight=False)
    console.print(Text(_one_line(title), style="bold"), soft_wrap=True)
    names = [_one_line(name) for name in columns]
    cells = [[cell(value) for value in row] for row in rows]
    widths = [max(cell_len(text) for text in texts) for texts in zip(names, *cells, strict=True)]
    if sum(widths) + 3 * len(widths) + 1 <= console.width:
        table = Table(*(Column(name, no_wrap=True) for name in names), header_style="bold")
        for texts in cells:
            table.add_row(*map(Text, texts))
        console.print(table)
        return
    key_width = max(map(cell_len, names))
    for row in rows:
        console.print()
        for name, value in zip(names, row, strict=True):
            _print_entry(console, name, cell(value, _MAX_RECORD_CHARS), key_width)


def _print_entry(console: Console, name: str, value: str, key_width: int) -> None:
    """Print one line of a record, nothing for an empty value; only spaces break it, so an id stays in one piece."""
    if not value:
        return
    width = max(console.width - key_width - 2, _MIN_VALUE_WIDTH)
    for number, line in enumerate(_wrapped(value, width)):
        key = name if number == 0 else ""
        padding = " " * (key_width - cell_len(key) + 2)
        console.print(Text.assemble((key, "bold"), padding, line), soft_wrap=True)


def _wrapped(text: str, width: int) -> list[str]:
    """Break a text at spaces into lines of at most `width` columns; a longer word has a line of its own."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and cell_len(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def printable(text: str) -> str:
    """Replace control characters of one line of text by escapes."""
    return _UNPRINTABLE.sub(lambda found: _escape(found.group()), text)


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def _escape(character: str) -> str:
    code = ord(character)
    return _ESCAPES.get(character, f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def _finite(value: Any) -> Any:
    """Replace infinities and NaN, which JSON lacks, by None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value
