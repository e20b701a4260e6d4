"""One run for Python: its tables as pandas, Polars or Arrow, and SQL over them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

import pyarrow as pa

from promptreel.schemas.errors import InvalidInput
from promptreel.schemas.table_rows import TABLES
from promptreel.tables.analyst_views import connect_views
from promptreel.tables.reader import committed_run, query
from promptreel.tables.run_views import quoted
from promptreel.tables.storage import Storage

_VIEWS: Final = ("fields",)


@dataclass(frozen=True)
class Rows:
    """The rows of a table or of an answer."""

    _table: pa.Table

    def arrow(self) -> pa.Table:
        return self._table

    def to_pandas(self) -> Any:
        """Convert to a pandas DataFrame.

        Raises:
            ImportError: pandas is not installed.
        """
        _require("pandas", "to_pandas")
        return self._table.to_pandas()

    def to_polars(self) -> Any:
        """Convert to a Polars DataFrame.

        Raises:
            ImportError: Polars is not installed.
        """
        return _require("polars", "to_polars").from_arrow(self._table)

    def to_pylist(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._table.to_pylist()
        return rows


class OpenedRun:
    """The newest committed state of a run, and nothing else: no part that a resume replaced, and no other file.

    A resume that commits later does not change an opened run. Close it, or use it in a `with` block.
    """

    def __init__(self, storage: Storage, run_id: str) -> None:
        self._run = committed_run(storage, run_id)
        self._connection = connect_views(storage, [self._run])

    @property
    def run_id(self) -> str:
        return self._run.run_id

    @property
    def status(self) -> str:
        return self._run.manifest.status

    @property
    def manifest(self) -> int:
        """Number of the manifest that names the files of this state."""
        return self._run.manifest.number

    @property
    def tables(self) -> tuple[str, ...]:
        """Names for `table`: the run's tables, and `fields`, the answers with one column per leaf field."""
        return (*TABLES, *_VIEWS)

    def table(self, name: str) -> Rows:
        """Read a table, in no particular order.

        Raises:
            InvalidInput: the run has no table of this name.
        """
        if name not in self.tables:
            raise InvalidInput(f"no table {name!r}; a run has {', '.join(self.tables)}")
        return Rows(query(self._connection, f"SELECT * FROM {quoted(name)}"))

    def sql(self, statement: str) -> Rows:
        """Run one SELECT in DuckDB's SQL over the tables and views of `promptreel sql`.

        Raises:
            InvalidInput: the statement is not exactly one SELECT, or DuckDB rejects it.
        """
        return Rows(query(self._connection, statement))

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> OpenedRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<run {self.run_id}: {self.status}, manifest {self.manifest}>"


def _require(package: str, method: str) -> Any:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise ImportError(f"{method} needs {package}, which is not installed; run: pip install {package}") from error
