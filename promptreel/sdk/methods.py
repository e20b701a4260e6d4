"""Methods made of the functions that build their requests, so that each is described once for both clients.

`retrieve = sends(calls.retrieve)` has the arguments, types and words of `calls.retrieve`; it sends what that builds.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from promptreel.sdk.pages import AsyncPage, Page
from promptreel.sdk.request import Call, Listing
from promptreel.sdk.sender import AsyncSender, Sender

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")
Item = TypeVar("Item")
Method = TypeVar("Method", bound=Callable[..., Any])


class Resource:
    """What a kind of resource is asked through."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender


class AsyncResource:
    """What a kind of resource is asked through, from an event loop."""

    def __init__(self, sender: AsyncSender) -> None:
        self._sender = sender


def sends(build: Callable[Arguments, Call[Answer]]) -> Callable[Concatenate[Any, Arguments], Answer]:
    """A method that sends a call and returns its answer."""

    def method(self: Any, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        answer: Answer = self._sender.send(build(*args, **kwargs))
        return answer

    return _described(method, build)


def lists(build: Callable[Arguments, Listing[Item]]) -> Callable[Concatenate[Any, Arguments], Page[Item]]:
    """A method that returns the first page of a list."""

    def method(self: Any, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Page[Item]:
        listing = build(*args, **kwargs)
        return Page(self._sender, listing, self._sender.send(listing.page()))

    return _described(method, build)


def sends_async(
    build: Callable[Arguments, Call[Answer]],
) -> Callable[Concatenate[Any, Arguments], Coroutine[Any, Any, Answer]]:
    """A coroutine method that sends a call and returns its answer."""

    async def method(self: Any, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        answer: Answer = await self._sender.send(build(*args, **kwargs))
        return answer

    return _described(method, build)


def lists_async(
    build: Callable[Arguments, Listing[Item]],
) -> Callable[Concatenate[Any, Arguments], Coroutine[Any, Any, AsyncPage[Item]]]:
    """A coroutine method that returns the first page of a list."""

    async def method(self: Any, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> AsyncPage[Item]:
        listing = build(*args, **kwargs)
        return AsyncPage(self._sender, listing, await self._sender.send(listing.page()))

    return _described(method, build)


def _described(method: Method, build: Callable[..., Any]) -> Method:
    """The method with the words and the signature of what builds its request."""
    functools.update_wrapper(method, build, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    described = vars(method)
    del described["__wrapped__"]  # it takes no self
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = inspect.signature(build)
    described["__signature__"] = signature.replace(
        parameters=[own, *signature.parameters.values()], return_annotation=inspect.Signature.empty
    )
    return method
