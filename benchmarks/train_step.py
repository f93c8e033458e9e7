"""A training step of ten members against ten ``nn.Sequential`` one after another, and a full daily constraint.

    python benchmarks/train_step.py                 # 5 pairs of steps; needs about a minute and 2 GiB
    python benchmarks/train_step.py --daily         # instead: `full` over 60 000 pixels x 365 days: minutes, 3 GiB
    python benchmarks/train_step.py --daily --pixels 3700 --train 10    # the same trained in full on 2 degrees

Prints medians, their ratio, and rates (18 560 flop per row and member: forward, and forward again with backward, of
10 -> 32 -> 32 -> 32 -> 1) per second of CPU time, against the machine's own peak: fused multiply-adds on registers
alone, which is lanes x 2 x units x clock. The kernels stand alone beside the step that they are part of, and torch's
large matrix product beside all.
"""

import argparse
import resource
import statistics
import sys
import tempfile
import time

import numpy as np
import torch
import xarray as xr

from xflux import train
from xflux.train.data import Setting, tower_rows

DRIVERS = [f"driver{i}" for i in range(10)]
FLOP, FORWARD = 18_560, 4_800
REGIONS = 18


def peak_rate(rounds: int = 3_000_000) -> float:
    """Flop per second of CPU time of multiply-adds that never leave the registers."""
    from llvmlite import ir
    from numba import njit, types
    from numba.extending import intrinsic

    from xflux.train import kernels as k

    @intrinsic
    def chains(context, count, factor):
        def codegen(context, builder, signature, args):
            x = k._splat(builder, args[1])
            fma, start = k._fma(builder), [x] * k.WIDE * k.VECTORS
            sums = k._loop(builder, args[0], start, lambda _, s: [builder.call(fma, [x, x, v]) for v in s])
            total = sums[0]
            for other in sums[1:]:
                total = builder.fadd(total, other)
            return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

        return types.float32(types.int64, types.float32), codegen

    run = njit(lambda count: chains(count, np.float32(1e-3)))
    run(1)
    return 2 * k.LANES * k.WIDE * k.VECTORS * rounds / min(timed(lambda: run(rounds))[1] for _ in range(5))


def kernels_alone(args, run) -> dict:
    """The rows of a step through the kernels: once forward, and forward again with backward."""
    (term,) = run.terms
    values = term.integral.pixels.rows.groups[0][1]
    pixels = (args.batch + args.rows) // 12
    at = torch.as_tensor(np.random.default_rng(0).integers(0, len(values), (args.members, pixels)))
    slope = torch.ones(args.members, 1, pixels * 12)

    def backward() -> None:
        run.network.accumulate(values, at, slope)
        run.optimiser.zero_grad(set_to_none=True)

    return {"forward kernel": lambda: run.network.outputs(values, at), "backward kernel": backward}


def world(
    pixels: int, steps: str, tower_samples: int, folder: str | None = None
) -> tuple[xr.Dataset, xr.Dataset, xr.DataArray, xr.DataArray]:
    """Towers, a grid with `pixels` valid cells (lazy, from Zarr, with a `folder`), region weights, and a target.

    The flux is x0 - max(x1, 0) - 0.5 gC m-2 d-1; the towers do not see the 0.5, the inversions do.
    """
    rng = np.random.default_rng(0)
    n_steps = {"month": 12, "dayofyear": 365}[steps]
    n_lat = 180 if pixels > 20_000 else 90
    shape = (n_lat, -(-pixels // n_lat))
    lat, lon = np.linspace(-89.5, 89.5, n_lat), np.linspace(-180, 180, shape[1], endpoint=False)
    valid = np.arange(n_lat * shape[1]).reshape(shape) < pixels
    grid = xr.Dataset(coords={steps: np.arange(1, n_steps + 1), "lat": lat, "lon": lon})
    flux = np.full((n_steps, *shape), -0.5, np.float32)
    for number, name in enumerate(DRIVERS):
        field = rng.standard_normal((n_steps, *shape), dtype=np.float32)
        if number < 2:
            flux += -np.maximum(field, 0) if number else field
        field[:, ~valid] = np.nan
        driver = xr.DataArray(field, grid.coords, (steps, "lat", "lon"), name)
        if folder is None:
            grid[name] = driver
        else:
            driver.to_dataset().to_zarr(folder, mode="a", consolidated=False)
    weights, target = regions_of(lat, lon, flux, valid, rng)
    x = rng.normal(size=(tower_samples, 10))
    towers = xr.Dataset({name: ("sample", x[:, i]) for i, name in enumerate(DRIVERS)})
    towers["nee"] = ("sample", x[:, 0] - np.maximum(x[:, 1], 0), {"units": "gC m-2 d-1"})
    sites = np.array([f"S{n:03d}" for n in rng.integers(0, 180, tower_samples)])
    place = {name: ("sample", np.zeros(tower_samples)) for name in ("lat", "lon")}
    towers = towers.assign_coords(site=("sample", sites), **place)
    return towers, grid if folder is None else xr.open_zarr(folder, consolidated=False), weights, target


def regions_of(lat, lon, flux, valid, rng) -> tuple[xr.DataArray, xr.DataArray]:
    """Land of 18 bands of rows, and 25 inversions of the flux (step, lat, lon) over 48 months."""
    rows = len(lat) // REGIONS
    land = np.cos(np.deg2rad(lat))[:, None] * (1.8e14 / len(lat) / len(lon)) * np.ones(len(lon))
    weights = np.zeros((REGIONS, *land.shape))
    for r in range(REGIONS):
        weights[r, r * rows : (r + 1) * rows] = land[r * rows : (r + 1) * rows]
    months = np.array_split(np.arange(len(flux)), 12)
    amount = np.stack([flux[m].mean(0) * 30.436875e-15 for m in months])
    truth = np.einsum("rij,mij->rm", weights * valid, amount)
    values = np.tile(truth, 4) + 0.02 * rng.normal(size=(25, REGIONS, 48))
    labels = [f"R{r}" for r in range(REGIONS)]
    time = xr.date_range("2015-01-01", periods=48, freq="MS")
    dims, coords = ("inversion", "region", "time"), {"region": labels, "time": time}
    coords_of_land = {"region": labels, "lat": lat, "lon": lon}
    weights = xr.DataArray(weights, coords_of_land, ("region", "lat", "lon"), attrs={"units": "m2"})
    return weights, xr.DataArray(values, coords, dims, attrs={"units": "PgC month-1"})


def training(args, towers, constraint):
    """A run of the trainer that is ready to step, and the order of its tower rows."""
    module = sys.modules["xflux.train.fitting"]
    config = train.TrainConfig(folds=args.members)
    rows = tower_rows(towers, DRIVERS, ["nee"], args.members, 0)
    setting = Setting(0, 2, torch.float32, torch.device("cpu"), config.block_rows, ("nee",))
    run = module.Trainer(rows, module._terms(towers, [constraint], rows, config, setting), config, setting)
    for term in run.terms:
        term.start_epoch(0)
        term.renew(run.network)
    order = np.empty((len(run.members), run.batch * run.steps), np.int64)
    for number, row in enumerate(order):
        run._shuffle(number, 0, row)
    return run, order[:, : args.batch]


class Separate:
    """The peer: one nn.Sequential, one Adam and one backward per member, over all its rows at once."""

    def __init__(self, args, run, order):
        (term,) = run.terms
        values = term.integral.pixels.rows.groups[0][1]
        at = np.random.default_rng(0).integers(0, len(values), (args.members, args.rows // 12))
        self.x = list(run.x[torch.as_tensor(order)][..., 0])
        self.y = [run.y[torch.as_tensor(o), 0] for o in order]
        self.grid = [values[torch.as_tensor(a)].transpose(1, 2).reshape(-1, 10) for a in at]
        region = term.integral.pixels.region[:, 0]
        self.sum = [torch.nn.functional.one_hot(region[torch.as_tensor(a)], REGIONS).float().T * 1e-4 for a in at]
        self.target = term.training.float()
        self.nets, self.adams, self.log_variance = [], [], []
        for _ in range(args.members):
            layers = []
            for n_in, n_out in ((10, 32), (32, 32), (32, 32), (32, 1)):
                layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU()]
            net, log_variance = torch.nn.Sequential(*layers[:-1]), torch.zeros(2, requires_grad=True)
            self.nets.append(net)
            self.log_variance.append(log_variance)
            self.adams.append(torch.optim.Adam([*net.parameters(), log_variance], lr=0.003))

    def step(self) -> None:
        for m, (net, adam, s) in enumerate(zip(self.nets, self.adams, self.log_variance, strict=True)):
            adam.zero_grad()
            towers = torch.nn.functional.mse_loss(net(self.x[m])[:, 0], self.y[m])
            regional = self.sum[m] @ net(self.grid[m]).view(-1, 12)
            target = self.target[m]
            spread = target.amax(0) - target.amin(0)
            misfit = ((target - regional).abs() ** 3).mean(0) ** (1 / 3) / (1 + spread)
            losses = torch.stack([towers, misfit.mean()])
            (0.5 * torch.exp(-s) * losses + 0.5 * s).sum().backward()
            adam.step()


def timed(step) -> tuple[float, float]:
    """Seconds by the wall and of CPU time."""
    start, cpu = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - start, time.process_time() - cpu


def pairs(args) -> None:
    towers, grid, weights, target = world(args.pixels, "month", args.towers)
    constraint = train.RegionalConstraint(
        target, grid, integral="sampled", regions=weights, pixels=args.rows // 12, total=True
    )
    run, order = training(args, towers, constraint)
    a, rows = torch.randn(args.sgemm, args.sgemm), (args.batch + args.rows) * args.members
    work = {"xflux": lambda: run._step(order), "nn.Sequential in turn": Separate(args, run, order).step}
    work |= kernels_alone(args, run) | {"large sgemm": lambda: a @ a}
    flop = dict(
        zip(work, (FLOP * rows, FLOP * rows, FORWARD * rows, (FLOP - FORWARD) * rows, 2 * args.sgemm**3), strict=True)
    )
    for step in 2 * list(work.values()):
        step()
    found = [{name: timed(step) for name, step in work.items()} for _ in range(args.pairs)]
    peak = peak_rate()
    print(f"threads {torch.get_num_threads()}; multiply-adds on registers {peak / 1e9:.0f} GFLOP per second and core")
    print(f"{args.members} members, {args.batch} tower rows and {args.rows} regional rows each")
    print(f"{'':24}{'s':>9}{'CPU s':>9}{'GFLOP/CPU s':>13}{'of peak':>9}")
    rate = {}
    for name in work:
        wall, cpu = (statistics.median(pair[name][i] for pair in found) for i in (0, 1))
        rate[name] = flop[name] / cpu
        print(f"{name:24}{wall:9.3f}{cpu:9.3f}{rate[name] / 1e9:13.0f}{rate[name] / peak:9.0%}")
    ratio = statistics.median(pair["nn.Sequential in turn"][0] / pair["xflux"][0] for pair in found)
    print(f"xflux is {ratio:.2f} times as fast (median of {args.pairs} pairs); the step reaches "
          f"{rate['xflux'] / rate['forward kernel']:.0%} of the forward kernel's rate (to reach: 60 %)")  # fmt: skip


def peak_gib() -> float:
    """The process's largest memory until now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def daily(args) -> None:
    """A full constraint over all pixels and days, from a lazy Zarr store: seconds per step and the peak of memory."""
    with tempfile.TemporaryDirectory() as folder:
        towers, grid, weights, target = world(args.pixels, "dayofyear", args.towers, f"{folder}/drivers.zarr")
        constraint = train.RegionalConstraint(target, grid, integral="full", regions=weights, total=bool(args.train))
        started = peak_gib()
        if args.train:
            fitted(args, towers, constraint)
            return
        run, order = training(args, towers, constraint)
    before = peak_gib()
    seconds = [timed(lambda: run._step(order))[0] for _ in range(args.daily_steps)]
    rows = (args.batch + args.pixels * 365) * args.members
    print(f"full over {args.pixels} pixels x 365 days, {args.members} members: {min(seconds):.1f} s/step, "
          f"{FLOP * rows / min(seconds) / 1e9:.0f} GFLOP/s, peak {peak_gib():.2f} GiB ({started:.2f} when the data "
          f"were written, {before:.2f} before the first step)")  # fmt: skip


def fitted(args, towers, constraint) -> None:
    """A whole run of the full daily constraint, against the planted flux."""
    config = train.TrainConfig(folds=args.members, max_epochs=args.train, batch=args.batch)
    start = time.perf_counter()
    history = train.fit(towers, DRIVERS, constraints=[constraint], config=config, progress=True).history
    target = 12 * float(constraint.target.mean(("inversion", "time")).sum())
    steps = history.attrs["steps_per_epoch"] * history.sizes["epoch"]
    integral = history["ATM_integral"].isel(epoch=-1)
    loss = history["validation_loss"].mean("member").isel(epoch=[0, -1]).values
    print(f"full over {args.pixels} pixels x 365 days, {args.members} members, {steps} steps in "
          f"{time.perf_counter() - start:.0f} s, peak {peak_gib():.2f} GiB: {float(integral.mean()):.2f} ± "
          f"{float(integral.std(ddof=1)):.2f} PgC/yr, planted {target:.2f}; held-out losses "
          f"({', '.join(history.term.values)}) {loss[0].round(3)} -> {loss[1].round(3)}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("members", 10), ("batch", 10_000), ("rows", 131_004), ("pixels", 59_700), ("towers", 310_000),
        ("pairs", 5), ("sgemm", 3000), ("daily-steps", 2), ("train", 0),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--daily", action="store_true", help="only the full constraint on daily drivers")
    args = parser.parse_args()
    daily(args) if args.daily else pairs(args)


if __name__ == "__main__":
    main()
