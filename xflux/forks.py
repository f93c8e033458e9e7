"""How many threads are of use; a forked process lacks those of its parent, which libraries still count on."""

import os
import sys
from threading import Lock


class _Process:
    forked = False


def forked() -> bool:
    """Whether this process was forked from one that had loaded xflux."""
    return _Process.forked


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _after_fork() -> None:
    _Process.forked = True
    _forget_the_pools_of_dask()


def _forget_the_pools_of_dask() -> None:
    """Its tasks would wait for ever for threads that are not here; new pools are made when they are needed."""
    threaded = sys.modules.get("dask.threaded")
    if threaded is not None:
        vars(threaded).update(default_pool=None, pools_lock=Lock())
        threaded.pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
