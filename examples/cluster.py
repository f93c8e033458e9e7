"""A global forward run on a dask.distributed cluster, written to Zarr region by region; call it again and it goes on.

The cluster is one on this machine; with dask-jobqueue, ``SLURMCluster(...)`` takes its place and nothing else changes.
"""

from tempfile import TemporaryDirectory

import xarray as xr
from distributed import Client, LocalCluster

import xflux  # noqa: F401  registers .flux
from xflux import forward, synthetic


def main() -> None:
    world = synthetic.earth(resolution=6, years=1, towers=40)
    grid = world.drivers.chunk(time=92)  # daily drivers, lazy; from files: xr.open_zarr or xr.open_mfdataset
    model = forward.wrap(lambda rows: 0.05 * (12 - rows[:, 0]), ["Tair"], units="gC m-2 d-1")

    with TemporaryDirectory() as folder, LocalCluster(n_workers=2, threads_per_worker=1) as cluster:
        with Client(cluster) as client:
            out = f"{folder}/nee.zarr"
            forward.run(grid, model, out, scheduler=client, progress=True)

            # what follows is lazy too, and runs on the same cluster
            nee = xr.open_zarr(out, consolidated=False)["nee"]
            regional = nee.flux.aggregate_regions("reccap2", land_fraction=world.land_fraction)
            print(regional.flux.annual().compute().squeeze("time").to_series().round(2))


if __name__ == "__main__":
    main()
