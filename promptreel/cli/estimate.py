"""`promptreel estimate`: estimate the segments, calls and tokens of a run."""

from __future__ import annotations

from typing import Any

import click

from promptreel.cli.model_messages import warn_of_models
from promptreel.cli.options import data_dir_option, json_option, load_prompt, open_data_dir, prompt_option
from promptreel.cli.output import print_json, print_table
from promptreel.cli.sampling import sample_target
from promptreel.cli.settings_options import settings_of, settings_options
from promptreel.cli.target import expand_target
from promptreel.providers.generic_rates import generic_rates_note
from promptreel.providers.registry import check_definition, provider_of
from promptreel.providers.tiers import check_tier
from promptreel.schemas.prompt_media import settings_for_prompt


@click.command()
@click.argument("target", nargs=-1)
@prompt_option
@settings_options
@click.option(
    "--analyze",
    is_flag=True,
    help="Decode media that has not been analyzed yet, for exact figures. The run reuses the analysis.",
)
@data_dir_option
@json_option
def estimate(
    target: tuple[str, ...], prompt_name: str, analyze: bool, data_dir: str, as_json: bool, **options: Any
) -> None:
    """Estimate a run over TARGET: segments, calls, tokens, and what is already done. Calls no model."""
    from promptreel.pipelines.estimate import estimate_run

    prompt = load_prompt(prompt_name)
    settings = settings_for_prompt(settings_of(options), prompt.media)
    provider = provider_of(settings)
    provider.check_prompt(prompt)
    check_definition(settings)
    check_tier(provider, settings)
    warn_of_models(settings)
    storage = open_data_dir(data_dir)
    expanded = expand_target(target)
    if skipped := expanded.skipped_text():
        click.echo(skipped, err=True)
    items = sample_target(expanded.items, settings)
    estimated = estimate_run(storage, prompt, settings, provider, items, analyze=analyze).to_dict()
    if as_json:
        print_json(estimated)
        return
    rows = [
        [
            item["name"],
            item["media_type"],
            item["duration_seconds"],
            _span(item["segments"]),
            _span(item["calls"]),
            item["reused"],
            sum(item["tokens"].values()),
            item["error"],
        ]
        for item in estimated["details"]
    ]
    columns = ["name", "type", "seconds", "segments", "calls", "reused", "input tokens", "would fail"]
    tier = "" if estimated["tier"] == "standard" else f" at the tier {estimated['tier']}"
    print_table(f"Estimate with {estimated['model']}{tier}", columns, rows)
    tokens = ", ".join(f"{name} {count:,}" for name, count in estimated["input_tokens"].items())
    click.echo(
        f"items {estimated['eligible_items']} of {estimated['items']}, segments {_span(estimated['segments'])}, "
        f"model calls {_span(estimated['model_calls'])}, reused {estimated['reused_results']}; "
        f"maximum input tokens: {tokens}"
    )
    if estimated["token_rates"] == "generic":
        click.echo(generic_rates_note(estimated["model"]))
    if not estimated["exact"] and settings.segmentation.segments_by is not None:
        click.echo("Segment counts are bounds until a model has marked the segments.")
    elif not estimated["exact"]:
        click.echo("Segment counts are bounds until the media is decoded; use --analyze for exact counts.")


def _span(bounds: list[int] | tuple[int, int]) -> str:
    return str(bounds[0]) if bounds[0] == bounds[1] else f"{bounds[0]}–{bounds[1]}"
