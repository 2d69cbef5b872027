"""A mapping that stays as it is."""

from __future__ import annotations

from typing import Any


class FrozenDict(dict[str, Any]):
    """It stays as it is. Unlike a `MappingProxyType` it can be copied and sent to other processes."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError("this mapping cannot be changed")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)
