"""`promptreel estimate`: estimate the segments, calls, tokens and money of a run."""

from __future__ import annotations

from typing import Any

import click

from promptreel.cli.model_messages import warn_of_models
from promptreel.cli.options import data_dir_option, json_option, load_prompt, open_data_dir, prompt_option
from promptreel.cli.output import print_json, print_note, print_table
from promptreel.cli.sampling import sample_target
from promptreel.cli.settings_options import settings_of, settings_options
from promptreel.cli.target import expand_target
from promptreel.providers.generic_rates import generic_rates_note
from promptreel.providers.registry import check_dedupe, check_definition, provider_of
from promptreel.providers.tiers import check_tier
from promptreel.schemas.money import format_amount
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
    """Estimate a run over TARGET: segments, calls, tokens, money, and what is already done. Calls no model."""
    from promptreel.pipelines.estimate import estimate_run

    prompt = load_prompt(prompt_name)
    settings = settings_for_prompt(settings_of(options), prompt.media)
    provider = provider_of(settings)
    provider.check_prompt(prompt)
    check_definition(settings)
    check_dedupe(prompt, settings)
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
            _spread(item["expected_tokens"]["input"]),
            _spread(item["expected_tokens"]["output"]),
            _cost(item["cost"]),
            item["error"],
        ]
        for item in estimated["details"]
    ]
    columns = ["name", "type", "seconds", "segments", "calls", "reused", "input", "output", "cost", "would fail"]
    tier = "" if estimated["tier"] == "standard" else f" at the tier {estimated['tier']}"
    print_table(f"Estimate with {estimated['model']}{tier}", columns, rows)
    print_note(
        f"items {estimated['eligible_items']} of {estimated['items']}, segments {_span(estimated['segments'])}, "
        f"model calls {_span(estimated['model_calls'])}, reused {estimated['reused_results']}"
    )
    _print_money(estimated)
    if estimated["token_rates"] == "generic":
        print_note(generic_rates_note(estimated["model"]))
    if not estimated["exact"] and settings.segmentation.segments_by is not None:
        print_note("Segment counts are bounds until a model has marked the segments.")
    elif not estimated["exact"] and settings.dedupe_segments:
        print_note("Segments and calls are bounds until the media is decoded; use --analyze for exact counts.")
    elif not estimated["exact"]:
        print_note("Segment counts are bounds until the media is decoded; use --analyze for exact counts.")


def _print_money(estimated: dict[str, Any]) -> None:
    """Print the expected tokens and money, where the prices are from, and what the figures rest on."""
    tokens, cost, calibration = estimated["expected_tokens"], estimated["cost"], estimated["calibration"]
    most = ", ".join(f"{name} {count:,}" for name, count in estimated["input_tokens"].items())
    print_note(f"tokens: input {_spread(tokens['input'])}, output {_spread(tokens['output'])}; maximum input: {most}")
    if cost is None:
        print_note(
            f"cost: unknown, because the price of {estimated['model']} or of the embedding model is unknown; "
            "give it with --prices FILE"
        )
    elif cost["currency"] is not None:
        source = ", ".join(part for part in (cost["price_source"], cost["price_date"]) if part)
        print_note(f"cost: {_cost(cost)}, tier {cost['tier']}" + (f", prices of {source}" if source else ""))
    if calibration is not None:
        runs = f"{calibration['runs']} earlier {'run' if calibration['runs'] == 1 else 'runs'}"
        print_note(
            f"calibrated by {calibration['calls']:,} calls of {runs} with this model and media input "
            f"({', '.join(calibration['kinds'])})"
        )
    elif any(estimated["model_calls"]):
        print_note("not calibrated: the data folder has no calls of earlier runs with this model and media input")


def _spread(spread: dict[str, int]) -> str:
    """Render the expected value and, if it is uncertain, the lowest and the highest."""
    low, expected, high = spread["low"], spread["expected"], spread["high"]
    return f"{expected:,}" + (f" ({low:,}–{high:,})" if low != high else "")


def _cost(cost: dict[str, Any] | None) -> str:
    if cost is None or cost["currency"] is None:
        return ""
    low, expected, high = (format_amount(cost[name], cost["currency"]) for name in ("low", "expected", "high"))
    return expected + (f" ({low.split()[0]}–{high.split()[0]})" if low != high else "")


def _span(bounds: list[int] | tuple[int, int]) -> str:
    return str(bounds[0]) if bounds[0] == bounds[1] else f"{bounds[0]}–{bounds[1]}"
