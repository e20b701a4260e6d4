"""Helpers of export tests: sample metadata and rows of the queue."""

from promptreel.api.db.clock import now
from promptreel.api.db.models import Export

CRANE, SHIP = {"summary": "A crane", "scene": {"location": "dock"}}, {"summary": "日本 \u2028 a ship"}


def queued_export(database, account_id, run_ids, **values):
    """Store a queued export, with other column values if given; return it."""
    current = now()
    export = Export(
        export_id=f"exp_{current.timestamp():.6f}".replace(".", ""), account_id=account_id, export_type="prompt_run",
        target_id="run_x", run_ids=run_ids, params=None,
        **{"queue_status": "queued", "attempts": 0, "available_at": current, "created_at": current,
           "updated_at": current, "lease_fence": 0, "lease_beat": 0, "last_error": "why", **values},
    )  # fmt: skip
    with database.write() as session:
        session.add(export)
    return export
