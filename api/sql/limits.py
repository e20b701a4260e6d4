"""What one query may use."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SqlLimits:
    """What one query may use, and how many may be at work.

    Attributes:
        timeout_s: wall-clock seconds; the query's process is killed then.
        default_rows, max_rows: rows of an answer where the query names no number, and at most.
        max_answer_bytes: of an answer's rows as JSON; further rows are left out and the answer says so.
        max_query_chars: length of the text.
        max_runs: runs that one query reads; the newest ones where it names none.
        max_files: committed part files behind these runs.
        table_bytes: what DuckDB may use for tables, joins and sorts.
        memory_bytes: address space of the process; what DuckDB does not count (one huge value) ends here.
        threads: of DuckDB.
        running: queries at work at once in this service; others wait.
        waiting: queries that wait, in all and for one account; a further one is sent away with a time to come back.
        warm: processes that stand ready.
    """

    timeout_s: float = 10.0
    default_rows: int = 100
    max_rows: int = 2000
    max_answer_bytes: int = 8 << 20
    max_query_chars: int = 10_000
    max_runs: int = 100
    max_files: int = 4000
    table_bytes: int = 768 << 20
    memory_bytes: int = 2 << 30
    threads: int = 2
    running: int = 2
    waiting: int = 8
    warm: int = 2

    def to_child(self) -> dict[str, Any]:
        """The limits as the query's process is told them."""
        return asdict(self)

    def to_wire(self) -> dict[str, Any]:
        """The limits as the catalog shows them."""
        return {
            "default_result_limit": self.default_rows,
            "max_result_limit": self.max_rows,
            "timeout_seconds": self.timeout_s,
            "max_query_chars": self.max_query_chars,
            "max_answer_bytes": self.max_answer_bytes,
            "max_runs": self.max_runs,
        }
