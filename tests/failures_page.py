"""Render docs/failures.md from the table of failure codes. `python -m tests.failures_page` writes the page."""

from pathlib import Path

from promptreel.providers.answer_json import REPAIRS
from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.media_warnings import MEDIA_WARNINGS

PAGE = Path(__file__).parent.parent / "docs" / "failures.md"

STAGES = {
    "media": (
        "Reading media",
        "The item has no segments. Its failure has the operation `processing` and no segment.",
    ),
    "model call": ("Model calls", "One operation of a segment or item failed; the rest of the run continues."),
    "local model": ("Local models", "The other operations of the item continue."),
    "machine": ("Machine", "One operation of a segment or item failed; the rest of the run continues."),
    "run control": ("Run control", "The operation did not start."),
}
RETRYABLE = {"always": "yes", "never": "no", "sometimes": "sometimes"}
SECOND_TRIES = {
    "repair": "The model is called once more, with the error in the prompt.",
    "larger_budget": "The model is called once more, with a larger token budget.",
    "same": "The model is called once more.",
}
HALTS = "The run makes no further calls."

HEAD = """# Failure codes

Look up what a failure code means and how to fix the cause.

```sh
promptreel failures                # failures of the newest run, each with a code and a message
promptreel run --resume RUN        # retries the retryable failures
```

A bad file, a failed model call or a disk error does not stop a run: the operation fails, and its
row in the table `failures` has the `code`, a `message` with the invalid value, and `retryable`
(whether an unchanged retry may succeed; codes marked "sometimes" depend on the cause).

A resume can change the limits of a run, its tier and the address of its model, e.g.
`--max-output-tokens`, `--max-cost`, `--tier` or `--max-media-hours`. The change also applies to
later resumes.
If a limit that caused a failure is now larger, the resume retries the failure even if it is not
retryable, and requests nothing else again. If the fix is another setting or prompt, start a new
run; it reuses the results that the change does not affect.

While the model's service is down or its rate limit grants no call, all calls wait and one at a time
probes it. The progress shows why, in the service's own words: "service overloaded since 14:02, next
probe in 20 s: HTTP 503 ...". After ten minutes without an answer (`--max-outage SECONDS`), after a
minute with a quota of 0, or when several operations in a row get the same permanent error, the run
makes no further calls. What failed for such a reason is retryable.
"""

WARNINGS = """
## Media warnings

A damaged file that can still be decoded is processed. Its row in the table `media` has the codes
below in `warning_codes`, one message each in `warnings`, and the measurements `truncated`,
`decode_errors`, `concealed_frames`, `decoded_duration_seconds` and `damaged_share` (0 to 1).
`promptreel run --max-damage 0.1` fails every item of which more than a tenth is missing or
concealed (`media_corrupt`).

```sh
promptreel sql "SELECT name, damaged_share, warning_codes, warnings FROM media WHERE len(warning_codes) > 0"
```

Formats without checksums (MP3, AAC) hide some flipped bits from every decoder. In videos with
B-frames, frames that no other frame refers to are not decoded, and damage in them is not seen.

| code | meaning |
|---|---|
"""

ANSWER_REPAIRS = """
## Repaired answers

An answer that is not strict JSON is used if only one value can be read from it and that value fits
the schema. Its row in `results` or `video_results` has a `warning` and, like its row in
`llm_calls`, the codes below in `answer_repair`, joined by commas. An answer that ends too early, or
that holds two different values, fails with `answer_not_json`.

```sh
promptreel sql "SELECT answer_repair, count(*) FROM results GROUP BY 1"
```

| code | repair |
|---|---|
"""


def failures_page():
    """Render the page."""
    sections = "".join(_section(stage, title, effect) for stage, (title, effect) in STAGES.items())
    return HEAD + sections + ANSWER_REPAIRS + _meanings(REPAIRS) + WARNINGS + _meanings(MEDIA_WARNINGS)


def _meanings(codes):
    return "".join(f"| `{code}` | {text} |\n" for code, text in codes.items())


def _section(stage, title, effect):
    rows = "".join(_row(code) for code in FAILURE_CODES.values() if code.stage == stage)
    return f"\n## {title}\n\n{effect}\n\n| code | meaning | retryable | suggested fix |\n|---|---|---|---|\n{rows}"


def _row(code):
    handling = [SECOND_TRIES[code.second_try]] if code.second_try else []
    if code.halts_run:
        handling.append(HALTS)
    meaning = " ".join([f"{code.meaning[0].upper()}{code.meaning[1:]}.", *handling])
    return f"| `{code.code}` | {meaning} | {RETRYABLE[code.retryable]} | {code.fix} |\n"


if __name__ == "__main__":
    PAGE.write_text(failures_page(), encoding="utf-8")
