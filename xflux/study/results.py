"""What a run folder holds beside models and fluxes: regional integrals, what they are compared with, tower predictions.

:func:`write_results` brings all of it into the folder; :class:`Results` reads it, and nothing outside the folder.
"""

import shutil
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from xflux.bridge import load_bridge
from xflux.contents import contents
from xflux.evaluate import score
from xflux.files import at_home
from xflux.reading import blamed_on, netcdf
from xflux.study import inputs as study_inputs
from xflux.study import published
from xflux.study.config import Comparison, StudyConfig
from xflux.study.weather import CHUNK_STEPS

if TYPE_CHECKING:
    from xflux.study.models import Study


def model_label(model: str) -> str:
    """What tables and figures call a model.

    >>> model_label("ec"), model_label("sampled+total")
    ('EC', 'EC-ATM sampled+total')
    """
    return "EC" if model == "ec" else f"EC-ATM {model}"


def in_words(regions: str) -> str:
    """A region set's name in words.

    >>> in_words("latitude-bands"), in_words("reccap2")
    ('latitude bands', 'RECCAP2 regions')
    """
    known = {"reccap2": "RECCAP2 regions", "reccap2-chapters": "RECCAP2 chapters", "transcom": "TransCom regions"}
    return known.get(regions, regions.replace("-", " "))


def slug(variant: str) -> str:
    """File name of a model: ``"sampled+total"`` → ``"ec_atm_sampled_total"``.

    >>> slug("ec"), slug("sampled+total")
    ('ec', 'ec_atm_sampled_total')
    """
    return "ec" if variant == "ec" else "ec_atm_" + variant.replace("+", "_")


def open_flux(run: str | Path, name: str) -> xr.DataArray:
    """NEE of a model's forward run, (member, month | time, lat, lon) gC m-2 d-1, lazy, members in one chunk."""
    return xr.open_zarr(at_home(run) / "flux" / f"{name}.zarr", chunks={"member": -1})["nee"]


def first_step(flux: xr.DataArray) -> xr.DataArray:
    """One step of one member (lat, lon): where a model runs."""
    return flux.isel(member=0).isel({d: 0 for d in ("month", "time")}, missing_dims="ignore").reset_coords(drop=True)


def inversion_halves(target: xr.DataArray, seed: int) -> tuple[list[str], list[str]]:
    """A seeded split of the inversion systems into two halves; both experiments of a system stay together.

    >>> a, b = inversion_halves(xr.DataArray(range(4), coords={"inversion": ["IS/A", "LN/A", "IS/B", "LN/B"]}), 0)
    >>> len(a), len(b), {name[-1] for name in a} & {name[-1] for name in b}
    (2, 2, set())
    """
    names = [str(name) for name in target["inversion"].values]
    systems = sorted({name.rsplit("/", 1)[-1] for name in names})
    drawn = set(np.random.default_rng(seed).permutation(systems)[: len(systems) // 2].tolist())
    first = [name for name in names if name.rsplit("/", 1)[-1] in drawn]
    return first, [name for name in names if name not in first]


# --------------------------------------------------------------------------------------------- into the run folder
def write_results(study: "Study", files: study_inputs.Files) -> None:
    """Write ``integrals/``, ``compared/`` and ``towers/held_out.nc`` from models, fluxes and the study's files."""
    run, config, inputs = study.run.path, study.config, study.inputs
    folder = study.run.fresh("compared")
    folder.mkdir()
    in_time = "time" in open_flux(run, "ec").dims
    references = dict(published.references(config, files, inputs.grid)) if in_time else {}
    integrals, r = of_forward_runs(run, forward_runs(config), region_sets(config), inputs.land_fraction, references)
    for regions, sums in integrals.items():
        sums.to_netcdf(study.run.fresh(f"integrals/{regions}.nc"))
    if references:
        r.to_netcdf(folder / "correlations.nc")
    for number, comparison in enumerate(config.evaluation.maps):
        field = published.read_map(comparison, files[f"evaluation.maps ({comparison.name})"][0])
        field.to_dataset(name="flux").to_netcdf(folder / f"map_{number}.nc")
    if config.evaluation.products:
        found = published.products_by_region(config, files, config.target.years or config.drivers.years)
        xr.Dataset(found).to_netcdf(folder / "products.nc")
    if asked := config.evaluation.plant_types:
        with netcdf(files["evaluation.plant_types.file"][0], "netCDF (evaluation.plant_types)") as dataset:
            dataset[[asked.variable]].drop_encoding().to_netcdf(folder / "plant_types.nc")
    if config.evaluation.series:
        names = [s.name for s in config.evaluation.series]
        read = [published.read_series(s, files[f"evaluation.series ({s.name})"][0]) for s in config.evaluation.series]
        xr.concat(read, xr.Variable("series", names), join="outer").to_netcdf(folder / "series.nc")
    if config.evaluation.budget:
        shutil.copy(files["evaluation.budget.file"][0], folder / "budget.csv")
    if config.evaluation.truth:
        with netcdf(files["evaluation.truth.file"][0], "netCDF (evaluation.truth)") as dataset:
            truth = dataset[config.evaluation.truth.variable].drop_encoding()
            truth.to_dataset(name="nee").to_netcdf(folder / "truth.nc")
    predictions = held_out(run, trained_models(config), inputs)
    climate = study_inputs.tower_climate(files.get("towers.sites", []), predictions["site"].values)
    if climate is not None:
        predictions = predictions.assign_coords(climate=("sample", climate))
    predictions.to_netcdf(study.run.fresh("towers/held_out.nc"))


def region_sets(config: StudyConfig) -> list[str]:
    """The region sets that a study sums over, the target's first."""
    return list(dict.fromkeys([config.target.regions, *config.evaluation.regions]))


def forward_runs(config: StudyConfig) -> list[str]:
    """File names of the models that are run over the globe."""
    return [*(slug(m) for m in ("ec", *config.variants)), *(["half"] if config.held_out_inversions else [])]


def trained_models(config: StudyConfig) -> list[str]:
    """File names of all models that a study trains."""
    blocked = (["ec"] if config.blocked else []) + (config.variants if config.blocked_variants else [])
    return [*forward_runs(config), *(f"blocked_{slug(m)}" for m in blocked)]


def of_forward_runs(
    run: Path, names: list[str], sets: list[str], land_fraction: xr.DataArray, references: dict[str, xr.DataArray]
) -> tuple[dict[str, xr.Dataset], xr.Dataset]:
    """What is found out of forward runs, each of which is read once.

    By region set the integrals of every run, (member, month | time, region) PgC month-1, and ``modelled_share``
    (region), which share of a region's land they cover: they are not scaled up. And of every run Pearson's R of the
    months of its mean with each reference, cell by cell (reference, lat, lon).
    """
    import dask

    first = first_step(open_flux(run, "ec")).load()
    integrals, correlations = {}, {}
    for regions in sets:
        shares = first.flux.aggregate_regions(regions, units="PgC yr-1", land_fraction=land_fraction)["valid_fraction"]
        shares = shares.reset_coords(drop=True).drop_encoding().assign_attrs(units="1")
        integrals[regions] = xr.Dataset({"modelled_share": shares})
    for name in names:
        flux = open_flux(run, name)
        mean = flux.mean("member").reset_coords(drop=True) if references else None
        mean, *sums = dask.compute(mean, *(regional_sums(flux, regions, land_fraction) for regions in sets))
        for regions, own in zip(sets, sums, strict=True):
            integrals[regions][name] = own.drop_encoding()
        if references:
            found = [_r_of_months(mean, reference) for reference in references.values()]
            correlations[name] = xr.concat(found, xr.Variable("reference", [*references]))
    return integrals, xr.Dataset(correlations).astype("float32")


def _r_of_months(ours: xr.DataArray, theirs: xr.DataArray) -> xr.DataArray:
    """Pearson's R of the months that both have (lat, lon)."""
    return score(*xr.align(ours, theirs, join="inner", exclude=("lat", "lon"), copy=False))["r"]


def regional_sums(flux: xr.DataArray, regions: str, land_fraction: xr.DataArray) -> xr.DataArray:
    """Integrals of a forward run, (member, month | time, region) PgC month-1; lazy."""
    sums = flux.flux.aggregate_regions(regions, units="PgC month-1", land_fraction=land_fraction)
    kept = {k: v for k, v in sums.attrs.items() if isinstance(v, str | int | float)}
    return sums.reset_coords(drop=True).transpose("member", ..., "region").drop_attrs().assign_attrs(kept)


def integrals_of(run: str | Path, name: str, regions: str | None = None) -> xr.DataArray:
    """Regional integrals of one forward run, anew from its Zarr store: (member, month | time, region) PgC month-1.

    Parameters
    ----------
    run
        Run folder.
    name
        Of the forward run: "ec", "ec_atm_bridge" …
    regions
        A region set by name; default the target's.

    Raises
    ------
    FileNotFoundError, ValueError
        No run folder of a study, or no such forward run; a part of it is damaged.

    Examples
    --------
    >>> integrals_of("runs/absent", "ec")
    Traceback (most recent call last):
        ...
    FileNotFoundError: 'runs/absent' is no run folder of a study: it has no study.json
    """
    results = Results(run)
    chosen = regions or results.config.target.regions
    return of_forward_runs(results.run, [name], [chosen], results.inputs.land_fraction, {})[0][chosen][name]


def held_out(run: Path, names: list[str], inputs: study_inputs.Inputs) -> xr.Dataset:
    """Flux at every tower day from the member that never saw its site, at the best epoch and (``_last``) the last.

    Sites that have only years that judge belong to no fold, and are left out.
    """
    from xflux.train import load_model

    models = {name: load_model(run / "models" / f"{name}.safetensors") for name in names}
    known = [all(site in m.folds for m in models.values()) for site in inputs.towers["site"].values.tolist()]
    towers = inputs.towers.isel(sample=np.flatnonzero(known))
    rows = np.stack([towers[driver].values for driver in inputs.drivers], axis=1).astype("float32")
    result = towers[["nee"]].rename(nee="observed")
    for name, model in models.items():
        fold = np.array([model.folds[site] for site in towers["site"].values.tolist()])
        order = [inputs.drivers.index(driver) for driver in model.drivers]
        for part, weights in (("", model), ("_last", model.last)):
            values = np.empty(fold.size, "float32")
            for member in np.unique(fold):
                values[fold == member] = weights.predict(rows[fold == member][:, order], member)[0]
            result[name + part] = ("sample", values, {"units": "gC m-2 d-1"})
        result[f"fold_{name}"] = ("sample", fold)
    return result


# ------------------------------------------------------------------------------------------- out of the run folder
class Results:
    """A run folder's numbers: inputs, regional integrals of every model, the inversions, what is compared.

    Parameters
    ----------
    run
        Run folder.

    Raises
    ------
    FileNotFoundError, ValueError
        No run folder of a study; settings that are damaged. A part that is missing or damaged says so when it is read.

    Examples
    --------
    >>> import tempfile
    >>> from importlib import resources
    >>> from xflux.study import load_study
    >>> study = load_study(resources.files("xflux.data") / "upton2024.toml")
    >>> with tempfile.TemporaryDirectory() as run:
    ...     length = (Path(run) / "study.json").write_text(study.model_dump_json())
    ...     Results(run).names, Results(run).sets
    ({'ec': 'ec', 'bridge': 'ec_atm_bridge'}, ['reccap2'])

    Of a run that is done:

    >>> demo = Results("runs/demo-smoke")  # doctest: +SKIP
    >>> demo.series("ec").dims, demo.target_integrals("ec").dims  # doctest: +SKIP
    (('member', 'time', 'region'), ('member', 'month', 'region'))
    >>> demo.has("rivers"), demo.contains("sampled"), demo.cells()  # doctest: +SKIP
    (False, 'NEE (no fire, no rivers)', '644 modelled land cells of 6 degrees')
    >>> demo.budget() is None, demo.composition() is None  # doctest: +SKIP
    (True, True)
    >>> [demo.comparison_map(one).dims for one in demo.config.evaluation.maps]  # doctest: +SKIP
    []
    """

    def __init__(self, run: str | Path):
        self.run = at_home(run)
        if not (self.run / "study.json").exists():
            raise FileNotFoundError(f"{str(self.run)!r} is no run folder of a study: it has no study.json")
        with blamed_on(self.run / "study.json", "the settings of a run"):
            self.config = StudyConfig.model_validate_json((self.run / "study.json").read_text(encoding="utf-8"))
        self.models = ("ec", *self.config.variants)
        self.names = {model: slug(model) for model in self.models}
        self.sets = region_sets(self.config)

    @cached_property
    def inputs(self) -> study_inputs.Inputs:
        """Towers at their drivers, the driver grid, the target."""
        return study_inputs.open_inputs(self.run / "inputs", time=4 * CHUNK_STEPS)  # read for their means alone

    @cached_property
    def regional(self) -> dict[str, xr.Dataset]:
        """Region set → Dataset of every model's integrals, as :func:`integrals` made them."""
        return {name: _load(self.run / "integrals" / f"{name}.nc") for name in self.sets}

    @cached_property
    def integrals(self) -> dict[tuple[str, str], xr.DataArray]:
        """(model, region set) → mean seasonal cycle of the integrals, (member, month, region) PgC month-1."""
        return {
            (str(name), regions): study_inputs.seasonal(sums).transpose("member", "month", "region")
            for regions, dataset in self.regional.items()
            for name, sums in dataset.data_vars.items()
            if name != "modelled_share"
        }

    def target_integrals(self, name: str) -> xr.DataArray:
        """Mean seasonal cycle over the target's regions (member, month, region), PgC month-1.

        Parameters
        ----------
        name
            File name of the model: "ec", "ec_atm_bridge" …

        Raises
        ------
        KeyError, FileNotFoundError
            No such model; a run that is not done.
        """
        return self.integrals[name, self.config.target.regions]

    def series(self, name: str) -> xr.DataArray:
        """The forward run's own months over the target's regions: (member, month | time, region) PgC month-1.

        Parameters
        ----------
        name
            As in :meth:`target_integrals`, with its errors.
        """
        return self.regional[self.config.target.regions][name]

    @cached_property
    def members_mean(self) -> dict[str, xr.DataArray]:
        """File name of a model → mean of its members, in memory: (month | time, lat, lon) gC m-2 d-1."""
        return {n: open_flux(self.run, n).mean("member", keep_attrs=True).load() for n in self.names.values()}

    @cached_property
    def inversions(self) -> xr.DataArray:
        """Mean seasonal cycle of every inversion, (inversion, month, region) PgC month-1."""
        return study_inputs.seasonal(self.inputs.target)

    @cached_property
    def products(self) -> dict[str, xr.DataArray]:
        """Published products beside the models: name → (time, region) PgC month-1."""
        path = self.run / "compared" / "products.nc"
        return {str(n): da for n, da in _load(path).data_vars.items()} if path.exists() else {}

    @cached_property
    def correlations(self) -> xr.Dataset:
        """Correlation in time with gridded references: model (reference, lat, lon); empty where there are none."""
        path = self.run / "compared" / "correlations.nc"
        return _load(path) if path.exists() else xr.Dataset()

    @cached_property
    def one_against_many(self) -> xr.Dataset | None:
        """Models on few inversions each, of :func:`xflux.train.one_against_many`; None where there are none."""
        path = self.run / "one_against_many.nc"
        return _load(path) if self.config.one_against_many.sizes and path.exists() else None

    @cached_property
    def few_targets(self) -> xr.DataArray:
        """Mean seasonal cycle of the inversions that each of them was trained on, (run, month, region)."""
        return (
            study_inputs.seasonal(study_inputs.seen(self.config, self.inputs.target))
            .weighted(self.one_against_many["used"].astype(float))
            .mean("inversion")
        )

    def composition(self) -> xr.Dataset | None:
        """Plant types of the contributing pixels and of the land, by the target's regions; None without a map.

        Raises
        ------
        FileNotFoundError, ValueError
            A run that is not done; a part of it is damaged.
        """
        asked = self.config.evaluation.plant_types
        if not (asked and self.config.bridge.fit):
            return None
        bridge = load_bridge(self.run / "bridge" / f"{self.config.target.regions}.nc")
        return bridge.composition(_load(self.run / "compared" / "plant_types.nc")[asked.variable])

    @cached_property
    def series_beside(self) -> dict[str, xr.DataArray]:
        """Compared series of single years: name → (region, year) PgC yr-1."""
        path = self.run / "compared" / "series.nc"
        if not path.exists():
            return {}
        (joined,) = _load(path).data_vars.values()
        return {str(s): joined.sel(series=s, drop=True).dropna("region", how="all") for s in joined["series"].values}

    @cached_property
    def predictions(self) -> xr.Dataset:
        """Held-out predictions at the towers (sample)."""
        return _load(self.run / "towers" / "held_out.nc")

    @cached_property
    def truth(self) -> xr.DataArray:
        """The true flux, monthly (time, lat, lon), gC m-2 d-1 of land."""
        return _load(self.run / "compared" / "truth.nc")["nee"]

    @cached_property
    def true_cycle(self) -> xr.DataArray:
        """Mean seasonal cycle of the true regional integrals, (month, region) PgC month-1."""
        regions, fraction = self.config.target.regions, self.inputs.land_fraction
        sums = self.truth.flux.aggregate_regions(regions, units="PgC month-1", land_fraction=fraction)
        return study_inputs.seasonal(sums).transpose("month", "region")

    @cached_property
    def labels(self) -> dict[str, str]:
        """File name of a model → what tables call it."""
        labels = {slug(m): model_label(m) for m in self.models} | {"half": "EC-ATM sampled+total on half"}
        distance = self.config.towers.block_distance
        return labels | {f"blocked_{n}": f"{label}, folds blocked at {distance:g} km" for n, label in labels.items()}

    def comparison_map(self, comparison: Comparison) -> xr.DataArray:
        """A compared product's mean flux (lat, lon), per m2 of the whole cell, in the units of its file.

        Parameters
        ----------
        comparison
            One of ``config.evaluation.maps``.

        Raises
        ------
        ValueError, FileNotFoundError
            Another one; a run that is not done.
        """
        return _load(self.run / "compared" / f"map_{self.config.evaluation.maps.index(comparison)}.nc")["flux"]

    def budget(self) -> xr.DataArray | None:
        """Net land flux of the budget by year in PgC yr-1, with rivers where the target has them; None without one."""
        config = self.config.evaluation.budget
        if config is None:
            return None
        table = pd.read_csv(self.run / "compared" / "budget.csv").set_index("Year")
        chosen = -table.loc[config.years[0] : config.years[1], config.variable]
        chosen = chosen - (config.rivers if self.has("rivers") else 0.0)
        return xr.DataArray(chosen.values, {"year": chosen.index.values}, ("year",), attrs={"units": "PgC yr-1"})

    def has(self, content: str) -> bool:
        """Whether the target contains something; unknown counts as no.

        Parameters
        ----------
        content
            "fire" or "rivers".

        Raises
        ------
        KeyError
            Another word.
        """
        return bool(contents(self.inputs.target)[content])

    @property
    def smoke(self) -> bool:
        """Whether this is a smoke run, whose numbers mean nothing."""
        return bool(self.inputs.towers.attrs.get("smoke"))

    @property
    def period(self) -> str:
        """Years of the inversions."""
        return _span(self.inputs.target["time"])

    @property
    def model_period(self) -> str:
        """Years of the towers, and of the drivers that the models run on."""
        grid = self.inputs.grid
        drivers = f"drivers {_span(grid['time'])}" if "time" in grid.dims else "drivers a climatology"
        return f"towers {_span(self.inputs.towers['time'])}, {drivers}"

    def contains(self, model: str) -> str:
        """What a model's flux contains, in words: towers see neither fire nor rivers, inversions may.

        Parameters
        ----------
        model
            As tables call it: "ec", or a variant.
        """
        inside = [content for content in ("fire", "rivers") if self.has(content)]
        if model == "ec" or not inside:
            return "NEE (no fire, no rivers)"
        return f"NBE-like (its target has {' and '.join(inside)} in it)"

    @property
    def target_contains(self) -> str:
        """What the inversions contain, in words."""
        known = contents(self.inputs.target).items()
        words = [f"{c} {'unknown' if has is None else 'in it' if has else 'taken out'}" for c, has in known]
        return f"land flux, {', '.join(words)}"

    def cells(self) -> str:
        """How many cells are modelled, in words."""
        flux = first_step(open_flux(self.run, "ec")).load()
        step = abs(float(flux["lat"][1] - flux["lat"][0]))
        return f"{int(np.isfinite(flux).sum())} modelled land cells of {step:g} degrees"


def _load(path: Path) -> xr.Dataset:
    with netcdf(path, "a part of a run") as dataset:
        return dataset.load()


def _span(time: xr.DataArray) -> str:
    years = time.dt.year
    first, last = int(years.min()), int(years.max())
    return f"{first}" if first == last else f"{first}-{last}"
