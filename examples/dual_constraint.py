"""Towers and inversions constrain one network (Upton et al. 2024): EC, EC-ATM, and whether the bridge holds."""

import xflux
from xflux import synthetic, train

world = synthetic.earth(resolution=6, years=2)
grid, land = world.monthly_drivers, world.land_fraction
towers = xflux.colocate(world.towers, grid, max_distance=400)
config = train.TrainConfig(folds=3, max_epochs=4, seed=0, validation_years=0)

ec = train.fit(towers, drivers=list(grid.data_vars), config=config)
nee = grid.flux.predict(ec).compute()  # (member, month, lat, lon) gC m-2 d-1

bridge = nee.flux.fit_bridge("reccap2", land_fraction=land)
target = world.target.flux.mean_seasonal_cycle()  # (inversion, region, month) PgC month-1
top = train.RegionalConstraint(
    target, drivers=grid, integral="sampled", regions="reccap2", land_fraction=land, pixels=100
)
ec_atm = train.fit(towers, drivers=list(grid.data_vars), constraints=[top], config=config)
constrained = grid.flux.predict(ec_atm).compute()

truth = world.global_mean(world.nee)
for name, field in {"EC": nee, "EC-ATM": constrained}.items():
    total = field.flux.aggregate_regions("reccap2", land_fraction=land).sum(("month", "region"))
    print(f"{name:7s} {float(total.mean()):7.2f} ± {float(total.std()):.2f} PgC/yr (truth {truth:.2f})")
print(bridge.diagnose(constrained, warn=False)[["r2", "slope", "bias"]].to_dataframe().round(2))
