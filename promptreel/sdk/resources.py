"""The resources of both clients; each mirrors the addresses of its kind."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence

from promptreel.schemas.wire.common import DeletionStatus
from promptreel.schemas.wire.diff import RunDiffPage
from promptreel.schemas.wire.prompt_runs import PromptRunBody, SegmentRetry
from promptreel.sdk.calls import api_keys, indexes, playground, prompt_runs, prompts, search, service, sql, videos
from promptreel.sdk.events import Event, stream_events, stream_events_async, stream_request
from promptreel.sdk.methods import AsyncResource, Resource, lists, lists_async, sends, sends_async
from promptreel.sdk.pages import AsyncDiffPage, DiffPage
from promptreel.sdk.request import Call
from promptreel.sdk.sender import AsyncSender, Sender
from promptreel.sdk.waiting import (
    Patience,
    awaited_deletion,
    awaited_retry,
    awaited_run,
    checked_retry,
    checked_run,
    wait_for,
    wait_for_async,
)

RUN_TIMEOUT_S = 3600.0
DELETION_TIMEOUT_S = 600.0


class PromptRuns(Resource):
    """Prompt runs: start, estimate, follow, read, cancel, and retry what failed."""

    execute = sends(prompt_runs.execute)
    estimate = sends(prompt_runs.estimate)
    retrieve = sends(prompt_runs.retrieve)
    list = sends(prompt_runs.list_runs)
    list_results = lists(prompt_runs.list_results)
    get_video_result = sends(prompt_runs.get_video_result)
    get_failed_segments = sends(prompt_runs.get_failed_segments)
    get_llm_calls = sends(prompt_runs.get_llm_calls)
    cancel = sends(prompt_runs.cancel)
    retry_segment = sends(prompt_runs.retry_segment)
    get_segment_retry_status = sends(prompt_runs.get_segment_retry_status)
    retry_failures = sends(prompt_runs.retry_failures)
    get_retry_status = sends(prompt_runs.get_retry_status)

    def diff(
        self, base_run_id: str, other_run_id: str, *, include_same: bool | None = None, limit: int | None = None
    ) -> DiffPage:
        """Pages through the fields that differ between two runs over the same media, in order of item and time. The first
        page holds the `summary`.

        Args:
            base_run_id: the run whose values are `before`; those of the other are `after`.
            include_same: whether what did not change is listed too.
            limit: rows of each page.
        """
        listing = prompt_runs.diff(base_run_id, other_run_id, include_same=include_same, limit=limit)
        return DiffPage(self._sender, listing, self._sender.send(Call(listing.request, RunDiffPage)))

    def wait_for_completion(
        self,
        run_id: str,
        *,
        timeout_s: float = RUN_TIMEOUT_S,
        poll_interval_s: float = 1.0,
        on_progress: Callable[[PromptRunBody], object] | None = None,
        raise_on_failure: bool = True,
    ) -> PromptRunBody:
        """Waits until a run has ended, and gives its last state. Outages of the service are waited out.

        Args:
            timeout_s: seconds after which the wait ends, whatever happens.
            poll_interval_s: seconds between the first two looks; later ones are up to 5 s apart.
            on_progress: is told each state that was seen.
            raise_on_failure: whether a failed run raises; a cancelled one never does.

        Raises:
            RunFailed: the run failed.
            WaitTimedOut: it had not ended at the deadline; it goes on.
        """
        awaited = awaited_run(prompt_runs.retrieve(run_id), run_id)
        run = wait_for(self._sender, awaited, Patience(timeout_s, poll_interval_s), on_progress)
        return checked_run(run, raise_on_failure)

    def wait_for_retry(
        self,
        run_id: str,
        retry_id: str,
        *,
        timeout_s: float = RUN_TIMEOUT_S,
        poll_interval_s: float = 1.0,
        on_progress: Callable[[SegmentRetry], object] | None = None,
        raise_on_failure: bool = True,
    ) -> SegmentRetry:
        """Waits until a retry, of one segment or of many, has ended; see `wait_for_completion`."""
        awaited = awaited_retry(prompt_runs.get_retry_status(run_id, retry_id), run_id, retry_id)
        retry = wait_for(self._sender, awaited, Patience(timeout_s, poll_interval_s), on_progress)
        return checked_retry(retry, raise_on_failure)


class AsyncPromptRuns(AsyncResource):
    """Prompt runs: start, estimate, follow, read, cancel, and retry what failed."""

    execute = sends_async(prompt_runs.execute)
    estimate = sends_async(prompt_runs.estimate)
    retrieve = sends_async(prompt_runs.retrieve)
    list = sends_async(prompt_runs.list_runs)
    list_results = lists_async(prompt_runs.list_results)
    get_video_result = sends_async(prompt_runs.get_video_result)
    get_failed_segments = sends_async(prompt_runs.get_failed_segments)
    get_llm_calls = sends_async(prompt_runs.get_llm_calls)
    cancel = sends_async(prompt_runs.cancel)
    retry_segment = sends_async(prompt_runs.retry_segment)
    get_segment_retry_status = sends_async(prompt_runs.get_segment_retry_status)
    retry_failures = sends_async(prompt_runs.retry_failures)
    get_retry_status = sends_async(prompt_runs.get_retry_status)

    async def diff(
        self, base_run_id: str, other_run_id: str, *, include_same: bool | None = None, limit: int | None = None
    ) -> AsyncDiffPage:
        """See `PromptRuns.diff`."""
        listing = prompt_runs.diff(base_run_id, other_run_id, include_same=include_same, limit=limit)
        return AsyncDiffPage(self._sender, listing, await self._sender.send(Call(listing.request, RunDiffPage)))

    async def wait_for_completion(
        self,
        run_id: str,
        *,
        timeout_s: float = RUN_TIMEOUT_S,
        poll_interval_s: float = 1.0,
        on_progress: Callable[[PromptRunBody], object | Awaitable[object]] | None = None,
        raise_on_failure: bool = True,
    ) -> PromptRunBody:
        """See `PromptRuns.wait_for_completion`; `on_progress` may be a coroutine function."""
        awaited = awaited_run(prompt_runs.retrieve(run_id), run_id)
        run = await wait_for_async(self._sender, awaited, Patience(timeout_s, poll_interval_s), on_progress)
        return checked_run(run, raise_on_failure)

    async def wait_for_retry(
        self,
        run_id: str,
        retry_id: str,
        *,
        timeout_s: float = RUN_TIMEOUT_S,
        poll_interval_s: float = 1.0,
        on_progress: Callable[[SegmentRetry], object | Awaitable[object]] | None = None,
        raise_on_failure: bool = True,
    ) -> SegmentRetry:
        """See `PromptRuns.wait_for_retry`; `on_progress` may be a coroutine function."""
        awaited = awaited_retry(prompt_runs.get_retry_status(run_id, retry_id), run_id, retry_id)
        retry = await wait_for_async(self._sender, awaited, Patience(timeout_s, poll_interval_s), on_progress)
        return checked_retry(retry, raise_on_failure)


class Prompts(Resource):
    """Prompts: create, read, change, delete, and hold an example against a schema."""

    create = sends(prompts.create)
    retrieve = sends(prompts.retrieve)
    list = sends(prompts.list_prompts)
    update = sends(prompts.update)
    delete = sends(prompts.delete)
    usage = sends(prompts.usage)
    test_schema = sends(prompts.test_schema)


class AsyncPrompts(AsyncResource):
    """Prompts: create, read, change, delete, and hold an example against a schema."""

    create = sends_async(prompts.create)
    retrieve = sends_async(prompts.retrieve)
    list = sends_async(prompts.list_prompts)
    update = sends_async(prompts.update)
    delete = sends_async(prompts.delete)
    usage = sends_async(prompts.usage)
    test_schema = sends_async(prompts.test_schema)


class Indexes(Resource):
    """Indexes: create, list, read, delete."""

    create = sends(indexes.create)
    retrieve = sends(indexes.retrieve)
    list = sends(indexes.list_indexes)
    list_videos = lists(indexes.list_videos)
    list_prompt_runs = lists(indexes.list_prompt_runs)
    delete = sends(indexes.delete)
    deletion = sends(indexes.deletion)

    def wait_for_deletion(
        self, index_id: str, *, timeout_s: float = DELETION_TIMEOUT_S, poll_interval_s: float = 1.0
    ) -> DeletionStatus:
        """Waits until an index that is being deleted is gone.

        Raises:
            NotFoundError: nobody asked for its deletion.
            WaitTimedOut: it was not gone at the deadline; the deletion goes on.
        """
        awaited = awaited_deletion(indexes.deletion(index_id), index_id)
        return wait_for(self._sender, awaited, Patience(timeout_s, poll_interval_s))


class AsyncIndexes(AsyncResource):
    """Indexes: create, list, read, delete."""

    create = sends_async(indexes.create)
    retrieve = sends_async(indexes.retrieve)
    list = sends_async(indexes.list_indexes)
    list_videos = lists_async(indexes.list_videos)
    list_prompt_runs = lists_async(indexes.list_prompt_runs)
    delete = sends_async(indexes.delete)
    deletion = sends_async(indexes.deletion)

    async def wait_for_deletion(
        self, index_id: str, *, timeout_s: float = DELETION_TIMEOUT_S, poll_interval_s: float = 1.0
    ) -> DeletionStatus:
        """See `Indexes.wait_for_deletion`."""
        awaited = awaited_deletion(indexes.deletion(index_id), index_id)
        return await wait_for_async(self._sender, awaited, Patience(timeout_s, poll_interval_s))


class Videos(Resource):
    """Media items: upload, register, read, delete, and their segments."""

    upload = sends(videos.upload)
    register = sends(videos.register)
    retrieve = sends(videos.retrieve)
    delete = sends(videos.delete)
    deletion = sends(videos.deletion)
    list_segments = lists(videos.list_segments)
    list_prompt_runs = sends(videos.list_prompt_runs)
    batch = sends(videos.batch)
    batch_status = sends(videos.batch_status)
    batch_segments = sends(videos.batch_segments)
    signed_url = sends(videos.signed_url)

    def wait_for_deletion(
        self, video_id: str, *, timeout_s: float = DELETION_TIMEOUT_S, poll_interval_s: float = 1.0
    ) -> DeletionStatus:
        """Waits until a media item that is being deleted is gone; see `Indexes.wait_for_deletion`."""
        awaited = awaited_deletion(videos.deletion(video_id), video_id)
        return wait_for(self._sender, awaited, Patience(timeout_s, poll_interval_s))


class AsyncVideos(AsyncResource):
    """Media items: upload, register, read, delete, and their segments."""

    upload = sends_async(videos.upload)
    register = sends_async(videos.register)
    retrieve = sends_async(videos.retrieve)
    delete = sends_async(videos.delete)
    deletion = sends_async(videos.deletion)
    list_segments = lists_async(videos.list_segments)
    list_prompt_runs = sends_async(videos.list_prompt_runs)
    batch = sends_async(videos.batch)
    batch_status = sends_async(videos.batch_status)
    batch_segments = sends_async(videos.batch_segments)
    signed_url = sends_async(videos.signed_url)

    async def wait_for_deletion(
        self, video_id: str, *, timeout_s: float = DELETION_TIMEOUT_S, poll_interval_s: float = 1.0
    ) -> DeletionStatus:
        """See `Indexes.wait_for_deletion`."""
        awaited = awaited_deletion(videos.deletion(video_id), video_id)
        return await wait_for_async(self._sender, awaited, Patience(timeout_s, poll_interval_s))


class Playground(Resource):
    """The playground: media that lies in no index."""

    list_videos = lists(playground.list_videos)
    search = sends(playground.search)


class AsyncPlayground(AsyncResource):
    """The playground: media that lies in no index."""

    list_videos = lists_async(playground.list_videos)
    search = sends_async(playground.search)


class ApiKeys(Resource):
    """API keys: create, list, revoke, rotate. Each needs a key of the scope admin."""

    create = sends(api_keys.create)
    retrieve = sends(api_keys.retrieve)
    list = sends(api_keys.list_keys)
    delete = sends(api_keys.delete)
    revoke = sends(api_keys.revoke)
    rotate = sends(api_keys.rotate)


class AsyncApiKeys(AsyncResource):
    """API keys: create, list, revoke, rotate. Each needs a key of the scope admin."""

    create = sends_async(api_keys.create)
    retrieve = sends_async(api_keys.retrieve)
    list = sends_async(api_keys.list_keys)
    delete = sends_async(api_keys.delete)
    revoke = sends_async(api_keys.revoke)
    rotate = sends_async(api_keys.rotate)


class Sql(Resource):
    """SQL over the tables of runs: DuckDB's dialect, one SELECT."""

    catalog = sends(sql.catalog)
    execute = sends(sql.execute)
    generate = sends(sql.generate)


class AsyncSql(AsyncResource):
    """SQL over the tables of runs: DuckDB's dialect, one SELECT."""

    catalog = sends_async(sql.catalog)
    execute = sends_async(sql.execute)
    generate = sends_async(sql.generate)


class Search(Resource):
    """Search over results: by meaning, by image, by both, by conditions, and by SQL (`search.sql`)."""

    text = sends(search.text)
    image = sends(search.image)
    multimodal = sends(search.multimodal)
    multi_run = sends(search.multi_run)
    filter = lists(search.filter_results)

    def __init__(self, sender: Sender) -> None:
        super().__init__(sender)
        self.sql = Sql(sender)


class AsyncSearch(AsyncResource):
    """Search over results: by meaning, by image, by both, by conditions, and by SQL (`search.sql`)."""

    text = sends_async(search.text)
    image = sends_async(search.image)
    multimodal = sends_async(search.multimodal)
    multi_run = sends_async(search.multi_run)
    filter = lists_async(search.filter_results)

    def __init__(self, sender: AsyncSender) -> None:
        super().__init__(sender)
        self.sql = AsyncSql(sender)


class RateLimits(Resource):
    """What was used of the rate limits."""

    status = sends(service.rate_limit_status)


class AsyncRateLimits(AsyncResource):
    """What was used of the rate limits."""

    status = sends_async(service.rate_limit_status)


class Auth(Resource):
    """Whether the key is valid."""

    validate = sends(service.validate)


class AsyncAuth(AsyncResource):
    """Whether the key is valid."""

    validate = sends_async(service.validate)


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
