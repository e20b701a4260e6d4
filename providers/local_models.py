"""Models that run in this process: each is loaded once, and one computes at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

# Otherwise onnxruntime opens a telemetry database in the home folder when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

Model = TypeVar("Model")

# Held while a local model computes: each model uses every core, so two at once are no faster.
COMPUTE: Final = threading.Lock()

_models: dict[Hashable, Any] = {}
_locks: dict[Hashable, threading.Lock] = {}
_lock = threading.Lock()


def shared_model(key: Hashable, load: Callable[[], Model]) -> Model:
    """Return the model of a key, loaded by the first caller; the others wait. The next call retries a failed load."""
    with _lock:
        lock = _locks.setdefault(key, threading.Lock())
    with lock:
        if key not in _models:
            _models[key] = load()
        return _models[key]  # type: ignore[no-any-return]


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not available on every system
        return os.cpu_count() or 1
