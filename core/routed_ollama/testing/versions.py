"""How versions of Ollama differ, as far as this server shows it. From 0.30 on every model runs in a ``llama-server``.

Read from the sources of v0.24.0 (llm/server.go, server/sched.go), v0.30.0 and v0.34.0 (llm/llama_server.go).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from routed_ollama.testing.engine import ModelCard


@dataclass(frozen=True, slots=True)
class Version:
    """A version of Ollama.

    Example:
        >>> Version.parse("0.24.0").llama_server
        False
    """

    text: str
    number: tuple[int, int]

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read it.

        Raises:
            ValueError: it does not begin with two numbers.
        """
        found = re.match(r"v?(\d+)\.(\d+)", text)
        if not found:
            raise ValueError(f"not a version of Ollama: {text!r}; expected something like 0.24.0")
        return cls(text, (int(found[1]), int(found[2])))

    @property
    def llama_server(self) -> bool:
        """Whether models run in ``llama-server``: other error texts, and capabilities in ``/api/tags``."""
        return self.number >= (0, 30)

    @property
    def halves_prompts(self) -> bool:
        """Whether a prompt that is too long loses about half, as the first context shift would take away."""
        return self.number >= (0, 31)

    def prompt_limits(self, num_ctx: int, num_keep: int) -> tuple[int, int]:
        """How long a prompt may be, and to what it is cut when it is longer; in tokens."""
        if not self.llama_server:
            return num_ctx, num_ctx
        fits = max(num_ctx - 1, 1)
        if not self.halves_prompts:
            return fits, fits
        keep = max(0, min(num_keep, num_ctx - 1))
        return fits, num_ctx - max((num_ctx - keep) // 2, 1)

    def may_cut(self, card: ModelCard, endpoint: str, *, truncate: bool, shift: bool) -> bool:
        """Whether a prompt that is too long even without its old messages is cut, or refused."""
        if not self.llama_server:
            return truncate
        native = card.native_template and endpoint == "chat"
        return truncate and not native and (shift or not self.halves_prompts)
