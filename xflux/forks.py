"""Threads of libraries: one where more would wait for each other, or were left behind by a fork."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


class _Process:
    forked = False


def forked() -> bool:
    """Whether this process was forked from one that had loaded xflux."""
    return _Process.forked


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for BLAS and OpenMP on small arrays.

    Their threads wait for each other in loops that take cores from all else: on a machine that does other things too, a
    hundred times as long as the arithmetic. In a forked process they would wait for the parent's threads, or crash.
    The number of BLAS is the process's: of those that run at once the first finds it and the last gives it back.
    """
    from threadpoolctl import threadpool_limits

    with _Limited.lock:
        if not _Limited.running:
            _Limited.blas = threadpool_limits(1, user_api="blas")
        _Limited.running += 1
    try:
        with threadpool_limits(1, user_api="openmp"):
            yield
    finally:
        with _Limited.lock:
            _Limited.running -= 1
            if not _Limited.running:
                _Limited.blas.restore_original_limits()


class _Limited:
    """How many run in one thread in this process, and what gives BLAS its threads back."""

    lock = Lock()
    running = 0
    blas = None


def _after_fork() -> None:
    _Process.forked, _Limited.lock, _Limited.running = True, Lock(), 0
    _forget_the_pools_of_dask()


def _forget_the_pools_of_dask() -> None:
    """Its tasks would wait for ever for threads that are not here; new pools are made when they are needed."""
    threaded = sys.modules.get("dask.threaded")
    if threaded is not None:
        vars(threaded).update(default_pool=None, pools_lock=Lock())
        threaded.pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
