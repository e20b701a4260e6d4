"""`promptreel models`: list local models, and download them in advance for machines without a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

import click

from promptreel.cli.doctor import default_weights, model_check
from promptreel.cli.options import json_option
from promptreel.cli.output import print_json, print_table
from promptreel.providers import clip, text_embedding, whisper
from promptreel.providers.weights import MODELS_VARIABLE, Weights
from promptreel.schemas.errors import ModelError, SettingsError

HUB_TIMEOUT_S: Final = 10.0

# How to find and to download a model of each kind.
_KINDS: Final[dict[str, tuple[Callable[[str], Weights], Callable[[str], Weights]]]] = {
    "whisper": (whisper.find_weights, whisper.pull_weights),
    "clip": (clip.find_weights, clip.pull_weights),
    "sentence-transformers": (text_embedding.find_text_weights, text_embedding.pull_weights),
}
_PULL_FIX: Final = "run: promptreel models pull"  # prefix of a fix: the model can be downloaded


@click.group()
def models() -> None:
    """List and download the local speech, vision and text models."""


@models.command("list")
@json_option
def list_models(as_json: bool) -> None:
    """Show whether the default models can be loaded, from where, how large they are, and what is missing."""
    checks = [model_check(operation, weights) for operation, weights in default_weights()]
    if as_json:
        print_json([asdict(check) for check in checks])
        return
    rows = ([check.name, check.state, check.detail, check.fix] for check in checks)
    print_table("Models on this machine", ["model", "state", "detail", "fix"], rows)


@models.command("pull")
@click.argument("names", nargs=-1, required=True, metavar="KIND:NAME...")
def pull(names: tuple[str, ...]) -> None:
    """Download models from the public model hub, so that later runs need no network. No other command downloads models.

    \b
    promptreel models pull whisper:base
    promptreel models pull clip:ViT-B-32:datacomp_xl_s13b_b90k
    promptreel models pull sentence-transformers:all-MiniLM-L6-v2

    They are stored in the folder PROMPTREEL_MODELS, by default in the hub library's cache.
    """
    for text in names:
        weights = _pull(text)
        click.echo(f"{text}: {weights.size_bytes / 1e6:.0f} MB in {weights.path}")


def _pull(text: str) -> Weights:
    kind, _, name = text.partition(":")
    if kind not in _KINDS or not name:
        raise SettingsError(f"{text}: use whisper:NAME, clip:ARCHITECTURE:WEIGHTS or sentence-transformers:NAME")
    find, download = _KINDS[kind]
    model = text if kind == "sentence-transformers" else name
    if find(model).fix.startswith(_PULL_FIX):  # otherwise the download fails before it connects
        _require_hub(text)
    return download(model)


def _require_hub(text: str) -> None:
    """Check that the model hub responds, and set a timeout of `HUB_TIMEOUT_S` on all later requests of its library.

    The library sends some requests without a timeout.

    Raises:
        ModelError: the hub is unreachable; the message names it and says what to do without a network.
    """
    from huggingface_hub import constants, get_session

    session = get_session()
    session.event_hooks["request"].append(_set_timeouts)
    try:
        session.head(constants.ENDPOINT)
    except Exception as error:  # the exception type depends on the library's HTTP client
        message = (
            f"{text}: the model hub {constants.ENDPOINT} cannot be reached ({type(error).__name__}: {error}); pull it "
            f"on a machine with network access and copy the folder {MODELS_VARIABLE}, or set HF_ENDPOINT to a mirror"
        )
        raise ModelError("weights_missing", message, retryable=True) from error


def _set_timeouts(request: Any) -> None:
    timeouts = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {
        step: timeouts.get(step) or HUB_TIMEOUT_S for step in ("connect", "read", "write", "pool")
    }


assert MODELS_VARIABLE == "PROMPTREEL_MODELS"  # the help text of `pull` contains the name
