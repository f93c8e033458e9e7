"""A training step of ten members against ten ``nn.Sequential`` one after another, and a full daily constraint.

    python benchmarks/train_step.py                 # 5 pairs of steps; needs about a minute and 2 GiB
    python benchmarks/train_step.py --daily         # instead: `full` over 60 000 pixels x 365 days: minutes, 3 GiB

Prints medians, their ratio, and the share of the machine's large-sgemm rate (18 560 flop per row and member: forward,
and forward again with backward, of 10 -> 32 -> 32 -> 32 -> 1).
"""

import argparse
import resource
import statistics
import sys
import time

import numpy as np
import torch
import xarray as xr

from xflux import train
from xflux.train.data import Setting, tower_rows

DRIVERS = [f"driver{i}" for i in range(10)]
FLOP = 18_560
REGIONS = 18


def sgemm_rate(size: int = 3000) -> float:
    """Flop per second of the machine's large single-precision matrix product."""
    a = torch.randn(size, size)
    best = np.inf
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def world(pixels: int, steps: str, tower_samples: int) -> tuple[xr.Dataset, xr.Dataset, xr.DataArray, xr.DataArray]:
    """Towers, a grid with `pixels` valid cells, region weights, and a target."""
    rng = np.random.default_rng(0)
    n_steps = {"month": 12, "dayofyear": 365}[steps]
    n_lat = 180
    n_lon = -(-pixels // n_lat)
    shape = (n_lat, n_lon)
    lat, lon = np.linspace(-89.5, 89.5, n_lat), np.linspace(-180, 180, n_lon, endpoint=False)
    valid = np.arange(n_lat * n_lon).reshape(shape) < pixels
    grid = xr.Dataset(coords={steps: np.arange(1, n_steps + 1), "lat": lat, "lon": lon})
    for name in DRIVERS:
        field = rng.standard_normal((n_steps, *shape), dtype=np.float32)
        grid[name] = ((steps, "lat", "lon"), np.where(valid, field, np.float32(np.nan)))
    weights = np.zeros((REGIONS, *shape))
    land = np.cos(np.deg2rad(lat))[:, None] * 1e9 * np.ones(n_lon)
    for r in range(REGIONS):
        weights[r, r * 10 : (r + 1) * 10] = land[r * 10 : (r + 1) * 10]
    labels = [f"R{r}" for r in range(REGIONS)]
    weights = xr.DataArray(
        weights, dims=("region", "lat", "lon"), coords={"region": labels, "lat": lat, "lon": lon}, attrs={"units": "m2"}
    )
    values = rng.normal(size=(25, REGIONS, 48)) * 0.1
    target = xr.DataArray(
        values,
        dims=("inversion", "region", "time"),
        coords={"region": labels, "time": xr.date_range("2015-01-01", periods=48, freq="MS")},
        attrs={"units": "PgC month-1"},
    )
    x = rng.normal(size=(tower_samples, 10))
    towers = xr.Dataset({name: ("sample", x[:, i]) for i, name in enumerate(DRIVERS)})
    towers["nee"] = ("sample", x[:, 0] - np.maximum(x[:, 1], 0), {"units": "gC m-2 d-1"})
    sites = np.array([f"S{n:03d}" for n in rng.integers(0, 180, tower_samples)])
    place = {name: ("sample", np.zeros(tower_samples)) for name in ("lat", "lon")}
    return towers.assign_coords(site=("sample", sites), **place), grid, weights, target


def training(args, towers, constraint):
    """A run of the trainer that is ready to step, and the order of its tower rows."""
    module = sys.modules["xflux.train.fit"]
    config = train.TrainConfig(folds=args.members)
    rows = tower_rows(towers, DRIVERS, ["nee"], args.members, 0)
    setting = Setting(0, 2, torch.float32, torch.device("cpu"), config.block_rows, ("nee",))
    run = module.Training(rows, module._terms(towers, [constraint], rows, config, setting), config, setting)
    for term in run.terms:
        term.start_epoch(0)
        term.renew(run.network)
    order = np.stack([run._order(m, 0)[: args.batch] for m in run.members])
    return run, order


class Separate:
    """The peer: one nn.Sequential, one Adam and one backward per member, over all its rows at once."""

    def __init__(self, args, run, order):
        (term,) = run.terms
        values = term.integral.pixels.rows.groups[0][1]
        at = np.random.default_rng(0).integers(0, len(values), (args.members, args.rows // 12))
        self.x = [run.x[torch.as_tensor(o), :, 0] for o in order]
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


def timed(step) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def pairs(args) -> None:
    towers, grid, weights, target = world(args.pixels, "month", args.towers)
    constraint = train.RegionalConstraint(
        target, grid, integral="sampled", regions=weights, pixels=args.rows // 12, total=True
    )
    run, order = training(args, towers, constraint)
    peer = Separate(args, run, order)
    rate = sgemm_rate(args.sgemm)
    for _ in range(2):
        run._step(order), peer.step()
    found = [(timed(lambda: run._step(order)), timed(peer.step)) for _ in range(args.pairs)]
    ours, theirs = (statistics.median(column) for column in zip(*found, strict=True))
    ratio = statistics.median(b / a for a, b in found)
    rows = (args.batch + args.rows) * args.members
    print(f"threads {torch.get_num_threads()}, large sgemm {rate / 1e9:.0f} GFLOP/s")
    print(f"{args.members} members, {args.batch} tower rows and {args.rows} regional rows each")
    print(f"{'':24}{'s/step':>10}{'GFLOP/s':>10}{'of sgemm':>10}")
    for name, seconds in (("xflux", ours), ("nn.Sequential in turn", theirs)):
        print(f"{name:24}{seconds:10.3f}{FLOP * rows / seconds / 1e9:10.0f}{FLOP * rows / seconds / rate:10.0%}")
    print(f"xflux is {ratio:.2f} times as fast (median of {args.pairs} pairs)")


def daily(args) -> None:
    """A full constraint over all pixels and days: seconds per step and the peak of memory."""
    towers, grid, weights, target = world(args.pixels, "dayofyear", args.towers)
    constraint = train.RegionalConstraint(target, grid, integral="full", regions=weights)
    run, order = training(args, towers, constraint)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    del grid, constraint
    seconds = [timed(lambda: run._step(order)) for _ in range(args.daily_steps)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    rows = (args.batch + args.pixels * 365) * args.members
    print(f"full over {args.pixels} pixels x 365 days, {args.members} members: {min(seconds):.1f} s/step, "
          f"{FLOP * rows / min(seconds) / 1e9:.0f} GFLOP/s, peak {peak:.2f} GiB ({before:.2f} before the first step, "
          "the drivers of this script with it)")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("members", 10), ("batch", 10_000), ("rows", 131_004), ("pixels", 59_700), ("towers", 310_000),
        ("pairs", 5), ("sgemm", 3000), ("daily-steps", 2),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--daily", action="store_true", help="only the full constraint on daily drivers")
    args = parser.parse_args()
    daily(args) if args.daily else pairs(args)


if __name__ == "__main__":
    main()
