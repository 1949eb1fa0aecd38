"""From what a person wrote to a store. Nothing is opened here."""

from __future__ import annotations

import difflib
from pathlib import Path

from routed_ollama.errors import ConfigurationError
from routed_ollama.store._base import Store
from routed_ollama.store._kind import NAME
from routed_ollama.store._memory import MemoryStore
from routed_ollama.store._sqlite import SQLiteStore

_MEMBERS = ("record", "record_feedback", "outcomes", "load_state", "save_state", "update_state", "flush", "close")
_MEMORY = frozenset({"memory", "memory://", ":memory:", "sqlite://", "sqlite:///:memory:"})
_REDIS = frozenset({"redis", "rediss", "unix"})
_KNOWN = "'memory', a path, 'sqlite:///path', or a store object"


def open_store(spec: str | Path | Store | None = None) -> Store:
    """The store a person named. No file is made or changed before it is first used.

    Args:
        spec: ``None``, the file ``history.sqlite3`` in the user's state folder; ``"memory"``, in any case; a path;
            ``sqlite:///path`` (relative; an absolute one begins with a fourth slash, or a drive letter); or a store,
            used as it is. A file of the name ``memory`` is given as ``./memory``, or as a ``Path``.

    Raises:
        ConfigurationError: it names no store, or something that is there and is no history: a folder, another
            program's database, any other file. It is left as it is. URLs are not repeated, since they may hold a
            password.

    Example:
        >>> open_store("memory").location
        'memory'
    """
    if spec is None:
        return SQLiteStore(default_path())
    if isinstance(spec, Path):
        return _in_file(spec)
    if isinstance(spec, str):
        return _from_text(spec.strip())
    missing = [name for name in _MEMBERS if not callable(getattr(spec, name, None))]
    if missing:
        kind = type(spec).__name__
        raise ConfigurationError(
            f"store: an object of type {kind} is no store: it lacks {', '.join(missing)}; give {_KNOWN}"
        )
    return spec


def default_path() -> Path:
    """Where history is kept unless told otherwise: the state folder the platform gives each user."""
    from platformdirs import user_state_path  # noqa: PLC0415 (needed by the default store alone)

    return user_state_path("routed-ollama", appauthor=False) / NAME


def _from_text(spec: str) -> Store:
    if spec.lower() in _MEMORY:
        return MemoryStore()
    scheme, separator, rest = spec.partition("://")
    scheme = scheme.lower()  # https://www.rfc-editor.org/rfc/rfc3986#section-3.1
    if not separator:
        if not spec:
            raise ConfigurationError(f"store: is empty; give {_KNOWN}")
        return _in_file(Path(spec))
    if scheme == "sqlite":
        if not rest.startswith("/"):
            raise ConfigurationError("store: 'sqlite://...' needs three slashes before its path: 'sqlite:///path'")
        return _in_file(Path(rest[1:]))
    if scheme in _REDIS:
        raise ConfigurationError(
            f"store: '{scheme}://...' needs the extra routed-ollama[redis], which this version does not have yet; "
            f"give {_KNOWN}"
        )
    nearest = difflib.get_close_matches(scheme, ["sqlite", "redis"], n=1)
    hint = f"did you mean '{nearest[0]}://'? " if nearest else ""
    raise ConfigurationError(f"store: '{scheme}://...' is of no known kind; {hint}give {_KNOWN}")


def _in_file(path: Path) -> Store:
    store = SQLiteStore(_expanded(path))
    what = store.objection()
    if what is None or store.location == str(default_path()):  # which a copy of a default store names
        return store
    raise ConfigurationError(
        f"store: {store.location} {what}. It was left as it is; name a file that is not there yet, or one that is a "
        "history of routed-ollama, or give 'memory'"
    )


def _expanded(path: Path) -> Path:
    if "\0" in str(path):
        raise ConfigurationError(f"store: {str(path)!r} is no path; give {_KNOWN}")
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ConfigurationError(f"store: {path} cannot be found: {error}") from error
