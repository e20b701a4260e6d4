"""Helpers of event tests: a client of the stream, and a function that records events."""

import json

from promptreel.api.db.events import record_event

STREAM = "/processing/events/stream"


class Follower:
    """A client of the stream that reads it block by block."""

    def __init__(self, caller, last=None, **filters):
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        self._opened = caller.http.stream("GET", STREAM, params=filters, headers=headers, timeout=30)
        self._response = self._opened.__enter__()
        assert self._response.status_code == 200
        assert self._response.headers["Content-Type"].startswith("text/event-stream")
        self._lines = self._response.iter_lines()
        start, connected = self.block()
        assert connected == ": connected"
        assert start.startswith("id: ")
        self.start_id = start.removeprefix("id: ")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._opened.__exit__(None, None, None)

    def comment(self):
        """Return the next block, which must be a comment."""
        line = self.block()[0]
        assert line.startswith(": "), line
        return line[2:]

    def take(self, count):
        """Return the next events and check their fields; skip comments."""
        events = []
        while len(events) < count:
            block = self.block()
            if block[0].startswith(":"):
                continue
            fields = dict(line.split(": ", 1) for line in block)
            event = json.loads(fields["data"])
            assert (fields["id"], fields["event"]) == (event["event_id"], event["event_type"])
            events.append(event)
        return events

    def block(self):
        """Return the lines up to the next empty one."""
        lines = []
        for line in self._lines:
            if line:
                lines.append(line)
            elif lines:
                return lines
        raise AssertionError(f"the stream ended after {lines}")


def record_events(server, caller, *events):
    """Record events in one transaction; each is a type, or (type, fields)."""
    with server.app.state.database.write() as session:
        for event in events:
            kind, fields = event if isinstance(event, tuple) else (event, {})
            record_event(session, caller.account_id, kind, **fields)
