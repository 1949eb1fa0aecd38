"""One version for the whole distribution."""

from routed_ollama import __version__

__all__ = ["__version__"]
