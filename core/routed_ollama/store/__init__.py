"""History and small state that outlive the process: an SQLite file by default, or memory.

Writing never waits for I/O and never raises; what goes wrong with a file is said once, and worked around.
"""

from routed_ollama.store._base import Store
from routed_ollama.store._memory import MemoryStore
from routed_ollama.store._open import open_store
from routed_ollama.store._sqlite import SQLiteStore

__all__ = ["MemoryStore", "SQLiteStore", "Store", "open_store"]
