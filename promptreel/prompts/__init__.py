"""Prompts that come with promptreel, each a JSON file in this folder."""

from __future__ import annotations

from pathlib import Path

from promptreel.schemas.errors import PromptError
from promptreel.schemas.prompt import Prompt, read_prompt_file

_FOLDER = Path(__file__).parent


def builtin_names() -> list[str]:
    """Names of the prompts that come with promptreel."""
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def find_prompt(name: str) -> Prompt:
    """The prompt of that name, or of the JSON file of that path.

    Raises:
        PromptError: neither exists, or the definition breaks a rule.
    """
    if name in builtin_names():
        return read_prompt_file(_FOLDER / f"{name}.json")
    path = Path(name).expanduser()
    if not path.exists():
        raise PromptError(f"no prompt {name!r}: give a JSON file, or one of {', '.join(builtin_names())}")
    return read_prompt_file(path)
