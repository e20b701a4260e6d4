"""Live events about runs and media."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence

from promptreel.sdk.events import Event, stream_events, stream_events_async, stream_request
from promptreel.sdk.resources.base import AsyncResource, Resource


class Events(Resource):
    """Live events about runs and media."""

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
        """Iterate over events indefinitely. A broken connection is resumed after the last event.

        Args:
            run_id, index_id, video_ids, event_types: filters.
            last_event_id: start after this event ("0" for the first event) instead of now.

        Raises:
            PromptReelError: the stream could not be opened or resumed.
        """
        return stream_events(
            self._sender, stream_request(run_id, index_id, video_ids, event_types, batch_size), last_event_id
        )


class AsyncEvents(AsyncResource):
    """Live events about runs and media."""

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
        """Iterate over events indefinitely; see `Events.stream`.

        Wrap it in `contextlib.aclosing` so that leaving the loop closes the connection immediately.
        """
        return stream_events_async(
            self._sender, stream_request(run_id, index_id, video_ids, event_types, batch_size), last_event_id
        )
