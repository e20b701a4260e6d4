"""Run `promptreel` commands inside the test process."""

import contextlib
import io
import os
import sys
from unittest import mock

import pytest

from promptreel.cli.main import main

FIXED_SEGMENTS = ["--video-segmentation", "fixed", "--video-segment-seconds", 2]


def invoke(*words, env=None):
    """Run a command that starts no child process; return (exit code, standard output, standard error)."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, {"GEMINI_API_KEY": "any", **(env or {})}),
        mock.patch.object(sys, "argv", ["promptreel", *map(str, words)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as exited,
    ):
        main()
    return exited.value.code, out.getvalue(), err.getvalue()
