"""Exceptions keep their fields when Beam workers pickle them."""

import importlib
import pickle
import pkgutil

import pytest

from promptreel.providers.answers import AnswerFailed
from promptreel.providers.call_policy import Halted
from promptreel.schemas.errors import ModelError, PicklableError

PACKAGES = ("schemas", "media", "providers", "tables", "transforms", "pipelines", "pages", "api", "sdk")
CHILDREN = ("stills_child", "probe_child", "migrations")  # separate processes, not importable here


def exception_classes():
    """Yield every exception class of promptreel that defines a constructor."""
    for name in PACKAGES:
        package = importlib.import_module(f"promptreel.{name}")
        for info in pkgutil.walk_packages(package.__path__, f"promptreel.{name}."):
            if not any(child in info.name for child in CHILDREN):
                module = importlib.import_module(info.name)
                for value in vars(module).values():
                    is_exception = isinstance(value, type) and issubclass(value, Exception)
                    if is_exception and value.__module__ == module.__name__ and "__init__" in vars(value):
                        yield value


@pytest.mark.parametrize("kind", [*exception_classes()], ids=lambda kind: kind.__name__)
def test_error_with_fields_can_be_pickled(kind):
    assert issubclass(kind, PicklableError)
    error = kind.__new__(kind, "message")
    error.field = 1
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.args, vars(copy)) == (kind, ("message",), {"field": 1})


@pytest.mark.parametrize(
    "error",
    [
        ModelError("rate_limited", "slow down", retryable=True, retry_after_s=3.5),
        AnswerFailed("model_blocked", "no", retryable=False, answer="half"),
        Halted("cancelled", "stopped"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_pickled_error_keeps_its_fields(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (copy.args, vars(copy), str(copy)) == (error.args, vars(error), str(error))
