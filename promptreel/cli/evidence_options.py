"""`--evidence`: its options and settings."""

from __future__ import annotations

from typing import Any, Final

import click

from promptreel.schemas.evidence import EvidenceSettings

EVIDENCE_OPTIONS: Final = [
    click.option(
        "--evidence",
        is_flag=True,
        help="Request evidence for each field of the prompt (time span, words quoted) and check it.",
    ),
    click.option(
        "--evidence-field",
        multiple=True,
        metavar="FIELD",
        help="Request evidence for this top-level field only; repeat it for more.",
    ),
]


def evidence_of(options: dict[str, Any]) -> EvidenceSettings | None:
    """Build the settings of evidence from option values; None without either option."""
    fields = tuple(dict.fromkeys(options["evidence_field"]))
    return EvidenceSettings(fields) if options["evidence"] or fields else None
