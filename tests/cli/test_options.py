"""Help and settings options of the commands."""

import json

from promptreel.cli.main import cli
from promptreel.schemas.settings import RunSettings
from tests.cli.in_process import invoke

COMMANDS = ["run", "estimate", "runs", "results", "failures", "sql", "doctor", "sample-film"]


def test_every_command_and_option_has_help():
    for name in COMMANDS:
        command = cli.get_command(None, name)
        for parameter in command.params:
            if parameter.param_type_name == "option" and name != "sample-film":
                assert parameter.help or parameter.name == "temperature", f"{name} {parameter.name} has no help"
    code, out, _ = invoke("--help")
    assert code == 0
    assert all(name in out for name in COMMANDS)
    assert "Exit codes" in out


def test_every_run_setting_has_an_option(tmp_path, monkeypatch):
    from promptreel.cli import settings_options as options_module

    changed = {
        "--video-segmentation": "fixed", "--video-segment-seconds": 7, "--audio-segmentation": "fixed",
        "--audio-segment-seconds": 9, "--hop": 3, "--start": "1:30",
        "--end": 100.5, "--fps": 2, "--media-input": "frames", "--media-resolution": "low",
        "--frames-per-segment": 3,
        "--temperature": 0.5, "--max-output-tokens": 100, "--thinking-level": "low", "--base-url": "http://127.0.0.1:1",
        "--max-in-flight": 3, "--max-calls-per-second": 2.5, "--call-deadline": 8, "--max-attempts": 2, "--max-outage": 30,
        "--max-tokens": 1000, "--max-cost": 2.5, "--run-deadline": 60, "--max-media-hours": 1, "--max-image-megapixels": 50,
        "--max-damage": 0.5, "--model": "gemini-x",
        "--vertex-project": "p", "--vertex-location": "l", "--tier": "flex",
    }  # fmt: skip
    import click

    parsed = []
    command = click.command()(options_module.settings_options(lambda **o: parsed.append(options_module.settings_of(o))))
    words = [str(word) for pair in changed.items() for word in pair]
    command.main([*words, "--fresh", "--no-field-reuse", "--flex-fallback", "--no-sound"], standalone_mode=False)
    (settings,) = parsed
    defaults = RunSettings().to_dict()
    unchanged = {
        f"{group}.{key}"
        for group in ("segmentation", "sampling", "model", "calls", "limits")
        for key, value in settings.to_dict()[group].items()
        if value == defaults[group][key]
    }
    # Lengths, frame size and decoder limits have no option; --thinking-budget excludes --thinking-level, --segments-by fixed
    # segments, and --batch-deadline needs another tier.
    assert unchanged == {
        "segmentation.smart_lengths", "segmentation.shot_lengths", "segmentation.pause_lengths", "sampling.max_width",
        "sampling.max_height", "sampling.jpeg_quality", "limits.max_pixels", "limits.decode_memory_bytes",
        "limits.decode_deadline_factor", "model.thinking_budget", "segmentation.segments_by", "calls.batch_deadline_s",
    }  # fmt: skip
    assert (settings.reuse_results, settings.reuse_fields) == (False, False)
    assert (settings.segmentation.start_s, settings.segmentation.end_s) == (90, 100.5)


def test_window_is_the_length_of_video_and_audio_segments(media, tmp_path):
    words = ["--model", "signals", "--data-dir", tmp_path / "data", "--json"]
    code, out, err = invoke("estimate", media, "--window", 2, "--hop", 1, "--start", "0:01", *words)
    assert code == 0, err
    by_type = {item["media_type"]: item["segments"] for item in json.loads(out)["details"]}
    assert (by_type["video"], by_type["audio"]) == ([2, 2], [1, 1])
