"""All packages share one list of segmentation strategies."""

import ast
import typing
from pathlib import Path

import click
import pytest

from promptreel.cli.settings_options import settings_options
from promptreel.schemas.segmentation import SegmentationSettings
from promptreel.schemas.wire.prompt_runs import ExecuteRun
from promptreel.sdk.resources import AsyncPromptRuns, PromptRuns

ROOT = Path(__file__).parents[2]
FOLDERS = ("promptreel", "schemas", "media", "providers", "tables", "transforms", "pipelines", "pages", "api")


def test_strategies_are_listed_in_one_module():
    modules = set()
    for path in (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(), path)):
            if isinstance(node, ast.Tuple | ast.List | ast.Set):
                values = {element.value for element in node.elts if isinstance(element, ast.Constant)}
                if {"fixed", "content_aware"} <= values:
                    modules.add(path.relative_to(ROOT).as_posix())
    assert modules == {"schemas/strategies.py"}


@pytest.mark.parametrize("media_type", ["video", "audio"])
def test_wire_sdk_cli_and_pipeline_share_strategies_and_defaults(media_type):
    field = ExecuteRun.model_fields[f"{media_type}_segmentation_type"]
    strategies = typing.get_args(field.annotation)

    @settings_options
    @click.command()
    def command(**options):
        pass

    (option,) = [option for option in command.params if option.name == f"{media_type}_segmentation"]
    assert (tuple(option.type.choices), option.default) == (strategies, field.default)
    for method in (PromptRuns.execute, PromptRuns.estimate, AsyncPromptRuns.execute, AsyncPromptRuns.estimate):
        assert typing.get_type_hints(method)[f"{media_type}_segmentation_type"] == field.annotation | None
    assert getattr(SegmentationSettings(), f"{media_type}_strategy") == field.default
    for strategy in strategies:
        window = {f"{media_type}_duration_s": 300} if strategy == "fixed" else {}
        settings = SegmentationSettings(**{f"{media_type}_strategy": strategy}, **window)
        assert settings.strategy_of(media_type) == strategy
