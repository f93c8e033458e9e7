"""A regional budget, its seasonal cycle and a figure, from a gridded flux (here that of the synthetic Earth)."""

import xflux
from xflux import synthetic

world = synthetic.earth(resolution=6, years=3)
nbe = world.inversions["nbe"]  # (inversion, time, lat, lon) gC m-2 d-1 of land

# regions + what lies in none of them = the globe
regional = nbe.flux.aggregate_regions(
    "reccap2", units="PgC month-1", land_fraction=world.land_fraction, include_global=True
)
print(regional.flux.annual().mean(("inversion", "time")).round(2).to_series())

# mean ± spread over the inversions, by region and period
print(xflux.regional_budget(nbe, "reccap2", land_fraction=world.land_fraction))

# how far is one inversion from the mean of all, month by month?
print(
    regional.sel(inversion=nbe.inversion[0])
    .flux.score(regional.mean("inversion"), dim="time")["rmse"]
    .round(3)
    .to_series()
)
