"""How one definition of a call serves both clients.

A method of a :class:`Group` is a generator (see :mod:`cador.client.wire`). Looked up on a group of the synchronous
client it is a function that returns the result, on one of the asynchronous client a coroutine function; type checkers
see the same.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from cador.client.wire import Event, Source, Steps

P = ParamSpec("P")
T = TypeVar("T")


class Sync:
    """Marks groups of the synchronous client."""


class Async:
    """Marks groups of the asynchronous client."""


Mode = TypeVar("Mode", Sync, Async)


class Runner(Protocol):
    """A client, as its groups see it."""

    def run(self, steps: Steps[Any]) -> Any: ...

    def follow(self, source: Source) -> Any: ...


class Group(Generic[Mode]):
    """Calls of one kind."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner


class Call(Generic[P, T]):
    """A call. See the module."""

    def __init__(self, function: Callable[Concatenate[Any, P], Steps[T]]) -> None:
        self._function = function
        update_wrapper(self, function)  # type: ignore[arg-type]  # carries name and docstring

    if TYPE_CHECKING:

        @overload
        def __get__(self, group: Group[Sync], owner: type) -> Callable[P, T]: ...
        @overload
        def __get__(self, group: Group[Async], owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
        @overload
        def __get__(self, group: None, owner: type) -> "Call[P, T]": ...

    def __get__(self, group: Any, owner: type) -> Any:
        if group is None:
            return self

        def bound(*args: P.args, **kwargs: P.kwargs) -> Any:
            return group._runner.run(self._function(group, *args, **kwargs))

        return update_wrapper(bound, self._function)


class Stream(Generic[P]):
    """A call that brings events one after the other, and goes on after an interruption."""

    def __init__(self, function: Callable[Concatenate[Any, P], Source]) -> None:
        self._function = function
        update_wrapper(self, function)  # type: ignore[arg-type]  # carries name and docstring

    if TYPE_CHECKING:

        @overload
        def __get__(self, group: Group[Sync], owner: type) -> Callable[P, Iterator[Event]]: ...
        @overload
        def __get__(self, group: Group[Async], owner: type) -> Callable[P, AsyncIterator[Event]]: ...
        @overload
        def __get__(self, group: None, owner: type) -> "Stream[P]": ...

    def __get__(self, group: Any, owner: type) -> Any:
        if group is None:
            return self

        def bound(*args: P.args, **kwargs: P.kwargs) -> Any:
            return group._runner.follow(self._function(group, *args, **kwargs))

        return update_wrapper(bound, self._function)
