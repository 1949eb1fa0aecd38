"""One context length per model, never varied per request: any change makes Ollama load the model anew.

Nothing is asked for as long as prompts fit what the server allocates by itself. When one does not, the context grows
once, to the next power of two, and stays so. What another process had it loaded with is asked for as well, while it is.
What the server was seen to allocate by itself is asked for by that number where a prompt needs it and the model is not
in memory: the server may allocate less by now, and then it would cut the prompt.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from routed_ollama.types import Candidate, ModelInfo, TaskCharacteristics

SERVER_DEFAULT: Final = 4096
"""What Ollama allocates below 24 GiB of video memory, in tokens (ollama v0.24, envconfig and sched)."""
_ROOM_FOR_ANSWER: Final = 1024
_ESTIMATE_MARGIN: Final = 1.1


class ContextSizes:
    """Remembers the context each model was grown to.

    Args:
        on_grown: told when one grows, so that it can be kept.

    Example:
        >>> sizes = ContextSizes()
        >>> info = ModelInfo("llama3.1:8b", context_length=131072)
        >>> sizes.for_request(info, TaskCharacteristics(prompt_tokens=500), allocated=0) is None
        True
        >>> sizes.for_request(info, TaskCharacteristics(prompt_tokens=9000), allocated=0)
        16384
        >>> sizes.for_request(info, TaskCharacteristics(prompt_tokens=500), allocated=16384)
        16384
    """

    def __init__(self, on_grown: Callable[[], None] | None = None) -> None:
        self._grown: dict[Candidate, int] = {}
        self._held: dict[Candidate, int | None] = {}
        self._defaults: dict[Candidate, int] = {}
        self._on_grown = on_grown
        self._lock = threading.Lock()

    def for_request(self, info: ModelInfo, task: TaskCharacteristics, *, allocated: int, least: int = 0) -> int | None:
        """Return the ``num_ctx`` to send, in tokens; None to leave it to the server.

        Args:
            info: the model.
            task: the request.
            allocated: what the model was loaded with, in tokens; 0 when it is not in memory.
            least: a context that is to be had in any case where the model can, in tokens.
        """
        grown = self._grown.get(info.candidate)
        need = max(least, int(task.prompt_tokens * _ESTIMATE_MARGIN) + min(task.output_tokens, _ROOM_FOR_ANSWER))
        if need <= (grown or allocated or SERVER_DEFAULT):
            # More than a server gives by itself: somebody asked for it, and to ask for none would undo that.
            return grown or (allocated if least or allocated > SERVER_DEFAULT else None)
        if not grown and not allocated and need <= (default := self._defaults.get(info.candidate, 0)):
            return default
        size = 1 << (need - 1).bit_length()
        if info.context_length:
            size = min(size, info.context_length)
        if size <= (grown or allocated or SERVER_DEFAULT):
            return grown
        with self._lock:
            self._grown[info.candidate] = size
        if self._on_grown is not None:
            self._on_grown()
        return size

    def note_answered(self, candidate: Candidate, num_ctx: int | None) -> None:
        """Note that a model has just answered, having been asked for so much context."""
        self._held[candidate] = num_ctx

    def note_allocated(self, candidate: Candidate, allocated: int) -> None:
        """Note what a server says that a model in memory was loaded with, in tokens; 0 when it did not say.

        Where the last answer asked for none, that is what the server allocates by itself.
        """
        if not allocated or self._held.get(candidate, 0) is not None:
            return
        if allocated > SERVER_DEFAULT:
            self._defaults[candidate] = allocated
        else:
            self._defaults.pop(candidate, None)

    def window(self, info: ModelInfo, *, allocated: int) -> int:
        """Return how many tokens a model takes without being loaded anew, or will once it is loaded.

        Args:
            info: the model.
            allocated: what it was loaded with, in tokens; 0 when it is not in memory.

        Example:
            >>> sizes, info = ContextSizes(), ModelInfo("llama3.1:8b")
            >>> sizes.note_answered(info.candidate, None)
            >>> sizes.note_allocated(info.candidate, 32768)
            >>> sizes.window(info, allocated=0), sizes.window(ModelInfo("gemma2:9b"), allocated=0)
            (32768, 4096)
        """
        usual = self._defaults.get(info.candidate, SERVER_DEFAULT)
        window = self._grown.get(info.candidate) or allocated or usual
        return min(window, info.context_length or window)

    def reloads(self, info: ModelInfo, num_ctx: int | None, *, allocated: int) -> bool:
        """Whether Ollama must load a model anew, which is in memory, to give it that context.

        Args:
            info: the model.
            num_ctx: what is asked for, in tokens; None leaves it to the server.
            allocated: what the model was loaded with, in tokens; 0 when the server did not say.

        Example:
            >>> sizes, info = ContextSizes(), ModelInfo("llama3.1:8b")
            >>> sizes.reloads(info, 8192, allocated=4096), sizes.reloads(info, 8192, allocated=8192)
            (True, False)
        """
        held = allocated or self._held.get(info.candidate) or self._defaults.get(info.candidate)
        return num_ctx is not None and num_ctx != held

    def export(self) -> dict[str, Any]:
        """Return what was grown, as plain JSON values."""
        return {f"{key.model}\n{key.host}": size for key, size in list(self._grown.items())}

    def load(self, data: Mapping[str, Any]) -> None:
        """Take over what ``export`` returned; entries of the wrong shape are left out."""
        for name, size in data.items():
            if type(size) is int and size > 0:
                model, _, host = name.partition("\n")
                self._grown[Candidate(model, host)] = size
