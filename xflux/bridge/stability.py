"""How stable the choice of pixels is: many stratified draws, counted (paper, Fig. B2)."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xflux.bridge.candidates import ALL_PIXELS, LANDMARKS, stratified_draw
from xflux.bridge.fit import FitOptions, clusters_of, fit_candidates, prepare
from xflux.bridge.samples import RegionSamples, Samples
from xflux.files import require_place, whole
from xflux.provenance import stamp
from xflux.reading import blamed_on

KIND = "xflux stability"
WHAT = "a file of bridge_stability: remove it, or give another path="


def bridge_stability(
    da: xr.DataArray | xr.Dataset,
    regions: Any,
    trials: int = 1000,
    r2: float = 0.95,
    seed: int = 0,
    land_fraction: xr.DataArray | None = None,
    *,
    path: str | Path | None = None,
    batch: int = 50,
    var: str | None = None,
    area_basis: str | None = None,
    window: int | None = 2,
    normalise: bool = True,
    candidates: int = ALL_PIXELS,
    clusters: int | None = None,
    landmarks: int = LANDMARKS,
    positive: bool = False,
    target: str = "flux",
    month_lengths: bool = True,
) -> xr.Dataset:
    """Fit the bridge on random stratified draws and count how often every pixel is selected.

    Clusters are found once; a trial draws candidates within them (the number of :func:`fit_bridge`, at most half of
    the region's pixels, so that small regions vary too) and follows the Lasso path to ``r2``. A trial's draw depends on
    the seed, the region and the trial's number alone: batches, workers and interruptions change nothing.

    Parameters
    ----------
    da, regions, r2, seed, land_fraction, var, area_basis
        As in :func:`fit_bridge`, with its errors.
    window, normalise, candidates, clusters, landmarks, positive, target, month_lengths
        These too.
    trials
        Draws for each region.
    path
        A file that keeps what is done, rewritten after every batch: called again, the work goes on from there, also
        to a larger number of trials. A file of other data or options is refused.
    batch
        Trials per region and dask task; tasks run on the scheduler that is set (threads by default, or a cluster).

    Returns
    -------
    xr.Dataset
        ``count`` and ``drawn`` (lat, lon): trials in which the pixel was selected, and in which it was a candidate
        (cells of several regions add up; NaN where no region has a usable pixel); ``frequency`` = count / drawn; by
        ``region``: ``n_pixels`` (mean), ``n_pixels_std``, ``reached`` (share of the trials that reached ``r2``).

    Raises
    ------
    ValueError
        Fewer than one trial or batch; a file of other data or options, or with more trials.
    FileExistsError, PermissionError
        Something else is at ``path``, or it may only be read.

    Examples
    --------
    >>> time = xr.date_range("2001-01-01", periods=24, freq="MS")
    >>> axes = {"time": time, "lat": [15.0, 5, -5, -15], "lon": [0.0, 10, 20, 30]}
    >>> nee = xr.DataArray(np.random.default_rng(0).normal(size=(24, 4, 4)), axes)
    >>> nee[:, 0, 0] *= 30
    >>> nee = nee.assign_attrs(units="gC m-2 d-1", area_basis="cell")
    >>> found = bridge_stability(nee, xr.zeros_like(nee[0], dtype=int), trials=40, r2=0.9)
    >>> found.frequency[0, 0].item(), (found.drawn[0, 0] / 40).item(), found.reached.item()
    (1.0, 0.475, 0.475)
    """
    if trials < 1 or batch < 1:
        raise ValueError(f"trials={trials}, batch={batch}: expected at least 1 of each.")
    if path is not None:
        path = require_place(path, KIND)
    opts = FitOptions(
        r2, seed, window, normalise, candidates, clusters, landmarks, positive,
        target=target, month_lengths=month_lengths,
    )  # fmt: skip
    start = prepare(da, regions, land_fraction, opts, var=var, area_basis=area_basis)
    samples = start.samples
    parts = [samples.region(k) for k in range(len(samples.labels))]
    state = _State.start(parts, trials, _fingerprint(samples, opts))
    if path is not None and path.exists():
        state = state.resume(path)
    if state.cluster is None:
        state.cluster = [
            clusters_of(part, samples.steps, opts) if part.pixels.size > 1 else np.zeros(part.pixels.size, int)
            for part in parts
        ]
    held = _held(parts)
    for first in range(0, trials, batch):
        if _run(parts, state, range(first, min(first + batch, trials)), opts, held) and path is not None:
            state.write(path)
    return _maps(start.weights, samples, parts, state, {**start.attrs, "trials": trials})


@dataclasses.dataclass
class _State:
    """What is done: counts per region and pixel, and per region and trial the pixels selected (−1: not done)."""

    fingerprint: str
    n_pixels: np.ndarray
    reached: np.ndarray
    count: list[np.ndarray]
    drawn: list[np.ndarray]
    cluster: list[np.ndarray] | None = None

    @classmethod
    def start(cls, parts: list[RegionSamples], trials: int, fingerprint: str) -> "_State":
        zeros = [np.zeros(part.pixels.size, int) for part in parts]
        shape = (len(parts), trials)
        return cls(fingerprint, np.full(shape, -1), np.zeros(shape, bool), zeros, [z.copy() for z in zeros])

    def resume(self, path: Path) -> "_State":
        """The state of ``path`` with room for this call's trials."""
        kept = _opened(path)
        if str(kept["fingerprint"]) != self.fingerprint:
            raise ValueError(
                f"{path} holds the trials of other data or options; give another path=, or remove the file."
            )
        with blamed_on(path, WHAT):
            self._check_fit(kept)
        have, want = kept["n_pixels"].shape[1], self.n_pixels.shape[1]
        if have > want and (kept["n_pixels"][:, want:] >= 0).any():
            raise ValueError(
                f"{path} already holds {have} trials, more than trials={want}: give trials={have} or another path=."
            )
        self.n_pixels[:, : min(have, want)] = kept["n_pixels"][:, :want]
        self.reached[:, : min(have, want)] = kept["reached"][:, :want]
        splits = np.cumsum([c.size for c in self.count])[:-1]
        for name in ("count", "drawn", "cluster"):
            setattr(self, name, np.split(kept[name], splits))
        return self

    def _check_fit(self, kept: dict[str, np.ndarray]) -> None:
        regions, trials = kept["n_pixels"].shape
        shapes = {"n_pixels": (len(self.count), trials), "reached": (regions, trials)}
        shapes |= dict.fromkeys(("count", "drawn", "cluster"), (sum(c.size for c in self.count),))
        for name, shape in shapes.items():
            if kept[name].shape != shape or kept[name].dtype.kind not in "iub":
                raise ValueError(f"its {name} are {kept[name].dtype} {kept[name].shape}, expected integers {shape}")

    def write(self, path: Path) -> None:
        """Replace ``path`` at once, so that an interruption leaves the old file or the new one."""
        arrays = {name: np.concatenate(getattr(self, name)) for name in ("count", "drawn", "cluster")}
        own = {"fingerprint": self.fingerprint, "n_pixels": self.n_pixels, "reached": self.reached}
        with whole(path, KIND) as part, part.open("wb") as file:
            np.savez_compressed(file, **own, **arrays)


def _opened(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file of trials; an error that names it where it is none."""
    with blamed_on(path, WHAT), np.load(path) as kept:
        names = ("fingerprint", "n_pixels", "reached", "count", "drawn", "cluster")
        return {name: kept[name] for name in names}


def _fingerprint(samples: Samples, opts: FitOptions) -> str:
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(opts), sort_keys=True).encode())
    for array in (np.ascontiguousarray(samples.values), samples.lat, samples.lon, samples.labels.astype(str)):
        digest.update(array.tobytes())
    weight = samples.weight.tocoo()
    digest.update(np.round(weight.data, 3).tobytes() + weight.row.tobytes() + weight.col.tobytes())
    return digest.hexdigest()


def _held(parts: list[RegionSamples]) -> list[Any]:
    """The regions' samples where the tasks will run: on a cluster they are sent once, to every worker."""
    import dask.base

    client = getattr(dask.base.get_scheduler(), "__self__", None)
    return parts if client is None else client.scatter(parts, broadcast=True, hash=False)


def _run(parts: list[RegionSamples], state: _State, numbers: range, opts: FitOptions, held: list[Any]) -> bool:
    """Do the trials of ``numbers`` that are not done; True where there were any."""
    import dask

    tasks, where = [], []
    for k, part in enumerate(parts):
        todo = [t for t in numbers if state.n_pixels[k, t] < 0]
        if todo and part.pixels.size:
            tasks.append(dask.delayed(_trials, pure=False)(held[k], state.cluster[k], todo, opts))
            where.append((k, todo))
    for (k, todo), (count, drawn, n_pixels, reached) in zip(where, dask.compute(*tasks), strict=True):
        state.count[k] = state.count[k] + count
        state.drawn[k] = state.drawn[k] + drawn
        state.n_pixels[k, todo], state.reached[k, todo] = n_pixels, reached
    return bool(tasks)


def _trials(part: RegionSamples, cluster: np.ndarray, numbers: list[int], opts: FitOptions) -> tuple:
    """Counts and draws per pixel, and per trial the number of pixels and whether R² was reached."""
    from threadpoolctl import threadpool_limits

    size = min(opts.candidates, -(-part.pixels.size // 2))
    count, drawn = (np.zeros(part.pixels.size, int) for _ in range(2))
    n_pixels, reached = [], []
    with threadpool_limits(1):  # the matrices are small: threads inside a trial only get in each other's way
        for number in numbers:
            chosen = stratified_draw(cluster, size, part.seed(opts.seed, 2, number))
            fit = fit_candidates(part, chosen, opts)
            drawn[chosen] += 1
            count[chosen[fit.coef != 0]] += 1
            n_pixels.append(int(np.count_nonzero(fit.coef)))
            reached.append(fit.reached)
    return count, drawn, np.array(n_pixels), np.array(reached)


def _maps(
    cells: xr.DataArray, samples: Samples, parts: list[RegionSamples], state: _State, attrs: dict[str, Any]
) -> xr.Dataset:
    shape = (cells.sizes["lat"], cells.sizes["lon"])
    count, drawn = np.zeros(shape), np.zeros(shape)
    used = np.zeros(shape, bool)
    rows = {v: i for i, v in enumerate(cells["lat"].values.astype(float))}
    columns = {v: i for i, v in enumerate(cells["lon"].values.astype(float))}
    for part, selected, candidate in zip(parts, state.count, state.drawn, strict=True):
        place = [rows[v] for v in samples.lat[part.pixels]], [columns[v] for v in samples.lon[part.pixels]]
        np.add.at(count, place, selected)
        np.add.at(drawn, place, candidate)
        used[place] = True
    done = np.where(state.n_pixels >= 0, state.n_pixels, np.nan)
    some = np.isfinite(done).any(axis=1)
    mean, std, share = (np.full(len(parts), np.nan) for _ in range(3))
    mean[some], std[some] = np.nanmean(done[some], axis=1), np.nanstd(done[some], axis=1)
    share[some] = state.reached[some].mean(axis=1)
    dims = ("lat", "lon")
    kept = {k: v for k, v in attrs.items() if isinstance(v, str | int | float) and not isinstance(v, bool)}
    return xr.Dataset(
        {
            "count": (dims, np.where(used, count, np.nan), {"long_name": "trials in which the pixel was selected"}),
            "drawn": (dims, np.where(used, drawn, np.nan), {"long_name": "trials in which it was a candidate"}),
            "frequency": (dims, np.where(drawn > 0, count / np.maximum(drawn, 1), np.nan), {"units": "1"}),
            "n_pixels": ("region", mean, {"long_name": "contributing pixels, mean over trials"}),
            "n_pixels_std": ("region", std),
            "reached": ("region", share, {"long_name": "share of trials that reached R2"}),
        },
        {"lat": cells["lat"], "lon": cells["lon"], "region": samples.labels},
        kept | {"provenance": stamp(f"bridge_stability(trials={attrs['trials']})")},
    )
