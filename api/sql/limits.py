"""Limits of SQL queries."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SqlLimits:
    """Resources of one query, and the number of concurrent queries.

    Attributes:
        timeout_s: wall-clock time after which the query's process is killed.
        default_rows, max_rows: default and maximum number of rows in a response.
        max_answer_bytes: maximum size of the rows as JSON; further rows are omitted and the response is marked truncated.
        max_query_chars: maximum length of the query text.
        max_runs: maximum number of runs in scope; without `run_ids` the newest ones are read.
        max_files: maximum number of committed part files of these runs.
        table_bytes: DuckDB's memory limit for tables, joins and sorts.
        memory_bytes: address space of the process; bounds memory that DuckDB does not count, such as one huge value.
        threads: DuckDB threads per query.
        running: queries that run concurrently in this service; others wait.
        waiting: queries that may wait; one account gets at most half of the running and waiting slots. Further queries
            are rejected with sql_busy.
        warm: processes that are started in advance.
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
        """Return the limits for the query's process."""
        return asdict(self)

    def to_wire(self) -> dict[str, Any]:
        """Return the limits in API format."""
        return {
            "default_result_limit": self.default_rows,
            "max_result_limit": self.max_rows,
            "timeout_seconds": self.timeout_s,
            "max_query_chars": self.max_query_chars,
            "max_answer_bytes": self.max_answer_bytes,
            "max_runs": self.max_runs,
        }
