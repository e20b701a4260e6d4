"""The JSON files that describe a run, read against their shape."""

from __future__ import annotations

from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from promptreel.schemas.errors import RunDamaged
from promptreel.tables.storage import Storage

Shape = TypeVar("Shape")


def load_run_file(storage: Storage, run_id: str, name: str, shape: TypeAdapter[Shape]) -> Shape:
    """A JSON file of a run as the dataclass that it stores.

    Raises:
        FileNotFoundError: there is none.
        RunDamaged: it is torn, or of another shape.
    """
    try:
        return shape.validate_json(storage.read_bytes(name))
    except ValidationError as error:
        raise RunDamaged(run_id, name, f"is not readable ({_first_problem(error)})") from error


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}" if where else problem["msg"]
