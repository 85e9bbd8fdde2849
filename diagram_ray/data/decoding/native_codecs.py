"""Inner loops that become machine code the first time they are called."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")

READ_ONLY_BYTES = "Array(uint8, 1, 'C', readonly=True)"
"""The type of read-only bytes in a signature: `numpy.frombuffer(data, numpy.uint8)` of bytes."""


def native(signature: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compiles the decorated function for one signature, in numba's notation, when it is first called.

    The function holds no lock on the interpreter while it runs. Indices are not checked: it has to do that itself.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        compiled = functools.cache(functools.partial(_compile, function, signature))

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return compiled()(*args, **kwargs)

        return call

    return decorate


def _compile(function: Callable[P, R], signature: str) -> Callable[P, R]:
    import numba  # here, because most processes never need it and it takes a third of a second

    try:
        return cast(Callable[P, R], numba.njit(signature, nogil=True, cache=True)(function))
    except Exception:  # no folder to keep the machine code in, a full disk, a damaged file there: compile it anew
        return cast(Callable[P, R], numba.njit(signature, nogil=True)(function))
