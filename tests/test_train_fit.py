"""Training on towers: recovery of a planted function, members batched or alone, pairing, resume, early errors."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

torch = pytest.importorskip("torch")

from train_world import DRIVERS, truth, world  # noqa: E402

import xflux  # noqa: E402
from xflux import train  # noqa: E402
from xflux.train.network import Network, generator  # noqa: E402

SMALL = train.TrainConfig(folds=3, max_epochs=3, batch=1000, hidden=(16, 16))


@pytest.fixture(scope="module")
def earth():
    return world()


def constraint(earth, **options):
    options = {"integral": "sampled", "regions": earth.weights, "pixels": 200, "sampling_error": 0} | options
    return train.RegionalConstraint(earth.target, earth.grid, **options)


def test_a_planted_function_is_recovered_on_held_out_sites(earth):
    model = train.fit(earth.towers, DRIVERS, config=dataclasses.replace(SMALL, max_epochs=40, batch=500))
    rows = np.stack([earth.towers[name].values for name in DRIVERS], 1)
    fold = np.array([model.folds[s] for s in earth.towers.site.values])
    held_out = model.predict(rows)[fold, np.arange(len(rows))]
    without_noise = truth(*rows.T)
    r2 = 1 - ((held_out - without_noise) ** 2).sum() / ((without_noise - without_noise.mean()) ** 2).sum()
    assert r2 >= 0.98


def test_folds_are_by_site_and_validation_is_on_the_own_fold(earth):
    model = train.fit(earth.towers, DRIVERS, config=SMALL)
    assert set(model.folds) == set(np.unique(earth.towers.site)) and set(model.folds.values()) == {0, 1, 2}
    last = model.last.predict(np.stack([earth.towers[n].values for n in DRIVERS], 1))
    for member in range(3):
        own = np.array([model.folds[s] == member for s in earth.towers.site.values])
        loss = np.mean((last[member][own] - earth.towers.nee.values[own]) ** 2)
        assert model.history.validation_loss.sel(term="EC").isel(epoch=-1, member=member) == pytest.approx(
            loss, rel=1e-4
        )


def test_folds_by_distance_keep_neighbours_together(earth):
    near = earth.towers.assign_coords(lat=earth.towers.lat * 0.01, lon=earth.towers.lon * 0 + 10)
    place = near.lat.values
    model = train.fit(
        near.assign_coords(lat=("sample", place + 5 * (earth.towers.site.values < "S-12"))),
        DRIVERS,
        config=dataclasses.replace(SMALL, folds=2, block_distance=100),
    )
    assert {model.folds[f"S-{n:02d}"] for n in range(12)} != {model.folds[f"S-{n:02d}"] for n in range(12, 24)}
    assert len({model.folds[f"S-{n:02d}"] for n in range(12)}) == 1


def test_an_epoch_is_rows_over_batch_steps(earth):
    model = train.fit(earth.towers, DRIVERS, config=SMALL)
    fold = np.array([model.folds[s] for s in earth.towers.site.values])
    longest = max((fold != k).sum() for k in range(3))
    assert model.history.attrs["steps_per_epoch"] == -(-longest // 1000)


@pytest.mark.parametrize("constrained", [False, True])
def test_batched_members_equal_members_alone_over_100_steps(constrained):
    earth = world(step=15, samples=1200)
    config = dataclasses.replace(SMALL, dtype="float64", max_epochs=20, batch=180, hidden=(8, 8))
    top = [constraint(earth, total=True, pixels=60)] if constrained else []
    together = train.fit(earth.towers, DRIVERS, constraints=top, config=config)
    assert together.history.attrs["steps_per_epoch"] * 20 >= 100
    for member in (0, 2):
        alone = train.fit(earth.towers, DRIVERS, constraints=top, config=dataclasses.replace(config, members=(member,)))
        for name, weights in alone.last_weights.items():
            assert np.abs(weights[0] - together.last_weights[name][member]).max() < 1e-10


def test_equals_a_plain_torch_loop(earth):
    """The same batches, weights and Adam, written with torch.nn: Eq. 5 and nothing else."""
    config = dataclasses.replace(SMALL, dtype="float64", schedule=None)
    model = train.fit(earth.towers, DRIVERS, config=config)
    rows = np.stack([earth.towers[n].values for n in DRIVERS], 1)
    x = torch.tensor((rows - rows.mean(0)) / rows.std(0))
    y = torch.tensor(earth.towers.nee.values)
    fold = np.array([model.folds[s] for s in earth.towers.site.values])
    start = Network((3, 16, 16, 1), [(0, 1)], dtype=torch.float64)
    layers = []
    for weight, bias in start.layers:
        linear = torch.nn.Linear(*weight.shape[1:], dtype=torch.float64)
        linear.weight.data, linear.bias.data = weight[0].detach().T.clone(), bias[0, 0].detach().clone()
        layers += [linear, torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers[:-1])
    adam = torch.optim.Adam(net.parameters(), lr=0.003)
    steps = model.history.attrs["steps_per_epoch"]
    for epoch in range(3):
        rng, own = generator(0, 1, 1, epoch), np.flatnonzero(fold != 1)
        order = rng.permutation(own)
        while len(order) < steps * 1000:
            order = np.concatenate([order, rng.permutation(own)])
        for k in range(steps):
            batch = order[k * 1000 : (k + 1) * 1000]
            adam.zero_grad()
            torch.nn.functional.mse_loss(net(x[batch])[:, 0], y[batch]).backward()
            adam.step()
    found = net(x)[:, 0].detach().numpy()
    assert np.abs(found - model.last.predict(rows)[1]).max() < 1e-9


def test_ec_and_ec_atm_are_paired(earth, monkeypatch):
    """Same seed: the same initial weights, folds, tower batches and number of steps, with or without constraints."""
    from xflux.train.fitting import Trainer

    seen = {}

    def spy(self, order):
        seen.setdefault(key, []).append((order.copy(), [p.detach().clone() for p in self.network.parameters]))
        return step(self, order)

    step = Trainer._step
    monkeypatch.setattr(Trainer, "_step", spy)
    for key, top in {  # noqa: B007 (the spy reads it)
        "EC": [],
        "ATM": [constraint(earth)],
        "total": [constraint(earth, total=True)],
    }.items():
        train.fit(earth.towers, DRIVERS, constraints=top, config=SMALL)
    for key in ("ATM", "total"):
        assert len(seen[key]) == len(seen["EC"])
        assert all(np.array_equal(a[0], b[0]) for a, b in zip(seen[key], seen["EC"], strict=True))
        assert all(torch.equal(a, b) for a, b in zip(seen[key][0][1], seen["EC"][0][1], strict=True))


def test_the_same_seed_gives_the_same_numbers_and_another_others(earth):
    runs = [train.fit(earth.towers, DRIVERS, constraints=[constraint(earth)], config=SMALL) for _ in range(2)]
    other = train.fit(earth.towers, DRIVERS, constraints=[constraint(earth)], config=dataclasses.replace(SMALL, seed=1))
    assert all(np.array_equal(runs[0].weights[k], runs[1].weights[k]) for k in runs[0].weights)
    assert runs[0].history.equals(runs[1].history)
    assert not np.array_equal(runs[0].weights["weight0"], other.weights["weight0"])


@pytest.mark.parametrize("constrained", [False, True])
def test_resumed_equals_uninterrupted(earth, tmp_path, constrained):
    top = [constraint(earth, total=True)] if constrained else []
    whole = train.fit(earth.towers, DRIVERS, constraints=top, config=SMALL)

    class Interrupted(Exception):
        pass

    def stop(line):
        raise Interrupted

    path = tmp_path / "run.checkpoint"
    for _ in range(2):
        with pytest.raises(Interrupted):
            train.fit(earth.towers, DRIVERS, constraints=top, config=SMALL, checkpoint=path, progress=stop)
    lines = []
    resumed = train.fit(earth.towers, DRIVERS, constraints=top, config=SMALL, checkpoint=path, progress=lines.append)
    assert len(lines) == 1 and "epoch 3/3" in lines[0] and "steps/s" in lines[0]
    assert all(np.array_equal(whole.weights[k], resumed.weights[k]) for k in whole.weights)
    assert all(np.array_equal(whole.last_weights[k], resumed.last_weights[k]) for k in whole.weights)
    assert whole.history.equals(resumed.history)


def test_a_checkpoint_that_cannot_be_written_is_refused_before_training(earth, tmp_path):
    train.fit(earth.towers, DRIVERS, config=SMALL, checkpoint=tmp_path / "mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    (tmp_path / "notes").write_text("mine")
    for name, words in (("link", "is a link"), ("notes", "is no xflux checkpoint")):
        with pytest.raises(FileExistsError, match=words):
            train.fit(earth.towers, DRIVERS, config=SMALL, checkpoint=tmp_path / name, progress=pytest.fail)


@pytest.mark.parametrize(
    "name",
    [
        "adam.0.exp_avg",
        "adam.1.step",
        "best.weight0",
        "last.bias1",
        "now.bias0",
        "stopped",
        "best_epoch",
        "record.loss",
    ],
)
def test_a_checkpoint_whose_arrays_do_not_fit_is_named(earth, tmp_path, name):
    from xflux.train import checkpoint, files

    path = tmp_path / "run.checkpoint"
    train.fit(earth.towers, DRIVERS, config=SMALL, checkpoint=path)
    words, arrays = files.read(path, checkpoint.KIND)
    for other in ({name: np.zeros((1, 1))}, {name: np.zeros(0)}, {}):
        files.write(path, checkpoint.KIND, words, {k: v for k, v in arrays.items() if k != name} | other)
        with pytest.raises(ValueError, match=r"run\.checkpoint is damaged"):
            train.fit(earth.towers, DRIVERS, config=SMALL, checkpoint=path)


def test_a_checkpoint_of_another_run_is_refused(earth, tmp_path):
    path = tmp_path / "run.checkpoint"
    train.fit(earth.towers, DRIVERS, config=SMALL, checkpoint=path)
    with pytest.raises(ValueError, match=r"checkpoint .* is of another run \(its config differ\)"):
        train.fit(earth.towers, DRIVERS, config=dataclasses.replace(SMALL, batch=500), checkpoint=path)
    with pytest.raises(ValueError, match=r"another run \(its drivers, towers differ\)"):
        train.fit(earth.towers, DRIVERS[::-1], config=SMALL, checkpoint=path)
    path = tmp_path / "resampled.checkpoint"
    train.fit(earth.towers, DRIVERS, config=dataclasses.replace(SMALL, resample_inversions=True), checkpoint=path)
    with pytest.raises(ValueError, match=r"another run \(its config differ\)"):
        train.fit(earth.towers, DRIVERS, config=dataclasses.replace(SMALL, resample_inversions=1), checkpoint=path)
    path = tmp_path / "constrained.checkpoint"
    train.fit(earth.towers, DRIVERS, constraints=[constraint(earth)], config=SMALL, checkpoint=path)
    for change in ({"exponent": 2.0}, {"pixels": 100}, {"misfit": "covariance"}, {"regions_per_step": 1}):
        with pytest.raises(ValueError, match=r"another run \(its ATM settings differ\)"):
            train.fit(earth.towers, DRIVERS, constraints=[constraint(earth, **change)], config=SMALL, checkpoint=path)
    warmer = earth.grid.assign(warm=(earth.grid.warm + 1).assign_attrs(units="1"))
    with pytest.raises(ValueError, match=r"another run \(its ATM drivers differ\)"):
        other = dataclasses.replace(constraint(earth), drivers=warmer)
        train.fit(earth.towers, DRIVERS, constraints=[other], config=SMALL, checkpoint=path)
    path = tmp_path / "run.checkpoint"
    other = earth.towers.assign_coords(site=("sample", np.roll(earth.towers.site.values, 1)))
    with pytest.raises(ValueError, match=r"another run \(its towers differ\)"):
        train.fit(other, DRIVERS, config=SMALL, checkpoint=path)


CHANGED = {  # towers, constraint → other towers, another constraint; and what the message names
    "nothing": (lambda towers, top: (towers, top), None),
    "target in other words": (
        lambda towers, top: (towers, aimed(top, top.target.assign_attrs(units="PgC/month"))),
        None,
    ),
    "two months swapped": (lambda towers, top: (towers, aimed(top, swapped(top.target, "time"))), "ATM target"),
    "two inversions swapped": (
        lambda towers, top: (towers, aimed(top, swapped(top.target, "inversion"))),
        "ATM target",
    ),
    "two regions swapped": (lambda towers, top: (towers, aimed(top, swapped(top.target, "region"))), "ATM target"),
    "target in TgC": (
        lambda towers, top: (towers, aimed(top, top.target.assign_attrs(units="TgC month-1"))),
        "ATM target",
    ),
    "mirrored regions": (lambda towers, top: (towers, bounded(top, top.regions[:, ::-1])), "ATM regions"),
    "regions' names swapped": (
        lambda towers, top: (
            towers,
            bounded(top, top.regions.assign_coords(region=top.regions.region.values[[1, 0, 2]])),
        ),
        "ATM regions",
    ),
    "two months of drivers swapped": (
        lambda towers, top: (towers, dataclasses.replace(top, drivers=swapped(top.drivers, "month"))),
        "ATM drivers",
    ),
    "towers' flux in kg": (
        lambda towers, top: (towers.assign(nee=towers.nee.assign_attrs(units="kgC m-2 d-1")), top),
        "targets, towers",
    ),
    "a driver shifted": (
        lambda towers, top: (towers.assign(warm=towers.warm.copy(data=towers.warm + 1.0)), top),
        "tow",
    ),
    "a driver doubled": (
        lambda towers, top: (towers.assign(warm=towers.warm.copy(data=towers.warm * 2.0)), top),
        "tow",
    ),
    "two towers' samples swapped": (
        lambda towers, top: (towers.isel(sample=[1, 0, *range(2, towers.sizes["sample"])]), top),
        "towers",
    ),
    "drivers have units": (
        lambda towers, top: (towers.assign(warm=towers.warm.assign_attrs(units="")), top),
        "drivers",
    ),
    "a tower renamed": (
        lambda towers, top: (
            towers.assign_coords(site=towers.site.str.replace(str(towers.site[0].item()), "new")),
            top,
        ),
        "towers",
    ),
}


def swapped(data, dim):
    """The first two of `dim` exchanged, under the old labels."""
    return data.isel({dim: [1, 0, *range(2, data.sizes[dim])]}).assign_coords({dim: data[dim].values})


def aimed(top, target):
    return dataclasses.replace(top, target=target)


def bounded(top, regions):
    return dataclasses.replace(top, regions=regions.assign_coords(lat=top.regions.lat, lon=top.regions.lon))


@pytest.fixture(scope="module")
def half_done(earth, tmp_path_factory):
    """A checkpoint after one of two epochs, and its constraint: exact sums leave no trace of a swap."""
    target = (np.round(earth.target * 2**14) / 2**14).assign_attrs(earth.target.attrs)
    top = constraint(earth, integral="full", control_variate=False)
    top, path = aimed(top, target), tmp_path_factory.mktemp("half") / "checkpoint"

    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.fit(earth.towers, DRIVERS, constraints=[top], config=TWO, checkpoint=path, progress=stop)
    return path, top


TWO = dataclasses.replace(SMALL, max_epochs=2)


@pytest.mark.parametrize("change", CHANGED)
def test_a_checkpoint_knows_everything_that_its_run_depends_on(earth, half_done, tmp_path, change):
    path, top = half_done
    make, named = CHANGED[change]
    towers, top = make(earth.towers, top)
    path = Path(shutil.copy(path, tmp_path / "checkpoint"))
    if named is None:
        train.fit(towers, DRIVERS, constraints=[top], config=TWO, checkpoint=path)
    else:
        with pytest.raises(ValueError, match=f"checkpoint .* is of another run .its {named}"):
            train.fit(towers, DRIVERS, constraints=[top], config=TWO, checkpoint=path)


def test_a_checkpoint_that_is_old_or_foreign_is_refused_before_training(earth, tmp_path):
    from xflux.train import checkpoint, files

    path = tmp_path / "run.checkpoint"
    files.write(path, checkpoint.KIND, {"config": {}}, {})
    with pytest.raises(ValueError, match=r"run\.checkpoint was written by another version of xflux"):
        train.fit(earth.towers, DRIVERS, config=SMALL, checkpoint=path)
    for wrong in (lambda: path.write_bytes(b"\x89PNG"), lambda: (path.unlink(), path.mkdir())):
        wrong()
        with pytest.raises((ValueError, OSError), match=r"run\.checkpoint"):
            train.fit(earth.towers, DRIVERS, config=SMALL, checkpoint=path)


def test_a_fingerprint_knows_types_shapes_and_order_and_reads_in_pieces(monkeypatch):
    from xflux.train import checkpoint
    from xflux.train.checkpoint import fingerprint

    table = np.arange(60.0).reshape(5, 12)
    same = [table, table.copy(), np.asfortranarray(table), torch.tensor(table)]
    assert len({fingerprint(one) for one in same}) == 1
    others = [table.T, table[::-1], table[:, ::-1], table.astype("f4"), table.ravel(), list(table), (table, None),
              {"a": table}, {"b": table}, xr.DataArray(table), xr.DataArray(table, dims=("a", "b"))]  # fmt: skip
    assert len({fingerprint(one) for one in [table, *others]}) == len(others) + 1
    assert fingerprint(np.array(["ab", "c"])) != fingerprint(np.array(["a", "bc"])) != fingerprint(["a", "bc"])
    whole = fingerprint(table)
    monkeypatch.setattr(checkpoint, "BYTES_AT_ONCE", 100)
    assert fingerprint(table) == whole


def test_numbers_of_numpy_are_settings_as_others(earth, tmp_path):
    config = dataclasses.replace(
        SMALL, seed=np.int64(1), members=np.arange(2), learning_rate=np.float32(0.01), hidden=[16, np.int64(16)]
    )
    path = tmp_path / "run.checkpoint"
    top = constraint(earth, weight=np.float32(0.5), pixels=np.int64(100))
    first = train.fit(earth.towers, DRIVERS, constraints=[top], config=config, checkpoint=path)
    again = train.fit(earth.towers, DRIVERS, constraints=[top], config=config, checkpoint=path)
    assert first.history.equals(again.history) and config.members == (0, 1) and config.hidden == (16, 16)
    assert first.predict(np.zeros((4, 3)), members=np.int64(1)).shape == (1, 4)
    for change in ({"weight": np.float32(0.25)}, {"pixels": np.int64(50)}):
        other = dataclasses.replace(top, **change)
        with pytest.raises(ValueError, match=r"another run \(its ATM settings differ\)"):
            train.fit(earth.towers, DRIVERS, constraints=[other], config=config, checkpoint=path)


def test_best_epoch_is_kept_by_member_and_patience_stops(earth):
    config = dataclasses.replace(SMALL, max_epochs=30, patience=2, learning_rate=0.05, schedule=None)
    model = train.fit(earth.towers, DRIVERS, config=config)
    history = model.history
    best = history.validation.idxmin("epoch")
    assert history.sizes["epoch"] < 30
    rows = np.stack([earth.towers[n].values for n in DRIVERS], 1)
    for member in range(3):
        at = int(history.best_epoch[member])
        until = history.validation.isel(member=member).sel(epoch=slice(None, at + 2))
        assert int(until.idxmin()) == at <= int(best[member]) or at == int(best[member])
        own = np.array([model.folds[s] == member for s in earth.towers.site.values])
        loss = np.mean((model.predict(rows)[member][own] - earth.towers.nee.values[own]) ** 2)
        assert history.validation.sel(epoch=at)[member] == pytest.approx(loss, rel=1e-4)


def test_validation_is_scale_free(earth):
    model = train.fit(earth.towers, DRIVERS, constraints=[constraint(earth, total=True)], config=SMALL)
    loss = model.history.validation_loss
    expected = (loss / loss.isel(epoch=0)).sum("term")
    assert np.allclose(model.history.validation, expected.transpose("epoch", "member"))
    assert (model.history.validation.isel(epoch=0) == 3).all()


def test_cosine_schedule_falls_to_zero_and_none_stays(earth):
    cosine = train.fit(earth.towers, DRIVERS, config=SMALL).history.learning_rate
    flat = train.fit(earth.towers, DRIVERS, config=dataclasses.replace(SMALL, schedule=None)).history.learning_rate
    assert (flat == 0.003).all() and (cosine.diff("epoch") < 0).all() and cosine[-1] < 0.001


def test_several_targets_and_missing_observations(earth):
    towers = earth.towers.assign(gpp=(earth.towers.nee * -2).assign_attrs(units="gC m-2 d-1"))
    towers["gpp"] = towers.gpp.where(np.arange(towers.sizes["sample"]) % 3 > 0)
    config = dataclasses.replace(SMALL, max_epochs=15, batch=500)
    model = train.fit(towers, DRIVERS, target=["nee", "gpp"], config=config)
    out = model.predict(np.zeros((5, 3), np.float32))
    assert out.shape == (2, 3, 5) and model.units == {"nee": "gC m-2 d-1", "gpp": "gC m-2 d-1"}
    assert list(model.history.term.values) == ["EC:nee", "EC:gpp"]
    rows = np.stack([towers[n].values for n in DRIVERS], 1)
    out = model.predict(rows)
    assert np.corrcoef(out[0].mean(0), -0.5 * out[1].mean(0))[0, 1] > 0.95


def test_dropout_and_other_activations_train(earth):
    config = dataclasses.replace(SMALL, dropout=0.1, activation="tanh", max_epochs=5, batch=500)
    loss = train.fit(earth.towers, DRIVERS, config=config).history.validation
    assert (loss.isel(epoch=-1) < loss.isel(epoch=0)).all()


class TestErrors:
    def test_one_site(self, earth):
        one = earth.towers.isel(sample=np.flatnonzero(earth.towers.site == "S-03"))
        with pytest.raises(ValueError, match=r"one site \(S-03\)"):
            train.fit(one, DRIVERS, config=SMALL)

    def test_more_folds_than_sites(self, earth):
        with pytest.raises(ValueError, match=r"30 folds need at least 30 .*24 sites"):
            train.fit(earth.towers, DRIVERS, config=dataclasses.replace(SMALL, folds=30))

    def test_constant_driver(self, earth):
        towers = earth.towers.assign(wet=xr.full_like(earth.towers.wet, 7.1))
        with pytest.raises(ValueError, match="driver wet is constant"):
            train.fit(towers, DRIVERS, config=SMALL)
        small = earth.towers.assign(wet=earth.towers.wet * 1e-12 + 1e-9)
        assert train.fit(small, DRIVERS, config=dataclasses.replace(SMALL, max_epochs=1)).scale[1] < 2e-12

    def test_missing_column(self, earth):
        with pytest.raises(KeyError, match="tower table has no variable snow; it has warm"):
            train.fit(earth.towers, [*DRIVERS, "snow"], config=SMALL)

    @pytest.mark.parametrize(
        ("towers", "drivers", "target", "message"),
        [
            (lambda t: t, [], "nee", r"drivers=\[\]: expected one name at least"),
            (lambda t: t, ["wet", "wet"], "nee", "and none twice"),
            (lambda t: t, ["wet"], [], r"target=\[\]"),
            (lambda t: t, ["wet", "nee"], "nee", "nee: target and driver at once"),
            (lambda t: t.drop_vars("site"), ["wet"], "nee", "no variable site"),
            (lambda t: t.rename(sample="row"), ["wet"], "nee", r"dims \('row',\); expected sample"),
        ],
    )
    def test_what_a_table_needs(self, earth, towers, drivers, target, message):
        with pytest.raises(ValueError, match=message):
            train.fit(towers(earth.towers), drivers, target, config=SMALL)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
    def test_no_gpu(self, earth):
        with pytest.raises(ValueError, match="device='cuda', but this PyTorch sees no GPU"):
            train.fit(earth.towers, DRIVERS, config=dataclasses.replace(SMALL, device="cuda"))

    def test_nan_in_a_driver_is_an_error_or_dropped_with_a_count(self, earth):
        towers = earth.towers.copy(deep=True)
        towers["wet"][:50] = np.nan
        with pytest.raises(ValueError, match=r"50 of 6000 tower rows have NaN in a driver \(wet: 50\).*dropna"):
            train.fit(towers, DRIVERS, config=SMALL)
        config = dataclasses.replace(SMALL, missing_drivers="drop")
        with pytest.warns(UserWarning, match=r"50 of 6000 tower rows .*\(wet: 50\)"):
            model = train.fit(towers, DRIVERS, config=config)
        assert model.attrs["towers_dropped"] == 50

    def test_rows_without_an_observation_are_left_out_with_a_count(self, earth):
        towers = earth.towers.copy(deep=True)
        towers["nee"][:50] = np.nan
        with pytest.warns(UserWarning, match=r"50 of 6000 tower rows .*\(nee: 50\)"):
            model = train.fit(towers, DRIVERS, config=SMALL)
        assert model.attrs["towers_dropped"] == 50

    def test_mostly_nan_is_an_error(self, earth):
        towers = earth.towers.copy(deep=True)
        towers["wet"][:4000] = np.nan
        for missing in ("raise", "drop"):
            with pytest.raises(ValueError, match=r"4000 of 6000 tower rows.*wet: 4000"):
                train.fit(towers, DRIVERS, config=dataclasses.replace(SMALL, missing_drivers=missing))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"schedule": "linear"}, "schedule is 'linear'"),
            ({"activation": "swoosh"}, "activation is 'swoosh'"),
            ({"dtype": "int8"}, "dtype is 'int8'"),
            ({"batch": 0}, "batch is 0; expected at least 1"),
            ({"members": (5,)}, r"members \(5,\).*folds=3"),
            ({"members": ()}, r"members is \(\); expected one fold at least"),
            ({"members": (1, 1)}, r"members is \(1, 1\); expected .* none twice"),
            ({"max_epochs": 2.5}, "max_epochs is 2.5; expected a whole number"),
            ({"dropout": 1.0}, "dropout is 1.0"),
            ({"hidden": 32}, "hidden is 32; expected the widths"),
            ({"learning_rate": -1.0}, "learning_rate=-1.0"),
            ({"validation_years": -1}, "validation_years=-1"),
            ({"missing_drivers": "keep"}, "missing_drivers is 'keep'"),
            ({"resample_inversions": 1.5}, "resample_inversions is 1.5; expected a whole number"),
            ({"resample_inversions": -1}, "resample_inversions is -1"),
        ],
    )
    def test_configuration(self, change, message):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(SMALL, **change)


class TestModelFile:
    @pytest.fixture(scope="class")
    def model(self, earth):
        return train.fit(earth.towers, DRIVERS, constraints=[constraint(earth)], config=SMALL)

    def test_repr_says_what_it_is_and_no_weights(self, model, earth):
        text, html = repr(model), model._repr_html_()
        assert text.startswith("<xflux.FluxModel: 3 members, 3 drivers → nee (gC m-2 d-1)>")
        assert "3 → 16 → 16 → 1, relu, float32" in text and "warm (1), wet (1), green (1)" in text
        assert "3 epochs (best: " in text and "on EC, ATM" in text and "sampled, 3 regions" in text
        assert len(text) < 600 and "array" not in text and "<table>" in html and "sampled, 3 regions" in html
        named = dataclasses.replace(model, driver_units={"warm": "<b>"})
        assert "warm (&lt;b&gt;)" in named._repr_html_()
        assert "epochs" not in repr(dataclasses.replace(model, history=xr.Dataset(), attrs={}))

    def test_round_trip(self, model, tmp_path):
        path = model.save(tmp_path / "model.safetensors")
        loaded = xflux.load_model(path)
        rows = np.random.default_rng(0).normal(size=(700, 3)).astype(np.float32)
        assert np.array_equal(model.predict(rows), loaded.predict(rows))
        assert np.array_equal(model.last.predict(rows), loaded.last.predict(rows))
        assert loaded.history.equals(model.history) and loaded.folds == model.folds
        assert loaded.drivers == DRIVERS and loaded.driver_units == {name: "1" for name in DRIVERS}
        assert loaded.units == "gC m-2 d-1" and loaded.members == 3 and loaded.config["seed"] == 0
        assert loaded.attrs["constraints"][0]["regions"] == ["south", "tropics", "north"]
        assert "provenance" in loaded.attrs

    def test_predict_is_blockwise_member_by_member_and_nan_safe(self, model):
        rows = np.random.default_rng(0).normal(size=(3000, 3)).astype(np.float32)
        rows[5, 1] = np.nan
        out = model.predict(rows)
        assert out.shape == (3, 3000) and np.isnan(out[:, 5]).all() and np.isfinite(np.delete(out, 5, 1)).all()
        assert np.array_equal(model.predict(rows, members=[2])[0], out[2], equal_nan=True)
        assert np.allclose(model.predict(rows[10:11]), out[:, 10:11], rtol=1e-5, atol=1e-6)

    def test_a_prediction_goes_to_netcdf(self, model, earth, tmp_path):
        nee = earth.grid.flux.predict(model, members="mean").rename("nee")
        nee.to_netcdf(tmp_path / "nee.nc")
        with xr.open_dataarray(tmp_path / "nee.nc") as back:
            assert json.loads(back.attrs["constraints"]) == model.attrs["constraints"]

    def test_predict_is_thread_safe(self, model):
        from concurrent.futures import ThreadPoolExecutor

        rows = np.random.default_rng(0).normal(size=(2000, 3)).astype(np.float32)
        expected = model.predict(rows)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: model.predict(rows), range(8)))
        assert all(np.array_equal(f, expected) for f in found)

    def test_wrong_rows(self, model):
        with pytest.raises(ValueError, match=r"shape \(4, 2\); expected \(row, 3\).*warm, wet, green"):
            model.predict(np.zeros((4, 2)))

    def test_a_model_is_the_same_bytes_whenever_it_is_saved(self, model, tmp_path):
        saved = [model.save(tmp_path / f"{number}.safetensors").read_bytes() for number in range(6)]
        assert len(set(saved)) == 1

    def test_damaged_and_foreign_files(self, model, tmp_path):
        path = model.save(tmp_path / "model.safetensors")
        cut = tmp_path / "cut.safetensors"
        cut.write_bytes(path.read_bytes()[:500])
        with pytest.raises(ValueError, match="damaged"):
            train.load_model(cut)
        flipped = bytearray(path.read_bytes())
        flipped[-9] ^= 1  # a bit of a weight, which changes the fluxes and nothing else
        cut.write_bytes(flipped)
        with pytest.raises(ValueError, match="damaged: its contents do not have the checksum"):
            train.load_model(cut)
        (tmp_path / "text").write_text("not a model")
        with pytest.raises(ValueError, match="damaged or is not an xflux model"):
            train.load_model(tmp_path / "text")
        with pytest.raises(FileNotFoundError, match="no file"):
            train.load_model(tmp_path / "absent")

    def test_newer_version(self, model, tmp_path, monkeypatch):
        from xflux.train import files

        monkeypatch.setattr(files, "FORMAT", files.FORMAT + 1)
        path = model.save(tmp_path / "model.safetensors")
        monkeypatch.undo()
        with pytest.raises(ValueError, match="format '2'; this xflux reads up to 1: install a newer xflux"):
            train.load_model(path)

    def test_a_checkpoint_is_no_model(self, earth, tmp_path):
        path = tmp_path / "c"
        train.fit(earth.towers, DRIVERS, config=SMALL, checkpoint=path)
        with pytest.raises(ValueError, match="is no xflux model"):
            train.load_model(path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_devices_agree(earth):
    top = [constraint(earth, integral="full", total=True)]
    found = [
        train.fit(earth.towers, DRIVERS, constraints=top, config=dataclasses.replace(SMALL, device=d))
        for d in ("cpu", "cuda")
    ]
    assert np.allclose(found[0].history.validation_loss, found[1].history.validation_loss, rtol=1e-2)


def test_no_warnings_in_a_clean_run(earth):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train.fit(earth.towers, DRIVERS, constraints=[constraint(earth)], config=SMALL)


def test_a_training_that_ran_away_is_told(earth):
    config = dataclasses.replace(SMALL, learning_rate=1e30, max_epochs=2)
    with np.errstate(all="ignore"), pytest.warns(UserWarning, match="held-out loss of member 0, 1, 2 was never finite"):
        train.fit(earth.towers, DRIVERS, config=config)


def test_repr_of_constraints_has_no_arrays(earth):
    top = train.RegionalConstraint(earth.target, earth.grid, regions=earth.weights, total=True)
    assert "total=True" in repr(top) and "integral: sampled" in repr(top) and len(repr(top)) < 600
    footprint = earth.grid.warm.isel(month=0, drop=True).expand_dims(obs=3)
    linear = train.LinearConstraint(footprint, footprint.mean(("lat", "lon")), 0.1, earth.grid, name="TALL")
    assert "LinearConstraint: TALL" in repr(linear) and len(repr(linear)) < 200


FORKED = """
import multiprocessing, sys
import numpy as np, xarray as xr
from xflux.train import TrainConfig, fit

k = np.arange(6000)
coords = {"site": ("sample", np.array(list("abc"))[k % 3]), "lat": ("sample", 0.0 * k), "lon": ("sample", 0.0 * k)}
towers = xr.Dataset({"x": ("sample", np.sin(k)), "nee": ("sample", np.cos(k), {"units": "gC m-2 d-1"})}, coords)

def result(activation):
    model = fit(towers, ["x"], config=TrainConfig(folds=3, max_epochs=1, hidden=(32, 32), activation=activation))
    return model.history.loss.values.tolist(), model.predict(towers.x.values[:, None]).sum(1).tolist()

def child(activation, pipe):
    pipe.send(result(activation))

for activation in ("relu", "tanh"):
    here = result(activation)
    ours, theirs = multiprocessing.Pipe(False)
    multiprocessing.get_context("fork").Process(target=child, args=(activation, theirs), daemon=True).start()
    assert ours.poll(60), f"{activation}: no end"
    assert np.allclose(np.ravel(ours.recv()[0]), np.ravel(here[0]), rtol=1e-5), activation
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_trains_as_its_parent(tmp_path):
    """The threads that the parent has used do not exist in the child, which would wait for them for ever."""
    script = tmp_path / "forked.py"
    script.write_text(FORKED)
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["string", "str", "category", "S8", object])
def test_names_of_sites_may_be_text_of_any_type(earth, kind):
    import pandas as pd

    names = pd.Series(earth.towers.site.values.astype(str)).astype(kind)
    names = names.array if isinstance(names.dtype, pd.api.extensions.ExtensionDtype) else names.values
    towers = earth.towers.assign_coords(site=("sample", names))
    one = dataclasses.replace(SMALL, max_epochs=1)
    found, right = (train.fit(table, DRIVERS, config=one) for table in (towers, earth.towers))
    assert found.folds == right.folds and found.history.equals(right.history)


def test_a_row_of_weight_two_counts_as_two_rows():
    x = np.tile([-1.0, 1.0], 12)  # so that the drivers' mean and scale do not depend on the weights
    site = np.repeat(["A", "B", "C"], 8)
    nee = ("sample", np.random.default_rng(0).normal(size=24), {"units": "gC m-2 d-1"})
    towers = xr.Dataset({"x": ("sample", x), "nee": nee, "days": ("sample", np.tile(np.repeat([1.0, 2.0], 4), 3))})
    towers = towers.assign_coords(site=("sample", site), lat=("sample", np.zeros(24)), lon=("sample", np.zeros(24)))
    repeated = towers.isel(sample=np.repeat(np.arange(24), towers.days.values.astype(int)))
    shared = dict(folds=3, max_epochs=3, dtype="float64", batch=100)
    weighted = train.fit(towers, ["x"], config=train.TrainConfig(weights="days", **shared))
    plain, alike = (train.fit(ds, ["x"], config=train.TrainConfig(**shared)) for ds in (repeated, towers))
    for name in ("loss", "validation_loss"):
        np.testing.assert_allclose(weighted.history[name], plain.history[name])
        assert not np.allclose(weighted.history[name], alike.history[name])
    with pytest.raises(KeyError, match="hours"):
        train.fit(towers, ["x"], config=train.TrainConfig(weights="hours", **shared))
    with pytest.raises(ValueError, match="weights='days': expected a finite number above 0"):
        train.fit(towers.assign(days=towers.days - 1), ["x"], config=train.TrainConfig(weights="days", **shared))
