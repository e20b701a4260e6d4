"""Load and validate the JSON files that describe a run."""

from __future__ import annotations

from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from promptreel.schemas.errors import RunDamaged
from promptreel.tables.storage import Storage

Shape = TypeVar("Shape")


def load_run_file(storage: Storage, run_id: str, name: str, shape: TypeAdapter[Shape]) -> Shape:
    """Load a JSON file of a run as a dataclass.

    Raises:
        FileNotFoundError: the file does not exist.
        RunDamaged: the file is truncated or does not match the schema.
    """
    try:
        return shape.validate_json(storage.read_bytes(name))
    except ValidationError as error:
        raise RunDamaged(run_id, name, f"is not readable ({_first_problem(error)})") from error


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}" if where else problem["msg"]
