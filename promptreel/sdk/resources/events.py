"""What happens to runs and media, as it happens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence

from promptreel.sdk.events import Event, stream_events, stream_events_async, stream_request
from promptreel.sdk.resources.base import AsyncResource, Resource


class Events(Resource):
    """What happens to runs and media, as it happens."""

    def stream(
        self,
        *,
        run_id: str | None = None,
        index_id: str | None = None,
        video_ids: Sequence[str] | None = None,
        event_types: Sequence[str] | None = None,
        batch_size: int | None = None,
        last_event_id: str | None = None,
    ) -> Generator[Event, None, None]:
        """Goes through events without end; where the connection breaks, it is resumed behind the last one.

        Args:
            run_id, index_id, video_ids, event_types: only events of these.
            last_event_id: begins behind this event ("0" at the first one) instead of now.

        Raises:
            PromptReelError: the stream could not be opened, or resumed.
        """
        return stream_events(
            self._sender, stream_request(run_id, index_id, video_ids, event_types, batch_size), last_event_id
        )


class AsyncEvents(AsyncResource):
    """What happens to runs and media, as it happens."""

    def stream(
        self,
        *,
        run_id: str | None = None,
        index_id: str | None = None,
        video_ids: Sequence[str] | None = None,
        event_types: Sequence[str] | None = None,
        batch_size: int | None = None,
        last_event_id: str | None = None,
    ) -> AsyncGenerator[Event, None]:
        """See `Events.stream`; leave it through `contextlib.aclosing`, so that its connection is closed at once."""
        return stream_events_async(
            self._sender, stream_request(run_id, index_id, video_ids, event_types, batch_size), last_event_id
        )
