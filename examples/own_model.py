"""A scikit-learn model in place of the network: trained on towers, run over the globe, lazily."""

from sklearn.ensemble import HistGradientBoostingRegressor

import xflux
from xflux import synthetic

world = synthetic.earth(resolution=6, years=2)
grid = world.monthly_drivers  # drivers (month, lat, lon) and (lat, lon)
towers = xflux.colocate(world.towers, grid, max_distance=400)

names = list(grid.data_vars)
rows = towers[names].to_dataarray("driver").transpose("sample", "driver").values
trees = HistGradientBoostingRegressor(max_iter=50).fit(rows, towers["nee"].values)

nee = grid.flux.predict(xflux.wrap(trees, drivers=names, units="gC m-2 d-1"))  # lazy for dask input
regional = nee.flux.aggregate_regions("reccap2", units="PgC month-1", land_fraction=world.land_fraction)
print(regional.sum("month").round(2).to_series())
