"""`promptreel doctor`: check ffmpeg, packages, models, keys and the data folder on this machine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from dataclasses import asdict

import click

from promptreel.cli.checks import Check
from promptreel.cli.doctor_models import check_gemini_models
from promptreel.cli.options import data_dir_option, json_option, open_data_dir
from promptreel.cli.output import print_json, print_table
from promptreel.media.ffmpeg import VARIABLE, ffmpeg_candidates, find_ffmpeg
from promptreel.providers import on_screen_text
from promptreel.providers.openai_compatible import KEY_VARIABLE
from promptreel.providers.plugins import installed_plugins, package_of, plugin_error
from promptreel.providers.registry import BUILT_IN, local_weights
from promptreel.providers.weights import Weights
from promptreel.schemas.errors import ExpectedError
from promptreel.schemas.settings import RunSettings
from promptreel.tables.storage import LocalStorage


@click.command()
@data_dir_option
@json_option
def doctor(data_dir: str, as_json: bool) -> None:
    """Show which ffmpeg, models and keys are in use, and how to fix what is missing."""
    checks = [*_check_ffmpeg(), *_check_packages(), *_check_models(), _check_data_dir(data_dir)]
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        print_table(
            "promptreel doctor",
            ["check", "state", "detail", "fix"],
            ([c.name, c.state, c.detail, c.fix] for c in checks),
        )
    if any(check.state == "broken" for check in checks):
        sys.exit(1)


def _check_ffmpeg() -> list[Check]:
    try:
        found = find_ffmpeg()
        used = Check("ffmpeg", "ok", f"{found.version} from {found.source}: {found.path}")
    except ExpectedError as error:
        used = Check("ffmpeg", "broken", str(error), f"pip install imageio-ffmpeg, or set {VARIABLE} to a newer ffmpeg")
    rejected = [
        Check(f"ffmpeg ({candidate.source})", "missing", candidate.verdict, "not needed while another ffmpeg is in use")
        for candidate in ffmpeg_candidates()
        if not candidate.usable
    ]
    return [used, *rejected]


def _check_packages() -> list[Check]:
    names = ("apache-beam", "pyarrow", "duckdb", "google-genai", "av")
    checks = [Check(name, "ok", importlib.metadata.version(name)) for name in names]
    if importlib.util.find_spec("faster_whisper") is None:
        detail = "no speech detector; pauses are detected by sound level"
        checks.append(Check("speech (Silero)", "missing", detail, "pip install 'promptreel[speech]'"))
    else:
        checks.append(Check("speech (Silero)", "ok", f"faster-whisper {importlib.metadata.version('faster-whisper')}"))
    return checks


def _check_models() -> list[Check]:
    return [
        Check("model signals", "ok", "built in; needs no key and no network"),
        *check_gemini_models(),
        _check_openai(),
        *plugin_checks(),
        *(model_check(name, weights) for name, weights in default_weights()),
    ]


def _check_openai() -> Check:
    if os.environ.get(KEY_VARIABLE):
        return Check("model openai:NAME", "ok", "a key is set (not verified)")
    fix = f"export {KEY_VARIABLE}=..., or use --base-url for a server that needs no key"
    return Check("model openai:NAME", "missing", "no key", fix)


def plugin_checks() -> list[Check]:
    """Check the providers that other packages register; importing them runs their code."""
    checks = []
    for prefix in sorted(installed_plugins().keys() - BUILT_IN):
        name, package = f"model {prefix}:NAME", package_of(installed_plugins()[prefix][0])
        error = plugin_error(prefix)
        checks.append(Check(name, "missing", error) if error else Check(name, "ok", f"from package {package}"))
    return checks


def default_weights() -> list[tuple[str, Weights]]:
    """Return (operation, weights) of the local models that a run uses by default."""
    settings = RunSettings()
    return [*local_weights(settings), ("on-screen text", on_screen_text.find_weights())]


def model_check(operation: str, weights: Weights) -> Check:
    """Check whether a local model can be loaded: its size and location, or how to make it available."""
    name = f"{operation.replace('_', ' ')} ({weights.model})"
    if not weights.available:
        return Check(name, "missing", weights.reason, weights.fix)
    return Check(name, "ok", f"{weights.size_bytes / 1e6:.0f} MB from {weights.source}: {weights.path}")


def _check_data_dir(data_dir: str) -> Check:
    storage = open_data_dir(data_dir)
    if not isinstance(storage, LocalStorage):
        return Check("data folder", "ok", f"{storage.root} (not verified)")
    nearest = next(path for path in (storage.path, *storage.path.parents) if path.exists())
    if not nearest.is_dir():
        return Check("data folder", "broken", f"{nearest} is not a folder", "choose another with --data-dir")
    free_gb = shutil.disk_usage(nearest).free / 1e9
    if not os.access(nearest, os.W_OK):
        return Check("data folder", "broken", f"{storage.root} is not writable", "choose another with --data-dir")
    state = "ok" if free_gb >= 1 else "broken"
    return Check("data folder", state, f"{storage.root}, {free_gb:.1f} GB free", "" if state == "ok" else "free space")
