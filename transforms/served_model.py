"""Which version of a model answers now, so that results of another version are not reused.

A name can move: an alias, a name without a version, or a model that the service answers with its successor. The key of an
operation contains the name that the run asks for, because the version is known only when the service answers. A stored
result therefore also has the version that answered. If the service now answers with another version, the operation gets a
key of its own for it, and the earlier result stays under its key.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from promptreel.providers.base import Provider
from promptreel.schemas.errors import ModelError
from promptreel.schemas.ids import digest


class ServedModel:
    """The version of one session's model, learned from its answers, or asked for once.

    Args:
        may_call: raises if the session may not make calls; the version is then not asked for.
    """

    def __init__(self, provider: Provider, may_call: Callable[[], None]) -> None:
        self._provider = provider
        self._may_call = may_call
        self._version: str | None = None
        self._is_asked = False
        self._lock = asyncio.Lock()

    def observe(self, version: str | None) -> None:
        """Note the version of an answer of this session."""
        self._version = version or self._version

    async def other_version(self, stored: Mapping[str, Any]) -> str | None:
        """Return the version that answers now if a stored result is of another version; None if it can be reused.

        A result without a version can be reused, and every result while the version cannot be determined, because then the
        service does not answer at all.
        """
        version = stored.get("model_version")
        if version is None or (self._version is None and not self._provider.may_move(version)):
            return None
        current = await self._current()
        return None if current is None or current == version else current

    async def _current(self) -> str | None:
        async with self._lock:
            if self._version is None and not self._is_asked:
                self._is_asked = True
                try:
                    self._may_call()
                    self._version = await self._provider.served_version()
                except ModelError as error:
                    message = "the version of model %s is unknown, stored results are reused: %s"
                    logging.getLogger(__name__).warning(message, self._provider.name, error.message)
        return self._version


def key_of_version(key: str, version: str) -> str:
    """Return the key of an operation for one version of its model."""
    return digest({"operation_key": key, "model_version": version})


def version_mismatch(asked: str, version: str) -> str:
    """Return the warning that another model than the run's answered."""
    return f"the service answered with {version!r} instead of {asked!r}"
