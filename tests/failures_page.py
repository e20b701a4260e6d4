"""docs/failures.md as the table of failure codes has it. `python -m tests.failures_page` writes it."""

from pathlib import Path

from promptreel.schemas.failure_codes import FAILURE_CODES

PAGE = Path(__file__).parent.parent / "docs" / "failures.md"

STAGES = {
    "media": (
        "Reading media",
        "The item has no segments; its failure is one of the item, with the operation `processing`.",
    ),
    "model call": ("Calls of a model", "One operation of a segment or item failed; the others of the run go on."),
    "local model": ("Models on this machine", "The other operations of the item go on."),
    "machine": ("The machine", "One operation of a segment or item failed; the others of the run go on."),
    "run control": ("Run control", "The operation did not begin."),
}
RETRYABLE = {"always": "yes", "never": "no", "sometimes": "see its row"}
SECOND_TRIES = {
    "repair": "The model is asked once more and told what was wrong.",
    "larger_budget": "The model is asked once more with a larger token budget.",
    "same": "The model is asked once more.",
}
HALTS = "No further call of the run is made."

HEAD = """# Failure codes

Find the code of a failure here, what it means and how to fix it.

```sh
promptreel failures                # what failed in the newest run; each row has a code and a message
promptreel run --resume RUN        # retries what is retryable
```

Nothing that a file, a model or a disk does ends a run: the operation fails, and its row of the
table `failures` holds the `code`, a `message` with the value that was wrong, and `retryable`,
whether a retry may succeed with nothing changed. A resume uses the run's own settings; where the
fix is another setting, start a new run, which reuses the finished results.
"""


def failures_page():
    """The page's text."""
    return HEAD + "".join(_section(stage, *of_stage) for stage, of_stage in STAGES.items())


def _section(stage, title, what_goes_on):
    rows = "".join(_row(code) for code in FAILURE_CODES.values() if code.stage == stage)
    return (
        f"\n## {title}\n\n{what_goes_on}\n\n| code | meaning | retryable | suggested fix |\n|---|---|---|---|\n{rows}"
    )


def _row(code):
    handling = [SECOND_TRIES[code.second_try]] if code.second_try else []
    if code.halts_run:
        handling.append(HALTS)
    meaning = " ".join([f"{code.meaning[0].upper()}{code.meaning[1:]}.", *handling])
    return f"| `{code.code}` | {meaning} | {RETRYABLE[code.retryable]} | {code.fix} |\n"


if __name__ == "__main__":
    PAGE.write_text(failures_page(), encoding="utf-8")
