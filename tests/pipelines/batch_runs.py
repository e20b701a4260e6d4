"""Helpers of the batch tests: settings, short waits, and runners that are killed at a step of a batch job."""

import signal
import sys
from dataclasses import replace

import pytest

from promptreel.providers import batch_lane, batch_watch
from tests.pipeline_runs import settings_for, start

SECONDS = 4


def batch_settings(server, *, tier="batch", **calls):
    """Return settings of runs with the tier batch; the media are frames, which are cheaper to produce than clips."""
    settings = settings_for(server, media_input="frames", **calls)
    return replace(settings, model=replace(settings.model, tier=tier))


@pytest.fixture
def _short_waits(monkeypatch):
    monkeypatch.setattr(batch_watch, "FIRST_POLL_S", 0.05)
    monkeypatch.setattr(batch_watch, "MAX_POLL_S", 0.2)
    monkeypatch.setattr(batch_watch, "FIRST_RETRY_S", 0.05)
    monkeypatch.setattr(batch_watch, "LISTED_AFTER_S", 0.3)
    monkeypatch.setattr(batch_watch, "CHECK_INTERVAL_S", 0.05)
    monkeypatch.setattr(batch_lane, "LAST_IDLE_S", 0.2)


# A runner that kills itself before or after the n-th call of a function; a coroutine is killed likewise.
_KILLED_AT = """
import importlib, inspect, os, signal, sys
module, owner, name, when, count = sys.argv.pop(1).split(":")
from promptreel.providers import batch_lane, batch_watch
batch_watch.FIRST_POLL_S, batch_watch.MAX_POLL_S, batch_lane.LAST_IDLE_S = 0.1, 0.2, 0.2
owner = getattr(importlib.import_module(module), owner)
original, remaining = getattr(owner, name), int(count)
def count_call(moment):
    global remaining
    if moment == when:
        remaining -= 1
        if remaining == 0:
            os.kill(os.getpid(), signal.SIGKILL)
def wrapped(*arguments, **options):
    count_call("before")
    result = original(*arguments, **options)
    count_call("after")
    return result
async def wrapped_coroutine(*arguments, **options):
    count_call("before")
    result = await original(*arguments, **options)
    count_call("after")
    return result
setattr(owner, name, wrapped_coroutine if inspect.iscoroutinefunction(original) else wrapped)
from promptreel.pipelines.runner import main
main(sys.argv[1:])
"""


def kill_runner_at(step, data, run_id):
    """Run a runner process that is killed at a step "module:class:function:before|after:count"."""
    command = [sys.executable, "-c", _KILLED_AT, step, "--data-dir", str(data), "--run-id", run_id]
    child = start(command)
    _, err = child.communicate(timeout=90)
    assert child.returncode == -signal.SIGKILL, err
