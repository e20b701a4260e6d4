"""The state of the model's service as a run sees it: what progress shows while calls wait or after they halted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, tzinfo
from typing import Any, Final, Literal

ServiceStatus = Literal["overloaded", "unreachable", "rate limited", "halted"]

# A rate limit that rejects single calls is normal at full use of the quota; it is shown once it lasts this long.
SHOWN_AFTER_S: Final = 3.0
_SHOWN_CHARS: Final = 200
# What differs between two rejections of the same kind: ids of requests and of uploaded files. Numbers are part of the
# reason ("the input token count (1200345) exceeds"), so they are compared.
_IDS: Final = re.compile(
    r"\bfiles/[\w-]+|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b(?=\w*\d)(?=\w*[a-z])\w{16,}\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class ServiceState:
    """Why no call succeeds.

    Attributes:
        since: time of the first failure, as seconds since the epoch.
        message: the service's own words.
        next_probe_at: time of the next call, as seconds since the epoch; None while one is in progress or for a rate limit.
        code: the failure code of a halt; None otherwise.
    """

    status: ServiceStatus
    since: float
    message: str
    next_probe_at: float | None = None
    code: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `service_state_of` decodes them."""
        return asdict(self)

    def is_shown(self, now: float) -> bool:
        """Return whether the state has lasted long enough to tell a user."""
        return self.status != "rate limited" or now - self.since >= SHOWN_AFTER_S

    def describe(self, now: float, zone: tzinfo | None = None) -> str:
        """Render the state as one phrase.

        Args:
            zone: time zone of the times; None for the local one.
        """
        message = " ".join(self.message.split())
        message = message if len(message) <= _SHOWN_CHARS else f"{message[:_SHOWN_CHARS]}…"
        if self.status == "halted":
            return f"calls halted: {message}"
        since = f"{datetime.fromtimestamp(self.since, zone).astimezone(zone):%H:%M}"
        since = f"{since} UTC" if zone is not None else since
        if self.status == "rate limited":
            return f"rate limited since {since}: {message}"
        wait = None if self.next_probe_at is None else max(0, round(self.next_probe_at - now))
        probe = "trying now" if wait is None else f"next probe in {wait} s"
        return f"service {self.status} since {since}, {probe}: {message}"


def service_state_of(values: Mapping[str, Any]) -> ServiceState | None:
    """Decode a state; None if the values are not one (another version wrote them)."""
    try:
        return ServiceState(**values)
    except TypeError:
        return None


def error_identity(message: str) -> str:
    """Return what two messages of the same error share, whatever request they answer."""
    return " ".join(_IDS.sub("…", message).casefold().split())
