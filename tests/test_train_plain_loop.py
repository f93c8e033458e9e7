"""EC-ATM against the same run written with torch.nn and NumPy, without xflux's objective, integral and batches."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from train_world import DAYS, DRIVERS, world  # noqa: E402

from xflux import train  # noqa: E402
from xflux.train.network import Network, generator  # noqa: E402

MEMBER, WEIGHT, RATE = 1, 0.3, 0.003


def sequential(seed, member):
    layers = []
    for weight, bias in Network((3, 7, 5, 1), [(seed, member)], dtype=torch.float64).layers:
        linear = torch.nn.Linear(*weight.shape[1:], dtype=torch.float64)
        linear.weight.data, linear.bias.data = weight[0].detach().T.clone(), bias[0, 0].detach().clone()
        layers += [linear, torch.nn.Tanh()]
    return torch.nn.Sequential(*layers[:-1])


def atmospheric(target, estimate, area):
    """Eq. 8-11, region by region and month by month."""
    losses = []
    for r in range(len(area)):
        months = []
        for s in range(target.shape[-1]):
            there = target[:, r, s][np.isfinite(target[:, r, s])]
            if len(there):
                norm = (torch.tensor(there) - estimate[r, s]).abs().pow(3).mean().pow(1 / 3)
                months.append(norm / (1 + there.max() - there.min()))
        losses.append(sum(months) / len(months))
    return sum(a * loss for a, loss in zip(area, losses, strict=True)) / sum(area)


def cycle(target, years):
    """Mean seasonal cycle of each inversion over the years that it has; NaN where it has none."""
    chosen = [target[..., 12 * (year - 2015) :][..., :12] for year in years]
    count = np.isfinite(chosen).sum(0)
    return np.where(count > 0, np.nansum(chosen, 0) / np.maximum(count, 1), np.nan)


def test_ec_atm_equals_a_plain_torch_loop():
    earth = world(step=15, samples=300)
    target = earth.target.copy()
    target.values[1, :, 12:24], target.values[3, 0] = np.nan, np.nan
    top = train.RegionalConstraint(
        target, earth.grid, regions=earth.weights, integral="full", total=True, weight=WEIGHT
    )
    config = train.TrainConfig(
        folds=3, max_epochs=3, batch=64, hidden=(7, 5), activation="tanh", dtype="float64", seed=3, validation_years=1,
        schedule=None, log_variance_rate=4.0,
    )  # fmt: skip
    model = train.fit(earth.towers, DRIVERS, constraints=[top], config=config)

    rows = np.stack([earth.towers[n].values for n in DRIVERS], 1)
    mean, scale = rows.mean(0), rows.std(0)
    x, y = torch.tensor((rows - mean) / scale), torch.tensor(earth.towers.nee.values)
    fold = np.array([model.folds[site] for site in earth.towers.site.values])
    parts = [earth.grid[n].broadcast_like(earth.grid.warm).transpose("month", "lat", "lon") for n in DRIVERS]
    cells = torch.tensor((np.stack([p.values for p in parts], -1) - mean) / scale)
    land, area = torch.tensor(earth.weights.values * 1e-15), earth.weights.values.sum((1, 2))

    out = generator(3, 2, MEMBER).permutation(np.arange(2015, 2019))[:1]
    training, held_out = cycle(target.values, np.setdiff1d(np.arange(2015, 2019), out)), cycle(target.values, out)
    net, log_variance = sequential(3, MEMBER), torch.zeros(3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([{"params": net.parameters()}, {"params": [log_variance], "lr": 4 * RATE}], lr=RATE)
    weight = torch.tensor([1, WEIGHT, WEIGHT], dtype=torch.float64)
    own, mse = np.flatnonzero(fold != MEMBER), torch.nn.functional.mse_loss

    def losses(batch, goal):
        regional = torch.einsum("mij,rij,m->rm", net(cells)[..., 0], land, torch.tensor(DAYS))
        total = atmospheric(goal.sum(1, keepdims=True), regional.sum(0, keepdim=True), [1.0])
        return torch.stack([mse(net(x[batch])[:, 0], y[batch]), atmospheric(goal, regional, area), total])

    steps = model.history.attrs["steps_per_epoch"]
    history = model.history.sel(member=MEMBER)
    for epoch in range(3):
        rng, found = generator(3, 1, MEMBER, epoch), []
        order = rng.permutation(own)
        while len(order) < steps * 64:
            order = np.concatenate([order, rng.permutation(own)])
        for k in range(steps):
            adam.zero_grad()
            found.append(losses(order[64 * k : 64 * k + 64], training))
            (weight * (found[-1] / (2 * log_variance.exp()) + 0.5 * log_variance)).sum().backward()
            adam.step()
        loss = torch.stack(found).mean(0).detach()
        np.testing.assert_allclose(history.loss[epoch], loss, rtol=1e-9)
        np.testing.assert_allclose(history.sigma2[epoch], log_variance.exp().detach(), rtol=1e-9)
        validation = losses(np.flatnonzero(fold == MEMBER), held_out).detach()
        np.testing.assert_allclose(history.validation_loss[epoch], validation, rtol=1e-9)
    np.testing.assert_allclose(model.last.predict(rows)[MEMBER], net(x)[:, 0].detach(), rtol=1e-9, atol=1e-12)
