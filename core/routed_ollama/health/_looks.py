"""Looks at hosts, each by a thread of its own that nobody need wait for.

The threads are daemons, unlike those of an executor: neither Ctrl-C nor the end of the process waits for a server that
says nothing. A look ends by its own bounds, and what it finds is taken in whether or not anybody still waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Container, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from typing import Any, Final, ParamSpec

from routed_ollama import _fork

GRACE_SECONDS: Final = 1.0
"""Seconds that a request waits for further hosts once one has answered that can serve it; longer where that one took
longer. A host that is there says what it has within tenths of a second, more only on a machine that is overloaded, and
one that is late joins when it answers."""

_LOG = logging.getLogger("routed_ollama")
_P = ParamSpec("_P")


class Looks:
    """The looks at hosts that are under way.

    Args:
        look: asks a host, given its URL, and takes in what it says; called in threads, by several at once.

    Example:
        >>> seen = []
        >>> looks = Looks(seen.append)
        >>> looks.begin(["http://one"])["http://one"].result(), seen, looks.under_way(["http://one"])
        (None, ['http://one'], set())
    """

    def __init__(self, look: Callable[[str], object]) -> None:
        self._look = look
        self._begin_anew()
        _fork.register(self)

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[str, list[Future[None]]] = {}

    def begin(self, urls: Iterable[str]) -> dict[str, Future[None]]:
        """Look at hosts, all at once, and return what to wait for, by URL.

        Raises:
            RuntimeError: a thread cannot be started, as when the interpreter is ending.
        """
        begun = {url: in_thread(self._look, url) for url in urls}
        with self._lock:
            for url, look in begun.items():
                self._begun[url] = [look, *(earlier for earlier in self._begun.get(url, ()) if not earlier.done())]
        return begun

    def under_way(self, urls: Iterable[str]) -> set[Future[None]]:
        """Return the looks at hosts that have not ended yet."""
        return {look for url in urls for look in self._begun.get(url, ()) if not look.done()}

    def before_fork(self, timeout: float) -> None:
        """Nothing to bring to rest: the looks go on in the parent."""

    def after_fork_in_parent(self) -> None:
        """Nothing was stopped."""

    def after_fork_in_child(self) -> None:
        """Begin anew: the threads are the parent's."""
        self._begin_anew()


def in_thread(do: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs) -> Future[None]:
    """Have something done by a thread that ends with the process, and return what to wait for.

    Raises:
        RuntimeError: a thread cannot be started, as when the interpreter is ending.
    """
    done: Future[None] = Future()
    done.set_running_or_notify_cancel()  # so that nobody who stops waiting can cancel it
    work = partial(do, *args, **kwargs)
    threading.Thread(target=_run, args=(work, done), name="routed-ollama-look", daemon=True).start()
    return done


def _run(work: Callable[[], Any], done: Future[None]) -> None:
    try:
        work()
    except BaseException as error:  # noqa: BLE001 (it is raised where the end is waited for)
        done.set_exception(error)
    else:
        done.set_result(None)
    finally:
        del done  # or an error's traceback would hold itself


def wait_for_enough(
    looks: Mapping[str, Future[None]], enough: Callable[[], bool], given_up: Container[str] = frozenset()
) -> list[str]:
    """Wait until there is enough to go on with, and a little longer for the others; those go on without anybody.

    Args:
        looks: what to wait for, by URL.
        enough: whether what is known will do; asked after each look.
        given_up: URLs that are waited for only where there are no others.

    Returns:
        The URLs of those that are still under way.

    Raises:
        Exception: what taking in an answer raised.
    """
    began = time.monotonic()
    hoped = {look for url, look in looks.items() if url not in given_up} or set(looks.values())
    pending = hoped
    while pending and not enough():
        pending = wait(pending, return_when=FIRST_COMPLETED).not_done
    wait(pending, timeout=max(GRACE_SECONDS, time.monotonic() - began))
    late = [url for url, look in looks.items() if not look.done()]
    for url, look in looks.items():
        if url in late:
            look.add_done_callback(partial(_tell_late, url))
        else:
            look.result()
    return late


def _tell_late(url: str, look: Future[None]) -> None:
    error = look.exception()
    if error is not None and not isinstance(error, RuntimeError):  # no thread can be started: the interpreter is ending
        _LOG.warning("what %s has could not be taken in", url, exc_info=error)
