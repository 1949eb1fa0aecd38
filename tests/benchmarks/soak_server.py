"""A server of the soak: a process with some models, where faults strike and the whole goes away now and then.

It prints its URL, and for each line that it reads how often each fault has struck, as JSON; it ends with its input.
"""

# ruff: noqa: T201, S311 (what is told is printed; what goes wrong is no secret)

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections import Counter
from typing import Any

from soak_asking import scripted

from routed_ollama.testing import Fault, OllamaServer
from routed_ollama.testing.faults import ActiveFault

KINDS: dict[Fault, dict[str, Any]] = {
    Fault.DRIP: {"seconds": 1.0},
    Fault.LONG_LINE: {"size": 17 * 2**20},
    Fault.PROMPT_CUT: {"size": 2},
}
"""What some faults need to be told; ``REFUSE`` is for the whole server."""
RARE = frozenset({Fault.DRIP, Fault.LONG_LINE, Fault.REPEAT, Fault.OUT_OF_MEMORY})
"""Faults that keep a processor or a thread busy for long."""
LATE = frozenset({Fault.SLOW_LOAD, Fault.LOAD_ERROR, Fault.OUT_OF_MEMORY, Fault.NO_TOOLS, Fault.NO_THINKING})
"""Faults that strike only when a model is loaded, or asked for what it is said to lack; others come meanwhile."""
TIMES = 2
"""How often a fault strikes before the next."""
PATIENCE = 10
"""Requests after which one that found nobody (no tool was offered, nothing is loaded) makes way for another."""


class Trouble:
    """Lets faults strike, so that they make up a share of the requests to each model that is unwell.

    Args:
        server: where.
        models: whom.
        share: faults by requests.
        seed: of the choices.
    """

    def __init__(self, server: OllamaServer, models: list[str], share: float, seed: int) -> None:
        self._server = server
        self._share = share
        self._random = random.Random(f"{seed} {models}")
        self._kinds = [kind for kind in Fault if kind is not Fault.REFUSE for _ in range(1 if kind in RARE else 4)]
        self._until_next = {model: self._pause() for model in models}
        self._set: dict[str, ActiveFault] = {}
        self._late: dict[tuple[str, Fault], ActiveFault] = {}
        self._struck: Counter[str] = Counter()

    def _pause(self) -> int:
        """Return how many requests of a model go well before the next fault."""
        pause = 0
        while self._random.random() > self._share:
            pause += 1
        return pause

    def struck(self) -> Counter[str]:
        """Return how often each fault has struck so far."""
        return Counter(self._struck)

    def note(self, kind: Fault) -> None:
        """Note what struck the whole server."""
        self._struck[kind.value] += 1

    def go_on(self) -> None:
        """Look at which requests have come, and set the faults that are due."""
        come = Counter(request.model for request in self._server.requests if request.path == "/api/chat")
        self._server.forget_requests()
        for key, active in [item for item in self._late.items() if item[1].hits]:
            self._struck[active.fault.value] += active.hits
            del self._late[key]
        for model in self._until_next:
            active = self._set.get(model)
            if active is not None and (active.hits == TIMES or self._until_next[model] < -PATIENCE):
                active.clear()
                self._struck[active.fault.value] += active.hits
                self._until_next[model] = self._pause()
                del self._set[model]
            self._until_next[model] -= come[model]
            if self._until_next[model] <= 0 and model not in self._set:
                self._add(model)

    def _add(self, model: str) -> None:
        kind = self._random.choice(self._kinds)
        if (model, kind) in self._late:
            return
        chunks = self._random.randrange(1, 8)
        active = self._server.fail(model, kind, times=TIMES, after_chunks=chunks, **KINDS.get(kind, {}))
        if kind in LATE:
            self._late[model, kind] = active
        else:
            self._set[model] = active


def _away(server: OllamaServer, trouble: Trouble, chooses: random.Random) -> None:
    """The whole server is restarted, or refuses connections for a while."""
    trouble.note(Fault.REFUSE)
    if chooses.random() < 0.5:
        server.stop()
        time.sleep(0.3)
        server.start()
    else:
        with server.fail(None, Fault.REFUSE):
            time.sleep(0.3)


def main() -> None:
    """Serve until the standard input ends."""
    settings = json.loads(sys.argv[1])
    models = [scripted(name) for name in settings["models"]]
    unwell = [name for name in settings["models"] if name not in settings["well"]]
    chooses, ended = random.Random(settings["seed"]), threading.Event()
    with OllamaServer(models, num_parallel=8, max_loaded_models=settings["room"]) as server:
        trouble = Trouble(server, unwell, settings["share"], settings["seed"])

        def make_trouble() -> None:
            away_at = time.monotonic() + 2.0
            while not ended.wait(0.002):
                trouble.go_on()
                if chooses.random() < 0.02:  # somebody wants it out of the way
                    server.unload(chooses.choice(unwell))
                if settings["restarts"] and time.monotonic() > away_at:
                    _away(server, trouble, chooses)
                    away_at = time.monotonic() + chooses.uniform(2.0, 6.0)

        thread = threading.Thread(target=make_trouble)
        thread.start()
        print(server.url, flush=True)
        for _ in sys.stdin:
            print(json.dumps(trouble.struck()), flush=True)
        ended.set()
        thread.join()


if __name__ == "__main__":
    main()
