"""Who writes the regions: threads, local processes or a dask.distributed cluster; and the progress of it."""

import sys
import time as clock
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any

from xflux.forward.job import Job
from xflux.stores import Region


def execute(job: Job, todo: list[Region], scheduler: Any, workers: int, report: "Progress") -> None:
    """Write the regions; the report is told of each whether it had land."""
    if not todo:
        return
    client, owned = _client(scheduler, min(workers, len(todo)))
    if client is None:
        return _on_threads(job, todo, workers, report)
    try:
        _on_client(client, job, todo, report)
    finally:
        for thing in owned:
            thing.close()


def _on_threads(job: Job, todo: list[Region], workers: int, report: "Progress") -> None:
    pool = ThreadPoolExecutor(workers)
    try:
        regions = iter(todo)
        pending = {pool.submit(job.write, r) for r in islice(regions, 2 * workers)}
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                report.step(future.result())
            pending |= {pool.submit(job.write, r) for r in islice(regions, len(done))}
    finally:
        pool.shutdown(cancel_futures=True)


def _client(scheduler: Any, workers: int) -> tuple[Any, list[Any]]:
    """The client to use (None: threads), and what to close afterwards."""
    if scheduler is None:
        if "distributed" not in sys.modules:
            return None, []
        from distributed import get_client

        try:
            return get_client(), []
        except ValueError:
            return None, []
    if scheduler == "threads":
        return None, []
    from distributed import Client, LocalCluster

    if scheduler == "processes":
        cluster = LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None)
        client = Client(cluster, set_as_default=False)
        return client, [client, cluster]
    if isinstance(scheduler, str):
        if "://" not in scheduler and ":" not in scheduler:
            raise ValueError(
                f'run: scheduler={scheduler!r}; expected "threads", "processes", an address such as '
                '"tcp://10.0.0.1:8786", or a dask.distributed client'
            )
        client = Client(scheduler, set_as_default=False)
        return client, [client]
    return scheduler, []


def _on_client(client: Any, job: Job, todo: list[Region], report: "Progress") -> None:
    """Regions as tasks of a cluster; a few per thread are under way, so that any number of regions is fine."""
    import cloudpickle
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    shared = client.submit(cloudpickle.loads, cloudpickle.dumps(job), pure=False)
    threads = sum(client.nthreads().values()) or 1
    regions = iter(todo)
    first = [client.submit(_write, shared, r, pure=False) for r in islice(regions, 4 * threads)]
    running = as_completed(first, loop=client.loop)
    try:
        for future in running:
            report.step(future.result())
            future.release()
            following = next(regions, None)
            if following is not None:
                running.add(client.submit(_write, shared, following, pure=False))
    except KilledWorker as error:
        raise RuntimeError(
            "run: a region was given up after several workers died on it, most likely of memory; give the workers "
            f"more, or smaller regions with chunks= and another path. What is written is kept ({error})"
        ) from error
    finally:
        client.cancel([shared, *running.futures])


def _write(job: Job, region: Region) -> bool:
    return job.write(region)


class Progress:
    """Chunks, rate and time left, at most once a second; and whether any chunk had land, told at the first."""

    def __init__(self, total: int, todo: int, progress: Any, on_land: Callable[[], None]):
        self.on_land, self.found = on_land, False
        self.total, self.before, self.done = total, total - todo, 0
        self.start = self.last = clock.monotonic()
        self.tell = progress if callable(progress) else (self._print if progress else None)

    def step(self, has_land: bool) -> None:
        if has_land and not self.found:
            self.found = True
            self.on_land()
        self.done += 1
        now = clock.monotonic()
        ends = self.before + self.done == self.total
        if self.tell and (self.tell != self._print or ends or now - self.last >= 1):
            self.last = now
            self.tell(self.before + self.done, self.total, now - self.start)

    def _print(self, done: int, total: int, seconds: float) -> None:
        rate = self.done / max(seconds, 1e-9)
        left = (total - done) / rate
        speed = f"{rate:.2f} per second" if rate >= 0.1 else f"{60 * rate:.2f} per minute"
        line = f"xflux: {done}/{total} chunks, {speed}, {_duration(left)} left"
        print(line, file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    """
    >>> _duration(59), _duration(7260)
    ('59 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
