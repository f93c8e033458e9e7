"""Speed and memory of region integrals against NumPy, the disk and the peers.

    python benchmarks/regions.py memory    # (204, 360, 720) float32 to 18 regions, beside np.nansum and peers
    python benchmarks/regions.py zarr      # 0.25° daily, one year, from Zarr, beside reading the same data
    python benchmarks/regions.py weights   # weights on 0.05° (3600 × 7200): seconds and peak memory, a process per set

Run it on an idle machine. ``--months``, ``--resolution`` and ``--days`` make it smaller for a try. Each line prints
seconds (best of --repeats, taken in turn), the ratio to the limit, and the limit that must hold:
memory ≤ 1 × np.nansum and ≥ 5 × faster than every peer; zarr ≤ 1.3 × reading and ≤ 1 GiB; weights ≤ 120 s and ≤ 2 GiB.
Peers that are not installed (regionmask, exactextract, xagg, xarray-spatial, CDO) are skipped by name; xagg gives area
means, from which a sum is one product away.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import xarray as xr

from xflux.cells import cell_area, grid_bounds
from xflux.regions import aggregate_regions, region_weights
from xflux.regions.shapes import RECCAP2, shipped


def flux(steps: int, resolution: float, freq: str = "MS") -> xr.DataArray:
    """Noise with a third of the cells missing, like an ocean."""
    lat, lon = np.arange(-90 + resolution / 2, 90, resolution), np.arange(-180 + resolution / 2, 180, resolution)
    rng = np.random.default_rng(0)
    values = rng.standard_normal((steps, lat.size, lon.size), dtype="float32")
    values[:, rng.random((lat.size, lon.size)) < 0.33] = np.nan
    coords = {"time": xr.date_range("2001-01-01", periods=steps, freq=freq), "lat": lat, "lon": lon}
    attrs = {"units": "gC m-2 d-1", "area_basis": "cell"}
    return xr.DataArray(values, coords, ("time", "lat", "lon"), name="nbe", attrs=attrs)


def polygons():
    """The 18 regions as shapely polygons, for the peers."""
    import shapely

    labels, rings = shipped("reccap2")
    shapes = []
    for group in range(len(labels)):
        own = rings.of(group)
        points = np.c_[own.lon, own.lat]
        parts = [shapely.Polygon(points[a:b]) for a, b in pairwise(own.start)]
        outer = [p for p in parts if p.exterior.is_ccw]
        holes = [p for p in parts if not p.exterior.is_ccw]
        shapes.append(shapely.union_all(outer).difference(shapely.union_all(holes)))
    return shapes


def best(candidates: dict, repeats: int) -> dict[str, float]:
    """Best seconds of each, taken in turn so that a busy moment hits all alike; the first round is not counted."""
    seconds = {name: [] for name in candidates}
    for round_ in range(repeats + 1):
        for name, function in candidates.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
            if round_ and min(seconds[name]) > 20:
                break
    return {name: min(values[1:] or values) for name, values in seconds.items()}


def peers(da: xr.DataArray, folder: Path) -> dict:
    """What each peer does with the same array; its masks are made outside the clock."""
    found, shapes = {}, polygons()
    area = cell_area(da)
    try:
        import regionmask

        regions = regionmask.Regions(shapes, names=list(RECCAP2))
        mask = regions.mask_3D_frac_approx(da.lon, da.lat, wrap_lon=False)
        found["regionmask .weighted().sum()"] = lambda: da.weighted(mask * area).sum(("lat", "lon"))
    except ImportError:
        print("regionmask: not installed")
    try:
        import geopandas
        from exactextract import exact_extract
        from exactextract.raster import NumPyRasterSource

        frame = geopandas.GeoDataFrame({"region": list(RECCAP2)}, geometry=shapes, crs="EPSG:4326")
        box = {"xmin": -180, "ymin": -90, "xmax": 180, "ymax": 90}
        weights = NumPyRasterSource(area.values[::-1].copy(), **box, name="area", nodata=-1.0)

        def exact():
            sources = [
                NumPyRasterSource(values[::-1].copy(), **box, name=f"t{i}", nodata=np.nan)
                for i, values in enumerate(da.values)
            ]
            return exact_extract(sources, frame, "weighted_sum", weights=weights, output="pandas")

        found["exactextract"] = exact
    except ImportError:
        print("exactextract: not installed")
    try:
        import geopandas
        import xagg

        frame = geopandas.GeoDataFrame({"region": list(RECCAP2)}, geometry=shapes, crs="EPSG:4326")
        xagg.set_options(silent=True, impl="for_loop")  # the other, dot_product, takes 6 × the time and 5 GB at 1°
        # Its own inference of bounds fails on this release (0.3.3 writes into a read-only view).
        bounds = {f"{axis}_bnds": ((axis, "bnds"), b) for axis, b in zip(("lat", "lon"), grid_bounds(da), strict=True)}
        ds = da.to_dataset(name="nbe").assign(bounds)
        overlaps = xagg.pixel_overlaps(ds, frame, silent=True)
        found["xagg"] = lambda: xagg.aggregate(ds, overlaps, silent=True).to_dataset()
    except ImportError:
        print("xagg: not installed")
    try:
        from xrspatial import zonal_stats

        label = xr.DataArray(region_weights(da, "reccap2", "land").data.todense().argmax(axis=0), dims=("y", "x"))
        found["xarray-spatial zonal_stats"] = lambda: [
            zonal_stats(label, xr.DataArray(v, dims=("y", "x")), stats_funcs=["sum"]) for v in (da * area).values
        ]
    except ImportError:
        print("xarray-spatial: not installed")
    if shutil.which("cdo"):
        found["CDO over 18 masks"] = cdo(da, area, folder)
    else:
        print("cdo: not installed")
    return found


def cdo(da: xr.DataArray, area: xr.DataArray, folder: Path):
    da.lat.attrs["units"], da.lon.attrs["units"] = "degrees_north", "degrees_east"
    da.to_netcdf(folder / "flux.nc")
    weights = region_weights(da, "reccap2", "cell")
    for i in range(weights.sizes["region"]):
        one = xr.DataArray(weights.data[i].todense(), {"lat": da.lat, "lon": da.lon}, ("lat", "lon"), name="w")
        one.to_netcdf(folder / f"w{i}.nc")

    def run():
        for i in range(weights.sizes["region"]):
            command = ["cdo", "-s", "-O", "fldsum", "-mul", folder / "flux.nc", folder / f"w{i}.nc", folder / "o.nc"]
            subprocess.run(list(map(str, command)), check=True, capture_output=True)

    return run


def memory(args) -> None:
    da = flux(args.months, args.resolution)
    fractions = xr.DataArray(
        region_weights(da, "reccap2", "land").data.todense() / cell_area(da).values,
        {"region": list(RECCAP2), "lat": da.lat, "lon": da.lon}, ("region", "lat", "lon"),
    )  # fmt: skip
    weights = region_weights(da, "reccap2", "cell")
    own = {
        "np.nansum": lambda: np.nansum(da.values),
        "xflux, by name": lambda: aggregate_regions(da, "reccap2"),
        "xflux, weights made earlier": lambda: aggregate_regions(da, weights),
        "xflux, dense fraction mask": lambda: aggregate_regions(da, fractions),
    }
    with tempfile.TemporaryDirectory() as folder:
        seconds = best(own, args.repeats) | best(peers(da, Path(folder)), 1)
    limit, ours = seconds["np.nansum"], seconds["xflux, by name"]
    print(f"{'':34}{'seconds':>10}{'× nansum':>10}{'× xflux':>10}")
    for name, value in seconds.items():
        print(f"{name:34}{value:10.3f}{value / limit:10.2f}{value / ours:10.1f}")


class Peak(threading.Thread):
    """Peak resident memory of this process, in MiB, sampled every 5 ms."""

    def __init__(self):
        super().__init__(daemon=True)
        self.mib, self.stop = 0, False

    def run(self):
        while not self.stop:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.mib = max(self.mib, pages * resource.getpagesize() / 2**20)
            time.sleep(0.005)


def zarr(args) -> None:
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "daily.zarr"
        template = flux(10, args.resolution, "D")
        days = xr.date_range("2001-01-01", periods=args.days, freq="D")
        for first in range(0, args.days, 10):
            part = template.isel(time=slice(0, min(10, args.days - first)))
            part = part.assign_coords(time=days[first : first + part.sizes["time"]]).chunk(time=10)
            mode = {"append_dim": "time"} if first else {"mode": "w"}
            part.to_dataset().to_zarr(path, consolidated=False, **mode)
        ds = xr.open_zarr(path, consolidated=False)

        def read():
            # A copy, because a view would keep the whole chunk in memory.
            corner = ds.nbe.data.map_blocks(lambda b: b[:, :1, :1].copy(), chunks=(ds.nbe.chunks[0], (1,), (1,)))
            corner.compute()

        peaks = []

        def regions():
            watch = Peak()
            watch.start()
            aggregate_regions(ds.nbe, "reccap2").compute()
            watch.stop = True
            peaks.append(watch.mib)

        seconds = best({"reading": read, "regions": regions}, args.repeats)
    ratio = seconds["regions"] / seconds["reading"]
    print(f"reading {seconds['reading']:.2f} s, regions {seconds['regions']:.2f} s: ratio {ratio:.2f} (limit 1.3), "
          f"peak {max(peaks):.0f} MiB (limit 1024)")  # fmt: skip


def weights(args) -> None:
    for name in ("reccap2", "countries", "latitude-bands"):
        for basis in ("land", "cell"):
            subprocess.run([sys.executable, __file__, "one", "--set", name, "--basis", basis,
                            "--resolution", str(args.resolution)], check=True)  # fmt: skip


def one(args) -> None:
    res = args.resolution
    coords = {"lat": np.arange(-90 + res / 2, 90, res), "lon": np.arange(-180 + res / 2, 180, res)}
    start = time.perf_counter()
    made = region_weights(xr.Dataset(coords=coords), args.set, args.basis)
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{args.set:16}{args.basis:6}{made.shape}: {seconds:6.1f} s (limit 120), {made.data.nnz:9d} entries, "
          f"{made.data.nbytes / 2**20:5.0f} MiB, peak {peak:5.0f} MiB (limit 2048)")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["memory", "zarr", "weights", "one"])
    parser.add_argument("--resolution", type=float)
    parser.add_argument("--months", type=int, default=204)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", help="where the Zarr store is written")
    parser.add_argument("--set", default="reccap2")
    parser.add_argument("--basis", default="land")
    args = parser.parse_args()
    args.resolution = args.resolution or {"memory": 0.5, "zarr": 0.25}.get(args.what, 0.05)
    {"memory": memory, "zarr": zarr, "weights": weights, "one": one}[args.what](args)


if __name__ == "__main__":
    main()
