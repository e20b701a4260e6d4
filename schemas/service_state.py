"""The state of the model's service as a run sees it: what progress shows while calls wait or after they halted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

ServiceStatus = Literal["halted", "unreachable", "overloaded", "rate limited"]

# A rate limit that rejects single calls is normal at full use of the quota; it is shown once it lasts this long.
SHOWN_AFTER_S: Final = 3.0
_STATUSES: Final = get_args(ServiceStatus)
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

    @property
    def gravity(self) -> int:
        """0 for the gravest status."""
        return _STATUSES.index(self.status)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `service_state_of` decodes them."""
        return asdict(self)

    def is_shown(self, now: float) -> bool:
        """Return whether the state has lasted long enough to tell a user."""
        return self.status != "rate limited" or now - self.since >= SHOWN_AFTER_S

    def describe(self, now: float | None = None) -> str:
        """Render the state as one phrase.

        Args:
            now: seconds since the epoch: the phrase has local times, and the next probe relative to now. None: all times
                are in UTC, so that the phrase changes only with the state.
        """
        message = " ".join(self.message.split())
        message = message if len(message) <= _SHOWN_CHARS else f"{message[:_SHOWN_CHARS]}…"
        if self.status == "halted":
            return f"calls halted: {message}"
        since = _clock_time(self.since, is_local=now is not None)
        if self.status == "rate limited":
            return f"rate limited since {since}: {message}"
        if self.next_probe_at is None:
            probe = "trying now"
        elif now is None:
            probe = f"next probe at {_clock_time(self.next_probe_at, is_local=False, with_seconds=True)}"
        else:
            probe = f"next probe in {max(0, round(self.next_probe_at - now))} s"
        return f"service {self.status} since {since}, {probe}: {message}"


def _clock_time(moment: float, *, is_local: bool, with_seconds: bool = False) -> str:
    time = datetime.fromtimestamp(moment, None if is_local else UTC)
    return f"{time:%H:%M:%S}"[: 8 if with_seconds else 5] + ("" if is_local else " UTC")


def service_state_of(values: Mapping[str, Any]) -> ServiceState | None:
    """Decode a state; None if the values are not one (another version wrote them)."""
    try:
        state = ServiceState(**values)
    except TypeError:
        return None
    return state if state.status in _STATUSES else None


def error_identity(message: str) -> str:
    """Return what two messages of the same error share, whatever request they answer."""
    return " ".join(_IDS.sub("…", message).casefold().split())
