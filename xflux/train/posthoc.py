"""Looking back at a trained model: its full regional integrals, and what draws of pixels would have said of them."""

from dataclasses import replace

import numpy as np
import torch
import xarray as xr

from xflux.train.constraints import RegionalConstraint
from xflux.train.data import Scaling, Setting
from xflux.train.fused import torch_after_fork
from xflux.train.model import FluxModel
from xflux.train.network import Network
from xflux.train.regional import RegionalTerm
from xflux.units import usual_rate


@torch_after_fork()
def regional_integrals(model: FluxModel, constraint: RegionalConstraint, draws: int = 0, seed: int = 0) -> xr.Dataset:
    """Regional integrals of a model's flux as a constraint sees them.

    Parameters
    ----------
    model
        A trained model.
    constraint
        Its target gives the regions and the steps; its drivers and land the cells.
    draws
        For ``integral="sampled"``: also that many fresh draws of ``constraint.pixels`` pixels, without control
        variate.
    seed
        Of these draws.

    Returns
    -------
    xarray.Dataset
        ``full (member, region, step)`` in PgC (PgH2O, ZJ) month-1 (an annual step: of its mean month), the steps'
        ``year`` and ``month`` as far as the target has them, and ``strata_std (member, region, step)``, the
        area-weighted spatial standard deviation of the monthly amount within the regions, gC (gH2O, MJ) m-2; for a
        constraint by bridge ``bridge`` (its own, also where training has fitted it anew: ``history`` has that one's
        gap); with ``draws`` ``sampled`` (their mean) and ``sampled_std`` (of one draw).

    Raises
    ------
    KeyError, ValueError
        The constraint does not fit the model: drivers or regions that are missing, other units, another kind of flux.

    Examples
    --------
    >>> layer = {"weight0": np.ones((1, 1, 1)), "bias0": np.zeros((1, 1, 1))}
    >>> model = FluxModel(["flux"], np.zeros(1), np.ones(1), ["nee"], {"nee": "gC m-2 d-1"}, layer)
    >>> grid = xr.Dataset({"flux": (("lat", "lon"), np.ones((2, 2)))}, {"lat": [-45.0, 45], "lon": [-90.0, 90]})
    >>> coords = {"month": range(1, 13), "region": ["0"]}
    >>> target = xr.DataArray(np.zeros((12, 1)), coords, attrs={"units": "PgC month-1"})
    >>> constraint = RegionalConstraint(target, grid, regions=xr.zeros_like(grid.flux, dtype=int), integral="full")
    >>> regional_integrals(model, constraint).full[0, 0, :2].round(2).values.tolist()
    [15.81, 14.41]
    """
    output = constraint.flux or model.target_names[0]
    constraint.check_units(xr.DataArray(name=output, attrs={"units": model.target_units.get(output)}))
    network = _network(model)
    setting = Setting(
        seed, None, network.layers[0][0].dtype, torch.device("cpu"), 1024, tuple(model.target_names),
        units=model.target_units,
    )  # fmt: skip
    scaling = Scaling(tuple(model.drivers), model.mean, model.scale, model.driver_units)
    plain = replace(constraint, control_variate=False, years_per_step=1, anomalies=False)  # of training alone
    term = RegionalTerm(plain, scaling, list(range(model.members)), 0, setting)
    dims, labels = ("member", "region", "step"), {"member": np.arange(model.members), "region": list(term.regions)}
    labels |= {k: ("step", v) for k, v in term.calendar.labels(term.target).items()}
    attrs, found = {"units": f"{term.target.amount} month-1"}, xr.Dataset(coords=labels)
    if term.whole is not None:
        steps = term.whole_calendar.every_step(term.training)
        everything = term.whole.everything()
        found["full"] = (dims, term.whole.estimate(network, *everything, steps).numpy(), attrs)
        density = usual_rate(constraint.target.attrs).removesuffix(" d-1")
        found["strata_std"] = (dims, term.rate * _strata_std(term, network, steps), {"units": density})
    steps = term.calendar.every_step(term.training)
    if constraint.kind == "bridge":
        found["bridge"] = (dims, term.integral.estimate(network, *term.integral.everything(), steps).numpy(), attrs)
    if constraint.kind == "sampled" and draws:
        drawn = []
        for k in range(draws):
            term.start_epoch(k)
            at, area = term.draw_pixels()
            drawn.append(term.integral.estimate(network, at, area, steps).numpy())
        found["sampled"] = (dims, np.mean(drawn, axis=0), attrs)
        found["sampled_std"] = (dims, np.std(drawn, axis=0, ddof=1), attrs)
    return found


def _strata_std(term: RegionalTerm, network: Network, steps) -> np.ndarray:
    at, area = term.whole.everything()
    amount = term.whole.change(network, at, steps, None).double()
    pixels, n = term.whole.pixels, len(term.regions)
    region = pixels.region.gather(1, pixels.share.argmax(1, keepdim=True))[:, 0]
    weight = area[0, :, None]

    def sums(values):
        return torch.zeros(len(values), n, values.shape[-1], dtype=torch.float64).index_add_(1, region, values)

    total = sums(weight[None].expand(1, -1, amount.shape[-1]))
    mean = sums(amount * weight) / total
    return (sums((amount - mean[:, region]) ** 2 * weight) / total).sqrt().numpy()


def _network(model: FluxModel) -> Network:
    """The model's members as a network."""
    n_layers = len(model.weights) // 2
    sizes = [model.weights["weight0"].shape[1], *(model.weights[f"weight{i}"].shape[2] for i in range(n_layers))]
    dtype = torch.float64 if model.weights["weight0"].dtype == np.float64 else torch.float32
    network = Network(sizes, [(0, m) for m in range(model.members)], model.activation, dtype=dtype)
    network.load(model.weights)
    return network
