"""Find words in the answers, syntheses and transcripts of a run, without an index."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from promptreel.tables.item_names import shown_names
from promptreel.tables.reader import CommittedRun, read_rows
from promptreel.tables.storage import Storage

_SOURCES: Final = (("results", "metadata_text"), ("transcripts", "text"), ("video_results", "metadata_text"))
_CONTEXT_CHARS: Final = 60


@dataclass(frozen=True, slots=True)
class TextHit:
    """One text that contains all words.

    Attributes:
        start_us, end_us: of the segment; None for a synthesis.
        source: "results", "transcripts" or "video_results".
        excerpt: the text around the first words; of an answer, its lines with a word.
    """

    run_id: str
    video_id: str
    name: str
    segment_id: str | None
    start_us: int | None
    end_us: int | None
    source: str
    excerpt: str


def search_text(storage: Storage, run: CommittedRun, words: Sequence[str], limit: int) -> list[TextHit]:
    """Find the texts of a run that contain all words, in any case, also within longer words.

    Raises:
        RunDamaged: a part is missing or truncated.
    """
    parameters = {f"word{number}": word for number, word in enumerate(words)}
    names = shown_names(read_rows(storage, run, "media"))
    hits: list[TextHit] = []
    for table, column in _SOURCES:
        where = " AND ".join(f"contains(lower({column}), lower(${name}))" for name in parameters)
        for row in read_rows(storage, run, table, where, limit - len(hits), **parameters):
            hits.append(
                TextHit(
                    run.run_id, row["video_id"], names[row["video_id"]], row.get("segment_id"), row.get("start_us"),
                    row.get("end_us"), table, _excerpt(row[column], words, by_line=column == "metadata_text"),
                )
            )  # fmt: skip
    return hits


def _excerpt(text: str, words: Sequence[str], *, by_line: bool) -> str:
    pattern = re.compile("|".join(map(re.escape, words)), re.IGNORECASE)
    if by_line:
        return "; ".join(line for line in text.splitlines() if pattern.search(line))
    found = pattern.search(text)
    first = 0 if found is None else max(found.start() - _CONTEXT_CHARS, 0)
    last = first + 2 * _CONTEXT_CHARS
    return ("…" if first else "") + " ".join(text[first:last].split()) + ("…" if last < len(text) else "")
