"""The thread that writes, so that requests do not: changes are queued in microseconds and written in batches.

The queue is bounded: when nothing can be written for long, the oldest changes are given up. The thread starts with the
first change, ends when there has been none for a while, and starts again.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence

from routed_ollama import _fork
from routed_ollama.store._base import Change

_LINGER = 0.2
"""Seconds from a first change to its writing: so many changes share one transaction, and requests are not disturbed."""

_IDLE = 10.0
"""Seconds without a change after which the thread ends."""

_CAPACITY = 10_000
"""Changes that may wait; at about 1 KB each, 10 MB."""

EXIT_SECONDS = 2.0
"""Seconds a process that ends, or a store that is collected, may wait for its last outcomes to be written."""

_LOG = logging.getLogger("routed_ollama")


class Writer:
    """Queues changes and has them written by a thread of its own.

    What is queued when the process is killed is lost: what was put in the last ``linger`` seconds, and while a batch
    was being written. A process that ends by itself loses nothing.

    Args:
        write: writes a batch; called by one thread at a time.
        linger: seconds in which further changes join a batch.
        idle: seconds without a change after which the thread ends.
        capacity: changes that may wait.
        ended: is told, whenever the writer is closed, which changes came too late to be written.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Change]], None],
        *,
        linger: float = _LINGER,
        idle: float = _IDLE,
        capacity: int = _CAPACITY,
        ended: Callable[[Sequence[Change]], None] = lambda unwritten: None,  # noqa: ARG005 (nobody wants to know)
    ) -> None:
        self._write = write
        self._linger = linger
        self._idle = idle
        self._capacity = capacity
        self._ended = ended
        self._held = False
        self._reset()
        _fork.register(self)

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[Change] = deque()
        self._batch: Sequence[Change] = ()
        self._added = 0
        self._settled = 0  # written or given up
        self._hurried = 0  # how many wait in flush
        self._closing = False
        self._thread: threading.Thread | None = None
        self._ends_well = False  # whether it is seen to that a worker process writes the rest when it ends

    def put(self, change: Change) -> None:
        """Queue a change. Never waits for I/O, never raises."""
        with self._changed:
            if len(self._queue) >= self._capacity:
                self._queue.popleft()
                self._settled += 1
            self._queue.append(change)
            self._added += 1
            self._closing = False
            if self._thread is None:
                self._start()
            elif len(self._queue) == 1:
                self._changed.notify_all()

    def flush(self, timeout: float | None) -> bool:
        """Wait until what was put so far is settled; whether it is."""
        with self._changed:
            target = self._added
            if self._settled >= target:
                return True
            if self._thread is threading.current_thread():
                return False  # a finalizer that happens to run here must not wait for itself
            if self._thread is None:
                self._start()
            if self._thread is None:
                return False
            self._hurried += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: self._settled >= target, timeout)
            finally:
                self._hurried -= 1

    def close(self, timeout: float | None) -> None:
        """Flush and end the thread, waiting for ``timeout`` seconds at most."""
        begun = time.monotonic()
        self.flush(timeout)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
            rest = self._take() if thread is None else []
        if rest:  # an interpreter that is going down starts no thread any more
            self._write_batch(rest)
        if thread is threading.current_thread():
            return  # a finalizer that happens to run here: the thread goes on, and writes the rest
        if thread is not None:
            thread.join(None if timeout is None else max(timeout - (time.monotonic() - begun), 0.0))
        with self._changed:
            unwritten = [*self._batch, *self._queue]
        self._ended(unwritten)

    def _start(self) -> None:
        if not self._ends_well:
            self._ends_well = True
            _fork.at_worker_end(weakref.WeakMethod(self.close), EXIT_SECONDS)
        thread = threading.Thread(target=self._run, name="routed-ollama-store", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is going down, or there are too many; the next change tries again
            _LOG.debug("the history's writer could not be started", exc_info=True)
        else:
            self._thread = thread

    def _run(self) -> None:
        while batch := self._next_batch():
            self._write_batch(batch)

    def _write_batch(self, batch: Sequence[Change]) -> None:
        try:
            self._write(batch)
        except Exception:  # noqa: BLE001 (nobody is there to catch it, and history must not stop for it)
            _LOG.exception("a part of the history could not be written")
        with self._changed:
            self._settled += len(batch)
            self._batch = ()
            self._changed.notify_all()

    def _next_batch(self) -> list[Change]:
        """Wait for changes and gather them; none when the thread is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing, self._idle)
            if not self._queue:
                self._thread = None
                return []
            self._changed.wait_for(lambda: self._hurried or self._closing, self._linger)
            return self._take()

    def _take(self) -> list[Change]:
        batch = self._batch = list(self._queue)
        self._queue.clear()
        return batch

    def before_fork(self, timeout: float) -> None:
        """Let nobody be in the middle of a change."""
        self._held = self._changed.acquire(timeout=timeout)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._held:
            self._changed.release()

    def after_fork_in_child(self) -> None:
        """Forget what is queued, for the parent writes it, and the thread, which exists there alone."""
        self._reset()
