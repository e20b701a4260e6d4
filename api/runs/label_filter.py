"""The query parameters that select runs by name and tags."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query

from promptreel.api.web.errors import invalid
from promptreel.schemas.errors import InvalidInput
from promptreel.schemas.run_labels import RunLabels, parse_tags

Name = Annotated[str | None, Query(description="List only runs with this name.")]
Tags = Annotated[list[str] | None, Query(description="List only runs with this tag, as key=value; repeatable.")]


def _label_filter(name: Name = None, tag: Tags = None) -> RunLabels:
    """Parse the filter.

    Raises:
        ApiError: 422 if a label is invalid.
    """
    try:
        return RunLabels(name, parse_tags(tag or ()))
    except InvalidInput as error:
        raise invalid(str(error)) from error


LabelFilter = Annotated[RunLabels, Depends(_label_filter)]
