"""How benchmarks print: aligned tables, and each bar with its figure and a verdict."""

from __future__ import annotations

from collections.abc import Sequence


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table; the first column to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(head))]
    for row in cells:
        aligned = [
            cell.ljust(w) if at == 0 else cell.rjust(w) for at, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(aligned).rstrip())


def print_bar(what: str, figure: str, bar: str, held: bool) -> None:
    """Prints one bar: what was measured, what is wanted, and whether it held in this run."""
    print(f"{'held  ' if held else 'MISSED'}  {what}: {figure} (bar: {bar})")
