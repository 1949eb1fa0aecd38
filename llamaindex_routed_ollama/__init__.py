"""LlamaIndex's place in the distribution; the adapter is not part of this version."""

from routed_ollama import __version__

__all__ = ["__version__"]
