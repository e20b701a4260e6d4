"""Models that run inside this process: each is loaded once, and they take turns on the processor."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

# onnxruntime opens a telemetry database in the home folder when it is imported, unless it is told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

Model = TypeVar("Model")

# Held while a local model computes. Each of them uses every core by itself: two at once would only wait for each other.
COMPUTE: Final = threading.Lock()

_models: dict[Hashable, Any] = {}
_locks: dict[Hashable, threading.Lock] = {}
_lock = threading.Lock()


def shared_model(key: Hashable, load: Callable[[], Model]) -> Model:
    """The model of that key, loaded by the first who asks; the others wait for it. A failed load is tried again."""
    with _lock:
        lock = _locks.setdefault(key, threading.Lock())
    with lock:
        if key not in _models:
            _models[key] = load()
        return _models[key]  # type: ignore[no-any-return]


def cores() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
