"""`promptreel models`: the models on this machine, and fetching them ahead for machines without a network."""

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

HUB_SILENT_S: Final = 10.0

# How a model of each kind is looked for, and fetched.
_KINDS: Final[dict[str, tuple[Callable[[str], Weights], Callable[[str], Weights]]]] = {
    "whisper": (whisper.find_weights, whisper.pull_weights),
    "clip": (clip.find_weights, clip.pull_weights),
    "sentence-transformers": (text_embedding.find_text_weights, text_embedding.pull_weights),
}
_PULL: Final = "run: promptreel models pull"  # how the fix of a model begins that can be fetched


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
    """Download models from the public model hub, so that later runs need no network. No other command downloads anything.

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
    find, fetch = _KINDS[kind]
    named = text if kind == "sentence-transformers" else name
    found = find(named)
    if found.fix.startswith(_PULL):  # anything else that is missing, its fetch refuses at once
        _require_hub(text)
    return fetch(named)


def _require_hub(text: str) -> None:
    """Refuses where the model hub does not answer. Its library waits without end for some of its requests: from here on
    each is given up after `HUB_SILENT_S`.

    Raises:
        ModelError: naming the hub, and what to do without a network.
    """
    from huggingface_hub import constants, get_session

    session = get_session()
    session.event_hooks["request"].append(_bound_wait)
    try:
        session.head(constants.ENDPOINT)
    except Exception as error:  # of whatever the library speaks HTTP with
        message = (
            f"{text}: the model hub {constants.ENDPOINT} cannot be reached ({type(error).__name__}: {error}); pull it "
            f"where there is a network and copy the folder that {MODELS_VARIABLE} names, or name a mirror in HF_ENDPOINT"
        )
        raise ModelError("weights_missing", message, retryable=True) from error


def _bound_wait(request: Any) -> None:
    told = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {
        step: told.get(step) or HUB_SILENT_S for step in ("connect", "read", "write", "pool")
    }


assert MODELS_VARIABLE == "PROMPTREEL_MODELS"  # the help text names it
