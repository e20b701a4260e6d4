"""Print benchmark results: aligned tables, and each bar with its figure and verdict."""

from __future__ import annotations

from collections.abc import Sequence


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; the first column is left-aligned, the others right-aligned."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        aligned = [
            cell.ljust(w) if column == 0 else cell.rjust(w)
            for column, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(aligned).rstrip())


def print_bar(name: str, figure: str, bar: str, is_met: bool) -> None:
    """Print one bar: the measured figure, the required value, and whether this run met it."""
    print(f"{'met   ' if is_met else 'MISSED'}  {name}: {figure} (bar: {bar})")
