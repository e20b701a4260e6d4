"""What is wrong with the values of a form, as its page shows it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from promptreel.api.web.errors import ApiError

MAX_PROBLEMS: Final = 30
_STARTS_WITH_PATH: Final = re.compile(r"([\w.\[\]-]+): (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class FormProblem:
    """What is wrong with a value of a form: the path of the value, and the reason."""

    path: str
    message: str

    @property
    def field(self) -> str:
        """Name of the form's field."""
        return self.path.partition(".")[0]


def invalid_values(error: ValidationError) -> tuple[FormProblem, ...]:
    """Return everything that is wrong with a request."""
    found = error.errors(include_url=False)[:MAX_PROBLEMS]
    return tuple(FormProblem(".".join(map(str, part["loc"])), part["msg"]) for part in found)


def problem_in(message: str) -> FormProblem:
    """Return the problem in a message that starts with the path of its value.

    >>> problem_in("json_schema.properties: is empty")
    FormProblem(path='json_schema.properties', message='is empty')
    """
    found = _STARTS_WITH_PATH.fullmatch(message)
    return FormProblem("", message) if found is None else FormProblem(found[1], found[2])


def problems_of(error: ApiError) -> tuple[FormProblem, ...]:
    """Return the problems that an error of the API names."""
    named = (error.details or {}).get("errors") or [{"path": "", "message": error.message}]
    if len(named) == 1:  # then the message of the error is the complete one
        path = str(named[0]["path"])
        return (FormProblem(path, error.message.removeprefix(f"{path}: ")),)
    return tuple(FormProblem(str(part["path"]), str(part["message"])) for part in named[:MAX_PROBLEMS])
