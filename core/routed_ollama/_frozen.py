"""A dictionary that stays as it is: for frozen data that is to be copied, pickled and written out like any other."""

from __future__ import annotations

from typing import Any, Never, Self, TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


class FrozenDict(dict[_K, _V]):
    """A ``dict`` that cannot be changed. ``types.MappingProxyType`` can be neither copied nor pickled.

    Example:
        >>> import copy, json
        >>> frozen = FrozenDict({"a": 1})
        >>> copy.deepcopy(frozen) is frozen, json.dumps(frozen), hash(frozen) == hash(FrozenDict(a=1))
        (True, '{"a": 1}', True)
        >>> frozen["b"] = 2
        Traceback (most recent call last):
        TypeError: This mapping cannot be changed.
    """

    __slots__ = ()

    def _refuse(self, *_args: Any, **_kwargs: Any) -> Never:
        raise TypeError("This mapping cannot be changed.")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (dict(self),))
