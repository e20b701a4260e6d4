"""`promptreel models`: the models on this machine, and fetching them ahead for machines without a network."""

from __future__ import annotations

from dataclasses import asdict

import click

from promptreel.cli.doctor import default_weights, model_check
from promptreel.cli.options import json_option
from promptreel.cli.output import print_json, print_table
from providers import clip, text_embedding, whisper
from providers.weights import MODELS_VARIABLE
from schemas.errors import SettingsError


@click.group()
def models() -> None:
    """Show and fetch the models that hear and see on this machine."""


@models.command("list")
@json_option
def list_models(as_json: bool) -> None:
    """Show whether the default models can be loaded, from where, how large they are, and what is missing."""
    checks = [model_check(operation, weights) for operation, weights in default_weights()]
    if as_json:
        print_json([asdict(check) for check in checks])
        return
    rows = ([check.name, check.state, check.detail, check.mend] for check in checks)
    print_table("Models on this machine", ["model", "state", "detail", "mend"], rows)


@models.command("pull")
@click.argument("names", nargs=-1, required=True, metavar="KIND:NAME...")
def pull(names: tuple[str, ...]) -> None:
    """Fetch models from the public model hub, for later runs without a network. This is the one command that does.

    \b
    promptreel models pull whisper:base
    promptreel models pull clip:ViT-B-32:datacomp_xl_s13b_b90k
    promptreel models pull sentence-transformers:all-MiniLM-L6-v2

    PROMPTREEL_MODELS names the folder that they are kept in; without it, it is the hub library's own cache.
    """
    for text in names:
        kind, _, name = text.partition(":")
        if kind == "whisper" and name:
            weights = whisper.pull_weights(name)
        elif kind == "clip" and name:
            weights = clip.pull_weights(name)
        elif kind == "sentence-transformers" and name:
            weights = text_embedding.pull_weights(text)
        else:
            raise SettingsError(f"{text}: write whisper:NAME, clip:ARCHITECTURE:WEIGHTS or sentence-transformers:NAME")
        click.echo(f"{text}: {weights.size_bytes / 1e6:.0f} MB in {weights.path}")


assert MODELS_VARIABLE == "PROMPTREEL_MODELS"  # the help text names it
