"""promptreel: one prompt over many videos, audio files and images, to tables."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptreel.reading import open_run
    from promptreel.sdk import AsyncPromptReel, PromptReel

__all__ = ["AsyncPromptReel", "PromptReel", "__version__", "open_run"]

try:
    __version__ = version("promptreel")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0.0.0"


def __getattr__(name: str) -> Any:
    """Import the clients and the reader on use: the command line does not need the dependencies of the clients."""
    if name in ("PromptReel", "AsyncPromptReel"):
        from promptreel import sdk

        return getattr(sdk, name)
    if name == "open_run":
        from promptreel.reading import open_run

        return open_run
    raise AttributeError(f"module 'promptreel' has no attribute {name!r}")
