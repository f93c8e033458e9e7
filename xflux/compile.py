"""Numba's compiler, for the modules of compiled loops. Importing it imports numba."""

from collections.abc import Callable

import numba


def njit(**options) -> Callable:
    """``numba.njit`` without the interpreter's lock, compiled once and kept on disk where there is a place for that.

    Where neither the package's folder nor the home can be written, as in a container, each process compiles anew.
    """

    def compiled(function: Callable) -> Callable:
        try:
            return numba.njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:  # no place for the cache
            return numba.njit(nogil=True, **options)(function)

    return compiled
