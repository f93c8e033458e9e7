"""Figures: what they draw is the data, at any longitude convention and calendar; small images against baselines.

``pytest tests/test_plot.py -k test_picture --mpl-generate-path=tests/baseline`` draws the baselines anew; look at them
before they are committed.
"""

import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

mpl = pytest.importorskip("matplotlib")
mpl.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

from xflux import plot  # noqa: E402
from xflux.plot.projection import (  # noqa: E402
    outlines,
    project,
    split_cells,
    split_line,
)
from xflux.plot.styling import settings  # noqa: E402

BASELINE = Path(__file__).parent / "baseline"
MONTH = np.arange(1, 13)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def field(step=10.0, west=-180.0, flip=False, name="nee"):
    lat = np.arange(-90 + step / 2, 90, step)
    lon = np.arange(west + step / 2, west + 360, step)
    values = np.sin(np.radians(2 * lat))[:, None] * np.cos(np.radians(lon))[None, :] * 2
    da = xr.DataArray(
        values, dims=("lat", "lon"), coords={"lat": lat, "lon": lon}, name=name, attrs={"units": "gC m-2 d-1"}
    )
    return da.isel(lat=slice(None, None, -1)) if flip else da


def cycles(members=4):
    rng = np.random.default_rng(0)
    wave = xr.DataArray(np.cos(2 * np.pi * MONTH / 12), dims="month", coords={"month": MONTH})
    scale = xr.DataArray([0.3, 1.0, 2.0, 3.3], dims="region", coords={"region": ["BRA", "EU", "RUS", "GLOBAL"]})

    def one(offset, dim=None):
        da = wave * scale + offset
        if dim:
            da = da + xr.DataArray(0.1 * rng.standard_normal(members), dims=dim)
        return da.assign_attrs(units="PgC month-1")

    return {"Inversions": one(0, "inversion"), "EC": one(-1, "member"), "EC-ATM": one(0.1, "member"), "CAMS": one(-0.2)}


def annuals(calendar="standard"):
    def one(offset, members=0):
        time = xr.date_range("2001-01-01", periods=8, freq="YS", calendar=calendar, use_cftime=calendar != "standard")
        da = xr.DataArray(np.sin(np.arange(8.0)) + offset, dims="time", coords={"time": time})
        if members:
            da = da + xr.DataArray(np.linspace(-1, 1, members), dims="member")
        return da.assign_attrs(units="PgC yr-1")

    return {"EC": one(-20, 3), "EC-ATM": one(-3, 3), "Budget": one(-3)}


def mesh_of(ax):
    (mesh,) = [c for c in ax.collections if isinstance(c, mpl.collections.QuadMesh)]
    return mesh


# ------------------------------------------------------------------ projection and seam
def test_equal_earth_keeps_areas():
    for south, north in ((-90, -60), (-10, 10), (30, 70), (60, 90)):
        lat = np.linspace(south, north, 2000)
        x, y = project(np.full(2000, 10.0), lat, "equal-earth")
        area = np.trapezoid(x, y)
        expected = np.radians(10) * (np.sin(np.radians(north)) - np.sin(np.radians(south)))
        np.testing.assert_allclose(area, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="projection is one of"):
        project(np.zeros(1), np.zeros(1), "mercator")


@pytest.mark.parametrize("west", [-180.0, 0.0, -175.0, -300.0, 60.0])
def test_map_has_no_seam_and_the_same_picture_for_any_longitudes(west):
    reference = mesh_of(plot.map(field(), projection="plate-carree"))
    mesh = mesh_of(plot.map(field(west=west), projection="plate-carree"))
    corners = mesh.get_coordinates()
    assert corners[..., 0].min() == -180 and corners[..., 0].max() == 180
    assert (np.diff(corners[0, :, 0]) > 0).all() and not np.ma.is_masked(mesh.get_array())

    def value_at(m, lon, lat):
        at = m.get_coordinates()
        column, row = np.searchsorted(at[0, :, 0], lon) - 1, np.searchsorted(at[:, 0, 1], lat) - 1
        return float(np.asarray(m.get_array()).reshape(at.shape[0] - 1, -1)[row, column])

    if west % 10 == 0:
        for lon, lat in ((-179, 41), (179, -33), (1, 11), (-1, 11), (97, 55)):
            assert value_at(mesh, lon, lat) == pytest.approx(value_at(reference, lon, lat))


def test_a_cell_astride_the_seam_is_cut_in_two():
    borders, index = split_cells(np.arange(5.0, 366, 10), 0.0)
    np.testing.assert_allclose(np.diff(borders).sum(), 360)
    assert index[0] == index[-1] == 17 and len(index) == 37
    borders, index = split_cells(np.array([-20.0, -10, 0, 10]), 0.0)
    assert list(index) == [0, 1, 2] and list(borders) == [-20, -10, 0, 10]


def test_a_regional_field_across_the_dateline_is_not_cut():
    da = field(2.0, west=0.0).sel(lat=slice(-30, 0), lon=slice(160, 200))
    ax = plot.map(da, projection="plate-carree")
    assert np.ptp(ax.get_xlim()) < 50


def test_flipped_latitudes_draw_the_same():
    a, b = (mesh_of(plot.map(field(flip=f), projection="plate-carree")) for f in (False, True))
    flipped = np.asarray(b.get_array()).reshape(18, 36)[::-1]
    np.testing.assert_allclose(np.asarray(a.get_array()).reshape(18, 36), flipped)


def test_lines_are_cut_at_the_seam_only():
    loop = np.array([[170.0, 0.0], [175, 5], [185, 5], [190, 0]])
    parts = split_line(loop, 0.0)
    assert len(parts) == 2 and all(np.ptp(p[:, 0]) < 30 for p in parts)
    assert len(split_line(loop, 180.0)) == 1


def test_outlines_come_from_the_package_and_reach_every_continent():
    lines = outlines("coast")
    points = np.concatenate(lines)
    assert len(lines) > 300 and points[:, 1].max() > 80
    for lon, lat in ((-34.8, -7.1), (18.5, -34.3), (153.6, -28.6), (-9.5, 38.8)):  # capes
        assert np.hypot(points[:, 0] - lon, points[:, 1] - lat).min() < 0.6
    inland = np.hypot(points[:, 0] - 5, points[:, 1] - 16).min()
    assert inland > 5  # no borders among the coasts
    assert sum(map(len, outlines("reccap2"))) > points.shape[0]


# ------------------------------------------------------------------ scales, units, reductions
def test_signed_fluxes_are_centred_on_zero_and_others_are_not():
    signed, gpp = field() + 0.5, (abs(field(name="gpp")) + 1).assign_attrs(units="gC m-2 d-1")
    mesh = mesh_of(plot.map(signed.rename("nee")))
    assert mesh.norm.vmin == -mesh.norm.vmax and mesh.cmap.name == "RdBu_r"
    mesh = mesh_of(plot.map(gpp))
    assert mesh.norm.vmin > 0 and mesh.cmap.name == "viridis"


def test_robust_limits_and_arrows():
    da = field().copy()
    da[0, 0] = 1e6
    ax = plot.map(da)
    assert mesh_of(ax).norm.vmax < 10
    assert mesh_of(ax).colorbar.extend in ("both", "max")
    assert "gC m$^{-2}$ d$^{-1}$" in mesh_of(ax).colorbar.ax.get_xlabel()


def test_map_averages_months_by_their_length_and_says_so():
    da = field().expand_dims(month=MONTH).copy()
    da[:] = np.where(MONTH == 2, 1.0, 0.0)[:, None, None]
    ax = plot.map(da.assign_attrs(units="gC m-2 d-1"))
    np.testing.assert_allclose(mesh_of(ax).get_array(), 28.2425 / 365.2425)
    assert "mean over month" in ax.get_title()


def test_map_needs_lat_and_lon():
    with pytest.raises(ValueError, match="lat"):
        plot.map(xr.DataArray(np.zeros(3), dims="time"))


def test_all_missing_and_constant_fields_are_drawn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for da in (field() * np.nan, field() * 0, field() * 0 + 3):
            plot.map(da).figure.canvas.draw()


def test_several_maps_share_one_scale():
    figure = plot.maps({"EC": field(), "EC-ATM": field() * 3})
    meshes = [c for ax in figure.axes for c in ax.collections if type(c).__name__ == "QuadMesh" and c.colorbar is None]
    norms = {
        (c.norm.vmin, c.norm.vmax)
        for ax in figure.axes
        for c in ax.collections
        if type(c).__name__ == "QuadMesh" and len(c.get_array().ravel()) == 648
    }
    assert len(norms) == 1 and len(meshes) >= 1
    with pytest.raises(ValueError, match="different units"):
        plot.maps({"a": field(), "b": field().assign_attrs(units="gC m-2 yr-1")})


def test_cartopy_axes_keep_their_projection():
    crs = pytest.importorskip("cartopy.crs")
    ax = plt.figure().add_subplot(projection=crs.EqualEarth())
    plot.map(field(), ax)
    ax.figure.canvas.draw()
    assert mesh_of(ax) is not None


# ------------------------------------------------------------------ lines
def test_seasonal_cycle_draws_means_and_spreads():
    data = cycles()
    ax = plot.seasonal_cycle(data, regions="EU")
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(lines["EC"], data["EC"].sel(region="EU").mean("member"))
    assert len(ax.collections) == 3  # CAMS has no members, so no shade
    assert [t.get_text() for t in ax.get_xticklabels()] == list("JFMAMJJASOND")
    assert "PgC month$^{-1}$" in ax.get_ylabel()


def test_seasonal_cycle_makes_a_panel_a_region_and_one_ax_takes_one():
    figure = plot.seasonal_cycle(cycles())
    assert [ax.get_title() for ax in figure.axes if ax.get_visible()] == ["BRA", "EU", "RUS", "Globe"]
    with pytest.raises(ValueError, match="one ax takes one region, got 4"):
        plot.seasonal_cycle(cycles(), plt.figure().add_subplot())
    with pytest.raises(ValueError, match=r"no region \['ATLANTIS'\]"):
        plot.seasonal_cycle(cycles(), regions=["ATLANTIS"])


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
def test_annual_series_of_any_calendar(calendar):
    data = annuals(calendar)
    ax = plot.annual(data, errors={"Budget": 0.9})
    line = next(line for line in ax.lines if line.get_label() == "EC")
    np.testing.assert_array_equal(line.get_xdata(), np.arange(2001, 2009))
    np.testing.assert_allclose(line.get_ydata(), data["EC"].mean("member"))
    assert len(ax.collections) == 3
    plot.global_flux(data).canvas.draw()


def test_the_legend_of_the_global_flux_names_the_lines_of_all_panels():
    ensemble = annuals()["EC"].rename(member="inversion")
    figure = plot.global_flux(
        {"inversions": ensemble}, members=["inversions"]
    )  # (a) draws single ones, (c) their range
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert names == {"inversions, single", "inversions, mean", "inversions, range"}


def test_five_models_at_the_towers_stand_in_rows_and_no_word_is_cut_or_over_another():
    observed, predicted = _tower_data()[:2]
    names = ("EC", "EC-ATM bridge", "EC-ATM sampled", "EC-ATM sampled+total", "EC-ATM two-scales")
    figure = plot.tower_scatter(observed, dict.fromkeys(names, next(iter(predicted.values()))))
    figure.canvas.draw()
    shown = [ax for ax in figure.axes if ax.get_visible()]
    words = [text for ax in shown for text in (ax.title, ax.xaxis.label, ax.yaxis.label) if text.get_text()]
    boxes = [text.get_window_extent() for text in words]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes)
    assert not any(box.overlaps(other) for k, box in enumerate(boxes) for other in boxes[:k])
    assert all(text.get_window_extent().x1 < ax.bbox.x1 for ax in shown for text in ax.texts)
    plt.close(figure)


def test_plant_types_are_named_in_words():
    shares = xr.DataArray([0.4, 0.6], {"pft": ["tropical_forest", "savanna"]}, "pft")
    ax = plot.plant_types(shares, shares)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["tropical forest", "savanna"]


def test_monthly_cftime_series_becomes_a_seasonal_cycle():
    time = xr.date_range("2001-01-01", periods=36, freq="MS", calendar="noleap", use_cftime=True)
    da = xr.DataArray(np.tile(MONTH.astype(float), 3), dims="time", coords={"time": time})
    ax = plot.seasonal_cycle(da.assign_attrs(units="PgC month-1"))
    np.testing.assert_allclose(ax.lines[0].get_ydata(), MONTH)


def test_gridded_flux_becomes_a_global_integral():
    da = field(10.0).expand_dims(month=MONTH) * 0 + 1.0
    da = da.assign_attrs(units="gC m-2 d-1", area_basis="cell")
    ax = plot.seasonal_cycle(da)
    sphere = 4 * np.pi * 6_371_000.0**2
    np.testing.assert_allclose(ax.lines[0].get_ydata()[0], sphere * 31 / 1e15, rtol=1e-6)


def test_history_as_the_trainer_writes_it():
    rng = np.random.default_rng(0)
    history = xr.Dataset(
        {
            "loss": (("epoch", "member", "term"), rng.random((9, 3, 2))),
            "validation_loss": (("epoch", "member", "term"), rng.random((9, 3, 2))),
            "validation": (("epoch", "member"), rng.random((9, 3))),
            "best_epoch": ("member", [4, 5, 9]),
            "learning_rate": ("epoch", rng.random(9)),
            "sigma2": (("epoch", "member", "term"), rng.random((9, 3, 2))),
        },
        coords={"epoch": range(1, 10), "term": ["EC", "bands"]},
    )
    figure = plot.history(history, title="EC-ATM")
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[:2] == ["EC", "bands"] and "best epochs" in titles[2]
    mean = next(line for line in figure.axes[1].lines if line.get_label() == "training")
    np.testing.assert_allclose(mean.get_ydata(), history.loss.sel(term="bands").mean("member"))
    with pytest.raises(ValueError, match="no variable with the dim epoch or step"):
        plot.history(xr.Dataset({"x": ("z", [1.0])}))


# ------------------------------------------------------------------ bars, towers, bridges
def test_bars_are_the_means_and_ranges_the_extremes():
    data = {name: da.sum("month", keep_attrs=True).assign_attrs(units="PgC yr-1") for name, da in cycles().items()}
    data = {name: da.drop_sel(region="GLOBAL") for name, da in data.items()}
    ax = plot.regions(data)
    bars = [p for c in ax.containers for p in c.patches]
    by_label = {c.get_label(): [p.get_width() for p in c.patches] for c in ax.containers}
    np.testing.assert_allclose(by_label["EC"], data["EC"].mean("member"))
    spread = data["Inversions"].max("inversion") - data["Inversions"].min("inversion")
    np.testing.assert_allclose(by_label["Inversions, range"], spread)
    points = next(line for line in ax.lines if line.get_label() == "CAMS")
    np.testing.assert_allclose(points.get_xdata(), data["CAMS"])
    assert len(bars) == 9 and [t.get_text() for t in ax.get_yticklabels()] == ["BRA", "EU", "RUS"]
    with pytest.raises(ValueError, match=r"drawn as one of .*'pie'"):
        plot.regions(data, kinds={"EC": "pie"})


def test_the_globe_has_an_axis_of_its_own_above_the_regions():
    flux = xr.DataArray([0.5, -0.3, 90.0], {"region": ["EU", "BRA", "GLOBAL"]}, "region", attrs={"units": "PgC yr-1"})
    ax = plot.regions(flux.assign_coords(region_name=("region", ["Europe", "Brazil", "whole globe"])), title="All")
    globe = ax.figure.axes[1]
    assert [[t.get_text() for t in a.get_yticklabels()] for a in (ax, globe)] == [["Europe", "Brazil"], ["whole globe"]]
    assert ax.get_xlim()[1] < 1 and globe.patches[0].get_width() == 90 and globe.get_title() == "All"
    ax.figure.canvas.draw()
    assert globe.get_window_extent().y0 > ax.get_window_extent().y1


def test_of_many_regions_the_largest_thirty_are_drawn_and_the_title_says_so():
    labels = [f"R{i:03}" for i in range(100)]
    size = np.random.default_rng(0).permutation(100) - 50.0
    flux = xr.DataArray([*size, 1e3], {"region": [*labels, "GLOBAL"]}, "region", attrs={"units": "PgC yr-1"})
    ax = plot.regions(flux)
    order = dict(zip(labels, -abs(size), strict=True))
    shown = [t.get_text() for t in ax.get_yticklabels()]
    assert [order[name] for name in shown] == sorted(order.values())[:30]
    assert ax.figure.axes[1].get_title() == "the largest 30 of 100"
    wave = flux.expand_dims(month=MONTH).assign_attrs(units="PgC month-1")
    figure = plot.seasonal_cycle(wave)
    assert len([a for a in figure.axes if a.get_visible()]) == 31 and "largest 30" in figure.get_suptitle()


def test_what_is_missing_is_not_coloured_like_zero():
    ax = plot.map(field().where(field().lat > 0))
    ground = next(p for p in ax.patches if p.get_zorder() == -2).get_facecolor()
    near_zero = mesh_of(ax).cmap(0.5)
    assert max(abs(a - b) for a, b in zip(ground, near_zero, strict=True)) > 0.12


def test_legends_name_mean_and_range_of_inversions_and_the_lines_of_a_density():
    names = plot.seasonal_cycle(cycles(), regions="EU").get_legend_handles_labels()[1]
    assert {"Inversions, mean", "Inversions, range", "EC"} <= set(names)
    nameless = cycles()["Inversions"].rename("nbe")
    names = plot.seasonal_cycle(nameless, regions="EU").get_legend_handles_labels()[1]
    assert {"inversions, mean", "inversions, range"} == set(names)
    figure = plot.tower_scatter(*_tower_data()[:2])
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["1:1", "least squares"]
    assert figure.axes[-1].get_ylabel() == "Samples in a hexagon"
    norms = {(ax.collections[0].norm.vmin, ax.collections[0].norm.vmax) for ax in figure.axes[:-1]}
    assert len(norms) == 1


def test_latitude_bands_have_north_on_top():
    da = xr.DataArray([1.0, 2, 3], dims="region", coords={"region": ["10S-EQ", "EQ-10N", "10N-20N"]})
    bottom, top = plot.regions(da).get_ylim()
    assert top > bottom


def test_scatter_tells_rmse_and_r2():
    rng = np.random.default_rng(0)
    x = xr.DataArray(rng.standard_normal(500), dims="sample", attrs={"units": "gC m-2 d-1"})
    y = x + 0.5
    y[3] = np.nan
    text = plot.scatter(x, y.assign_attrs(x.attrs)).texts[0].get_text()
    assert "RMSE 0.50" in text and "499" in text
    r2 = 1 - 499 * 0.25 / float(((x - x[y.notnull()].mean())[y.notnull()] ** 2).sum())
    assert f"R² {r2:.2f}" in text
    with pytest.raises(ValueError, match="convert one of them"):
        plot.scatter(x, y.assign_attrs(units="umol m-2 s-1"))
    with pytest.raises(ValueError, match="all NaN"):
        plot.scatter(x, y * np.nan)


def test_bridge_marks_grow_with_the_weight():
    pixels = xr.Dataset(
        {"lat": ("pixel", [0.0, 10, 20]), "lon": ("pixel", [10.0, 200, 350]), "weight": ("pixel", [1.0, 4.0, -2.0])}
    )
    ax = plot.bridge(pixels)
    sizes = {c.get_label(): c.get_sizes() for c in ax.collections if c.get_label().endswith(")")}
    np.testing.assert_allclose(sizes["positive weight (2)"], [45 / 4, 45])
    np.testing.assert_allclose(sizes["negative weight (1)"], [45 / 2])
    with pytest.raises(ValueError, match=r"pixels need \['weight'\]"):
        plot.bridge(pixels.drop_vars("weight"))


# ------------------------------------------------------------------ style
def test_a_product_has_one_colour_everywhere_and_neighbours_differ():
    names = ["EC", "EC-ATM bridge", "EC-ATM sampled", "EC-ATM sampled+total", "inversions", "CAMS", "X-BASE", "Budget"]
    assert len({plot.colour(n, names) for n in names}) == len(names)
    line = plot.seasonal_cycle(cycles(), regions="EU").lines
    paint = {item.get_label(): item.get_color() for item in line}
    assert paint["EC"] == plot.colour("EC") and paint["Inversions, mean"] == plot.colour("inversions")
    others = ["one", "two", "three"]
    lines = plot.annual({n: annuals()["Budget"].rename(None) for n in others}).lines
    assert len({item.get_color() for item in lines}) == 3
    assert plot.annual({"two": annuals()["Budget"]}).lines[0].get_color() == plot.colour("two", ["three"])


def test_no_global_setting_is_changed():
    before = dict(mpl.rcParams)
    plot.map(field())
    plot.seasonal_cycle(cycles())
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    "make",
    [
        lambda: plot.map(field()).figure,
        lambda: plot.seasonal_cycle(cycles()),
        lambda: plot.annual(annuals()).figure,
        lambda: plot.global_flux(annuals()),
    ],
)
def test_text_is_legible_and_inside_the_figure(make):
    figure = make()
    figure.canvas.draw()
    edge, ticks = figure.bbox, _tick_labels(figure)
    texts = [t for t in figure.findobj(mpl.text.Text) if t.get_text().strip() and t.get_visible()]
    shown = [t for t in texts if t.axes is None or (t.axes.get_visible() and t.axes.axison)]
    assert shown and min(t.get_fontsize() for t in shown) >= 6.5
    for text in shown:
        box = text.get_window_extent()
        if id(text) in ticks:
            continue  # tick labels outside the limits exist and are not drawn
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= edge.x1 + 1 and box.y1 <= edge.y1 + 1, text.get_text()


def _tick_labels(figure):
    axes = [axis for ax in figure.findobj(mpl.axes.Axes) for axis in (ax.xaxis, ax.yaxis)]
    ticks = [t for axis in axes for t in (*axis.majorTicks, *axis.minorTicks)]
    return {id(label) for t in ticks for label in (t.label1, t.label2)}


def test_saved_files_do_not_change_from_run_to_run(tmp_path):
    for name in ("a", "b"):
        plot.save(plot.annual(annuals()), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()


def test_accessor_draws_the_same():
    import xflux.accessor  # noqa: F401

    ax = field().flux.plot.map(projection="plate-carree")
    expected = mesh_of(plot.map(field(), projection="plate-carree"))
    np.testing.assert_allclose(mesh_of(ax).get_array(), expected.get_array())
    x = xr.DataArray(np.arange(9.0), dims="time", name="a")
    assert "RMSE 1.00" in (x + 1).flux.plot.scatter(x).texts[0].get_text()


# ------------------------------------------------------------------ images
def _tower_data():
    rng = np.random.default_rng(0)
    x = xr.DataArray(rng.standard_normal(3000), dims="sample", attrs={"units": "gC m-2 d-1"})
    group = xr.DataArray(np.where(np.arange(3000) % 2, "GRA", "EBF"), dims="sample")
    return x, {"EC": 0.5 * x + 0.3, "EC-ATM": 0.8 * x}, group


def _years():
    return xr.concat(
        [field() * s for s in (0.8, 1.0, 1.3)], xr.DataArray([2001, 2002, 2003], dims="year", name="year")
    ).assign_attrs(units="gC m-2 yr-1")


def _months():
    wave = xr.DataArray(np.cos(2 * np.pi * MONTH / 12), dims="month", coords={"month": MONTH})
    return (wave * field()).assign_attrs(units="gC m-2 d-1").transpose("month", ...)


def _pfts(seed, region=False):
    names, rng = ["ENF", "EBF", "GRA", "CRO"], np.random.default_rng(seed)
    if region:
        coords = {"region": ["EU", "BRA", "USA"], "pft": names}
        return xr.DataArray(rng.random((3, 4)), dims=("region", "pft"), coords=coords)
    return xr.DataArray(rng.random(4), dims="pft", coords={"pft": names})


def _nnse(seed):
    values = np.random.default_rng(seed).random(3)
    return xr.DataArray(values, dims="region", coords={"region": ["EU", "BRA", "USA"]})


def _annual_regions():
    return {name: da.mean("month", keep_attrs=True) for name, da in cycles().items()}


def _inversion_cycles():
    data = cycles()
    members = [data["Inversions"].isel(inversion=i, drop=True).assign_attrs(units="PgC month-1") for i in range(3)]
    targets = dict(zip(("CTE", "CAMS", "UoE"), members, strict=True))
    return {name: (da * 0.8 + 0.1).assign_attrs(da.attrs) for name, da in targets.items()}, targets


def _history():
    epochs = np.arange(20.0)
    loss = np.exp(-epochs / 5)[:, None, None] * np.array([1.0, 1.2, 1.4])[None, :, None] * np.array([3.0, 0.5]) + 0.1
    terms = ("epoch", "member", "term")
    coords = {"epoch": np.arange(20), "member": range(3), "term": ["EC", "ATM"]}
    best = ("member", np.array([9, 11, 14]))
    data = {"loss": (terms, loss), "validation_loss": (terms, loss * 1.3), "best_epoch": best}
    return xr.Dataset(data | {"validation": (terms[:2], loss.sum(-1) * 1.3)}, coords)


IMAGES = {
    "map": lambda: plot.map(field()),
    "map_plate_carree": lambda: plot.map(field(west=0.0), projection="plate-carree"),
    "maps": lambda: plot.maps({"EC": field(), "EC-ATM": field() * 0.5}),
    "bridge": lambda: plot.bridge(
        xr.Dataset({"lat": ("pixel", [0.0, 50]), "lon": ("pixel", [300.0, 20]), "weight": ("pixel", [1.0, -0.5])})
    ),
    "regions": lambda: plot.regions(_annual_regions()),
    "annual": lambda: plot.annual(annuals(), errors={"Budget": 0.9}),
    "figure_2": lambda: plot.global_flux(annuals(), errors={"Budget": 0.9}),
    "figure_3": lambda: plot.efficiency({"EC-ATM": _nnse(0), "EC": _nnse(1)}),
    "figure_4": lambda: plot.seasonal_cycle(cycles(), regions=["BRA", "EU", "GLOBAL"]),
    "figure_5": lambda: plot.mean_and_variability({"EC": _years(), "EC-ATM": _years() * 2}),
    "figure_6": lambda: plot.selected_months(_months(), _months() * 0.5),
    "figure_7": lambda: plot.correlation_maps({"Inversions": {"EC-ATM": field() / 2, "EC": field() / 4}}),
    "figure_8": lambda: plot.tower_scatter(*_tower_data()[:2]),
    "figure_9": lambda: plot.site_scatter(*_tower_data(), ["EBF", "GRA"]),
    "figure_A1": lambda: plot.region_map(),
    "figure_B2": lambda: plot.inclusion((abs(field()) * 50).round()),
    "figure_B3": lambda: plot.plant_types(_pfts(0), _pfts(1)),
    "figure_B4": lambda: plot.composition(_pfts(2, region=True)),
    "figure_C1": lambda: plot.seasonal_cycle(cycles()),
    "history": lambda: plot.history(_history()),
    "scatter": lambda: plot.scatter(_tower_data()[0], _tower_data()[1]["EC"]),
    "figure_C2": lambda: plot.tower_scatter(*_tower_data()[:2], by=_tower_data()[2]),
    "figure_C3": lambda: plot.one_against_many(*_inversion_cycles()),
}


# Root mean square of the difference in 0…255 that passes: what is compared has no letters and no place that depends
# on them, so that fonts and freetype do not matter (tested below), and another drawing differs by much more.
TOLERANCE = 4
DPI = 60


def bare(drawn):
    """The figure without its words, legends and the layout that follows from them."""
    figure = getattr(drawn, "figure", drawn) if not hasattr(drawn, "savefig") else drawn
    figure.set_layout_engine("none")
    for text in figure.findobj(mpl.text.Text):
        text.set_alpha(0.0)
    for legend in figure.findobj(mpl.legend.Legend):
        legend.set_visible(False)
    return figure


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.mpl_image_compare(
    baseline_dir="baseline", style="default", tolerance=TOLERANCE, savefig_kwargs={"dpi": DPI}
)
def test_picture(name):
    return bare(IMAGES[name]())


def difference(name, path):
    """What pytest-mpl would find between a figure and a baseline."""
    from matplotlib.testing.compare import compare_images

    figure = test_picture(name)
    figure.savefig(path, dpi=DPI)
    found = compare_images(str(BASELINE / f"test_picture_{name}.png"), str(path), tol=0, in_decorator=True)
    return 0.0 if found is None else found["rms"]


@pytest.mark.parametrize("name", IMAGES)
def test_other_fonts_pass_the_image_test(name, tmp_path, monkeypatch):
    for key in (
        "font.size",
        "axes.titlesize",
        "axes.labelsize",
        "xtick.labelsize",
        "ytick.labelsize",
        "legend.fontsize",
    ):
        monkeypatch.setitem(settings(), key, settings()[key] * 1.1)
    with mpl.rc_context({"text.hinting": "none", "text.hinting_factor": 1, "font.family": "serif"}):
        assert difference(name, tmp_path / "other.png") < TOLERANCE / 2


WRONG = {
    "map": lambda: plot.map(-field()),
    "map_plate_carree": lambda: plot.map(field(west=0.0).roll(lon=9), projection="plate-carree"),
    "maps": lambda: plot.maps({"EC": field(), "EC-ATM": -field() * 0.5}),
    "regions": lambda: plot.regions(dict(zip(cycles(), reversed(_annual_regions().values()), strict=True))),
    "figure_2": lambda: plot.global_flux({"EC": annuals()["EC"], "EC-ATM": annuals()["EC-ATM"] * 2}),
    "figure_4": lambda: plot.seasonal_cycle({k: -v for k, v in cycles().items()}, regions=["BRA", "EU", "GLOBAL"]),
    "figure_A1": lambda: plot.region_map("reccap2-chapters"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_figure_fails_the_image_test(name, tmp_path, monkeypatch):
    monkeypatch.setitem(IMAGES, name, WRONG[name])
    try:
        assert difference(name, tmp_path / "wrong.png") > TOLERANCE
    except mpl.testing.exceptions.ImageComparisonFailure as error:
        assert "sizes do not match" in str(error)  # other panels, another size: it fails too


def test_every_figure_of_the_paper_has_its_function():
    assert set(plot.PAPER) == set("2 3 4 5 6 7 8 9 A1 B2 B3 B4 C1 C2 C3 C4 C5".split())


def test_the_axis_of_anomalies_says_that_they_are_detrended():
    years = xr.date_range("2001-01-01", periods=5, freq="YS")
    nbe = xr.DataArray(np.arange(5.0), {"time": years}, "time", "nbe", {"units": "PgC yr-1"})
    for detrend, label in ((True, "NBE anomaly, detrended (PgC yr$^{-1}$)"), (False, "NBE anomaly (PgC yr$^{-1}$)")):
        ax = nbe.flux.annual_anomalies(detrend).flux.plot.annual()
        assert ax.get_ylabel() == label
        plt.close(ax.figure)


def test_regions_of_a_map_are_named_where_they_are_and_without_overlap():
    lat, lon = np.arange(55, 60, 0.25), np.arange(100.5, 130)
    field = np.zeros((4, 20, 30))
    field[0, :13, :14], field[1, :13, 14:], field[2, 18, :], field[3, 19, 1:] = 1, 1, 1, 1
    coords = {"region": ["West", "East", "Strip", "Shorter"], "lat": lat, "lon": lon}
    ax = plot.region_map(xr.DataArray(field, coords))
    places = {text.get_text(): text.get_position()[0] for text in ax.texts}
    assert set(places) == {"West", "East", "Strip"}
    assert ax.get_xlim()[0] < places["West"] < 0 < places["East"] < ax.get_xlim()[1]
    plt.close(ax.figure)


def test_nothing_to_draw_is_said_and_no_inclusion_at_all_is_a_blank_map():
    with pytest.raises(ValueError, match="nothing to draw"):
        plot.correlation_maps({})
    with pytest.raises(ValueError, match="the dim pft"):
        plot.plant_types(_pfts(0).rename(pft="type"), _pfts(1).rename(pft="type"))
    assert plot.inclusion(xr.zeros_like(field())).figure.axes


def end_stamped():
    """A monthly flux, and the same in a Dataset of other names with stamps at the ends of its bounds."""
    edges = xr.date_range("2001-01-01", periods=25, freq="MS")
    lat, lon = np.arange(-75.0, 90, 30), np.arange(15.0, 360, 30)
    values = np.random.default_rng(0).normal(size=(24, 6, 12))
    attrs = {"units": "gC m-2 d-1", "area_basis": "cell"}
    da = xr.DataArray(values, {"time": edges[:-1], "lat": lat, "lon": lon}, ("time", "lat", "lon"), "nee", attrs)
    ds = da.assign_coords(time=edges[1:]).to_dataset()
    ds["time_bnds"] = (("time", "bnds"), np.stack([edges[:-1], edges[1:]], axis=1))
    ds["time"].attrs["bounds"] = "time_bnds"
    return da, ds.rename(time="valid_time", lat="latitude", lon="longitude")


@pytest.mark.parametrize("kind", ["annual", "seasonal_cycle", "regions"])
def test_figures_of_a_dataset_go_by_its_bounds_whatever_its_names(kind):
    da, ds = end_stamped()
    axes = [getattr(x.flux.plot, kind)() for x in (da, ds, da.rename(time="valid_time", lat="latitude"))]
    drawn = [[line.get_xydata() for line in ax.lines] + [bar.get_bbox().extents for bar in ax.patches] for ax in axes]
    for one in drawn[1:]:
        np.testing.assert_allclose(np.concatenate(one, axis=None), np.concatenate(drawn[0], axis=None), rtol=1e-12)


def test_scatter_meets_the_same_cells_in_another_order():
    da, _ = end_stamped()
    other = da.assign_coords(lon=(da.lon + 180) % 360 - 180).sortby("lon").sortby("lat", ascending=False)
    ax = other.rename(lat="latitude").flux.plot.scatter(da)
    assert "RMSE 0.00" in ax.texts[0].get_text()


def test_what_is_no_axes_is_refused():
    with pytest.raises(TypeError, match=r"ax is 'transcom'; expected the Axes to draw on"):
        end_stamped()[0].flux.plot.regions("transcom")
