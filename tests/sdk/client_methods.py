"""Drive an async client like a sync one, and list the methods of a client."""

import inspect

from promptreel import sdk
from promptreel.sdk import resources


class SyncAdapter:
    """Wrap an async client, page or resource so that calls run to completion like those of the sync client."""

    def __init__(self, wrapped, runner):
        self._wrapped, self._runner = wrapped, runner

    def __getattr__(self, name):
        value = getattr(self._wrapped, name)
        if callable(value):
            return lambda *args, **kwargs: self._complete(value(*args, **kwargs))
        return SyncAdapter(value, self._runner) if isinstance(value, resources.AsyncResource) else value

    def __iter__(self):
        return self._items(aiter(self._wrapped))

    def __repr__(self):
        return repr(self._wrapped)

    def _complete(self, value):
        if inspect.isasyncgen(value):
            return self._items(value)
        if inspect.iscoroutine(value):
            value = self._runner.run(value)
        return SyncAdapter(value, self._runner) if isinstance(value, sdk.AsyncPage) else value

    def _items(self, generator):
        async def next_item():
            return await anext(generator)

        try:
            while True:
                try:
                    item = self._runner.run(next_item())
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self._runner.run(generator.aclose())


def public_methods(client):
    """Return the parameters of every method of every resource, by dotted name."""
    parameters = {}
    for name, resource in vars(client).items():
        if isinstance(resource, resources.Resource | resources.AsyncResource) and not name.startswith("_"):
            parameters |= {f"{name}.{path}": signature for path, signature in public_methods(resource).items()}
    for name, method in inspect.getmembers(client, inspect.ismethod):
        if not name.startswith("_"):
            parameters[name] = [(p.name, p.kind, p.default) for p in inspect.signature(method).parameters.values()]
    return parameters
