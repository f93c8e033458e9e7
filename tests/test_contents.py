"""What a flux says of itself: contents, sign, what it is per m2 of, and the names of what is made of it."""

import numpy as np
import pytest
import xarray as xr

import xflux
from xflux.contents import (
    ContentsError,
    after_adjustment,
    after_sum,
    area_basis,
    assumed_area_basis,
    check_alike,
    check_upward,
    contents,
    riding,
    sign,
    turned,
)

DOWN = "surface_net_downward_mass_flux_of_carbon_dioxide_expressed_as_carbon_due_to_all_land_processes"
UP = "surface_upward_mass_flux_of_carbon_dioxide_expressed_as_carbon_due_to_emission_from_fires"


def flux(name=None, values=(1.0, 2.0, 4.0), **attrs):
    return xr.DataArray(list(values), dims="time", name=name, attrs={"units": "gC m-2 d-1", **attrs})


@pytest.mark.parametrize(
    ("methods", "basis"),
    [
        ("area: mean where land", "land"),
        ("area: mean where land time: mean", "land"),
        ("time: mean area: mean where land", "land"),
        ("area: time: mean where land", "land"),
        ("time: mean (interval: 30 minutes) area: mean where land (comment: as sampled)", "land"),
        ("area: mean where land time: mean within years time: mean over years", "land"),
        ("lat: lon: mean where land", "land"),
        ("area: mean where vegetation over land", "land"),
        ("area: mean where land over all_area_types", "cell"),
        ("area: mean", "cell"),
        ("area: time: mean", "cell"),
        ("area: mean time: mean (of cells where land is)", "cell"),
        ("area: sum", None),
        ("area: sum where land", None),
        ("time: mean", None),
        ("longitude: mean", None),
        ("none of it", None),
        ("", None),
    ],
)
def test_cell_methods(methods, basis):
    assert area_basis(xr.DataArray(attrs={"cell_methods": methods})) == basis


@pytest.mark.parametrize("kind", ["sea", "crops", "ice_free_land"])
def test_a_mean_over_something_else_is_refused(kind):
    flux = xr.DataArray(attrs={"cell_methods": f"area: mean where {kind}"})
    with pytest.raises(ValueError, match=f"per m2 of {kind}"):
        area_basis(flux)
    assert area_basis(flux, "cell") == area_basis(flux.assign_attrs(area_basis="cell")) == "cell"


def test_who_is_believed():
    flux = xr.DataArray(attrs={"area_basis": "cell", "cell_methods": "area: mean where land"})
    assert area_basis(flux) == "cell" and area_basis(flux, "land") == "land"
    for wrong in ({"given": "ocean"}, {}):
        with pytest.raises(ValueError, match="'ocean' is unknown; expected 'land' or 'cell'"):
            area_basis(xr.DataArray(attrs={"area_basis": "ocean"}), **wrong)


def test_nothing_said_is_assumed_with_a_word():
    with pytest.warns(UserWarning, match="area_basis 'cell' is assumed"):
        assert assumed_area_basis(xr.DataArray()) == ("cell", True)
    assert assumed_area_basis(xr.DataArray(), "land") == ("land", False)


# --- contents ---


@pytest.mark.parametrize(
    "no", [0, 0.0, np.float64(0), np.False_, False, "no", "false", "0", b"0", np.array([0]), "No ", "without fire"]
)
@pytest.mark.parametrize("yes", [1, 1.0, True, np.True_, "yes", "TRUE", b"1", np.array([1], "i1"), "Yes, GFED"])
def test_yes_and_no_in_whatever_form_files_have_them(yes, no):
    assert contents({"includes_fire": no})["fire"] is False
    assert contents({"includes_fire": yes})["fire"] is True
    for a, b in ((yes, no), (no, yes)):
        with pytest.raises(ContentsError, match=r"contents differ.*fire.*allow_contents=\('fire',\)"):
            flux(includes_fire=a).flux.score(flux(includes_fire=b))


@pytest.mark.parametrize("unknown", [None, "", "partly", np.nan, 7])
def test_what_is_neither_is_unknown(unknown):
    assert contents({"includes_fire": unknown})["fire"] is None
    assert float(flux(includes_fire=unknown).flux.score(flux(includes_fire=1)).rmse) == 0


# --- sign ---


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [
        ({"standard_name": DOWN}, "down"),
        ({"standard_name": UP}, "up"),
        ({"long_name": "net flux of CO2 to the atmosphere"}, "up"),
        ({"long_name": "Flux from atmosphere into land"}, "down"),
        ({"standard_name": "net_primary_productivity_of_biomass_expressed_as_carbon"}, "down"),
        ({"standard_name": "heterotrophic_respiration_carbon_flux"}, "up"),
        ({"positive": "down"}, "down"),
        ({"positive": "Upward"}, "up"),
        ({"standard_name": DOWN, "positive": "down"}, "down"),
        ({"long_name": "Carbon Mass Flux out of Atmosphere due to Net Biospheric Production on Land"}, "down"),
        ({"long_name": "Carbon Mass Flux into Atmosphere due to Fire"}, "up"),
        ({"long_name": "net biome exchange, positive into the atmosphere"}, "up"),
        ({"long_name": "land sink, uptake positive"}, "down"),
        ({"long_name": "terrestrial carbon uptake"}, "down"),
        ({"long_name": "Net Ecosystem Exchange (negative = uptake)"}, "up"),
        ({"long_name": "biosphere flux: uptake negative, release positive"}, "up"),
        ({"long_name": "Net flux of CO2 between atmosphere and land (positive into land)"}, "down"),
        ({"comment": "positive values denote uptake by land"}, "down"),
        ({"sign_convention": "sources are positive"}, "up"),
        ({"positive": b"down"}, "down"),
        ({"long_name": "exchange of carbon by uptake and release"}, None),
        ({"long_name": "ocean uptake"}, None),
        ({"long_name": "net ecosystem exchange"}, None),
        ({"standard_name": "downwelling_photosynthetic_photon_flux_in_air"}, None),
        ({}, None),
    ],
)
def test_sign_as_the_attributes_say_it(attrs, expected):
    assert sign(attrs) == sign(flux(**attrs)) == expected
    assert riding(attrs) == ({"positive": expected} if expected else {})


@pytest.mark.parametrize(("name", "expected"), [("NEE", "up"), ("nbp", "down"), ("NEP", "down"), ("gpp", None)])
def test_sign_by_the_name_unless_something_else_says_it(name, expected):
    assert sign(flux(name)) == expected
    assert sign(flux(name, positive="up")) == "up"
    assert riding(flux(name)) == ({"positive": expected} if expected else {})


@pytest.mark.parametrize("method", ["score", "score_by", "decompose_mse", "spread_skill"])
def test_scores_say_their_sign(method):
    time = {"time": xr.date_range("2001", periods=3, freq="MS")}
    nee, reference = flux("nee").assign_coords(time), flux(positive="up").assign_coords(time)
    pairs = {
        "score": (nee, reference),
        "score_by": (reference, nee, "year"),
        "decompose_mse": (nee, reference),
        "spread_skill": (xr.concat([nee, nee + 1], "member").assign_attrs(nee.attrs), reference),
    }
    assert getattr(xflux.evaluate, method)(*pairs[method]).attrs["positive"] == "up"


def test_a_flux_that_contradicts_itself_is_refused():
    with pytest.raises(ContentsError, match=r"contradicts itself.*positive='up'.*downward.*Drop the one"):
        sign(flux(standard_name=DOWN, positive="up"))
    turned_by_hand = flux("nbp", standard_name=UP)  # −nbe, whose attributes xarray keeps
    with pytest.raises(ContentsError, match=r"\(nbp\) contradicts its standard_name='surface_upward.*Drop that where"):
        turned_by_hand.flux.score(flux("nbe"))
    assert sign(turned_by_hand.drop_attrs()) == "down" and sign(turned_by_hand.assign_attrs(positive="up")) == "up"


def test_opposite_signs_are_not_scored_and_the_remedy_works():
    nbe, nbp = flux("nbe"), flux("nbp", (-1.0, -2.0, -4.0), standard_name=DOWN)
    for a, b in ((nbe, nbp), (nbp, nbe)):
        with pytest.raises(ContentsError, match=r"opposite signs: .*nb.*nb.*xflux.contents.turned"):
            a.flux.score(b)
    assert float(turned(nbp).flux.score(nbe).rmse) == 0
    assert float(nbp.flux.score(nbp).rmse) == 0
    assert float(nbp.flux.score(flux(None, (-1.0, -2.0, -4.0))).rmse) == 0  # nothing said is unknown


def test_turned_has_the_names_that_are_true_and_turns_back():
    nbp = flux("nbp", standard_name=DOWN, long_name="Carbon Mass Flux out of Atmosphere", includes_fire=1)
    up = turned(nbp)
    assert up.name == "nbe" and up.attrs == {"units": "gC m-2 d-1", "includes_fire": 1, "positive": "up"}
    assert turned(up).attrs["positive"] == "down"
    np.testing.assert_array_equal(turned(up), nbp)


def test_only_upward_fluxes_are_adjusted():
    axes = {"lat": [-45.0, 45.0], "lon": [-90.0, 90.0]}
    nbe = xr.DataArray(np.ones((2, 2)), axes, ("lat", "lon"), attrs={"units": "gC m-2 d-1"})
    fire = nbe.assign_attrs(standard_name=UP)
    with pytest.raises(ContentsError, match="the sign of the flux: it is positive downward"):
        xflux.adjust.remove_fire(nbe.assign_attrs(standard_name=DOWN), fire)
    with pytest.raises(ContentsError, match="the sign of fire emissions: it is positive downward"):
        xflux.adjust.remove_fire(nbe, fire.assign_attrs(standard_name=DOWN))
    check_upward(nbe, "the flux")
    assert float(xflux.adjust.remove_fire(nbe, fire).sum()) == 0


# --- basis ---


def test_per_land_is_not_compared_with_per_cell():
    land, cell = flux("nee", area_basis="land"), flux("nee", cell_methods="area: mean")
    for a, b in ((land, cell), (cell, land)):
        with pytest.raises(ValueError, match=r"area_basis differs.*per m2 of"):
            a.flux.score(b)
    amounts = [x.assign_attrs(units="PgC month-1", regions="reccap2") for x in (land, cell)]
    assert check_alike(*amounts) == {"fire": "unknown", "rivers": "unknown"}
    check_alike(land, flux())
    crops = flux(cell_methods="area: mean where crops")
    check_alike(crops, crops)


# --- names of what is made of a flux ---


def test_a_sum_over_regions_loses_the_names_of_a_flux_per_area():
    attrs = {
        "units": "kgC m-2 s-1",
        "standard_name": DOWN,
        "long_name": "Carbon Mass Flux out of Atmosphere [kgC m-2 s-1]",
        "cell_methods": "area: mean where land time: mean",
        "cell_measures": "area: areacella",
        "includes_fire": 1,
    }
    axes = {"lat": [-45.0, 45.0], "lon": [-90.0, 90.0]}
    nbp = xr.DataArray(np.ones((2, 2)), axes, ("lat", "lon"), attrs=attrs)
    found = nbp.flux.aggregate_regions("latitude-bands", units="PgC yr-1", land_fraction=1 + 0 * nbp).attrs
    assert found["positive"] == "down" and found["includes_fire"] == 1 and found["cell_methods"] == "area: sum"
    assert found["long_name"] == "Carbon Mass Flux out of Atmosphere"
    assert not {"standard_name", "cell_measures"} & set(found)
    assert after_sum(flux()) == {"units": "gC m-2 d-1"}


def test_an_adjusted_flux_has_another_name_and_its_own_again_when_that_is_undone():
    nbe = flux("nbe", includes_fire=1, long_name="net biome exchange", standard_name=UP.replace("fires", "x"))
    without = nbe.copy()
    without.attrs = after_adjustment(nbe, "fire", False)
    assert without.attrs == {
        "units": "gC m-2 d-1",
        "includes_fire": 0,
        "long_name": "net biome exchange, without fire",
        "positive": "up",
        "adjusted_for": "fire",
    }
    again = after_adjustment(without, "fire", True)
    assert again["long_name"] == "net biome exchange" and again["includes_fire"] == 1 and "adjusted_for" not in again


def test_a_converted_flux_does_not_name_the_units_that_it_had():
    one = flux(units="kgC m-2 s-1", long_name="net CO2 flux (kgC m-2 s-1), mean [posterior]", standard_name=UP)
    found = one.flux.convert_units("gC m-2 d-1").attrs
    assert found["long_name"] == "net CO2 flux, mean [posterior]" and found["standard_name"] == UP
    assert one.flux.convert_units("kgC m-2 s-1").attrs["long_name"] == one.attrs["long_name"]


def test_names_are_true_of_what_was_made_of_a_flux():
    name = "surface_upward_mass_flux_of_carbon_dioxide_expressed_as_carbon_due_to_net_ecosystem_exchange"
    attrs = {"units": "gC m-2 d-1", "standard_name": name, "long_name": "net exchange (gC m-2 d-1)"}
    time = xr.date_range("2001-01-01", periods=48, freq="MS")
    da = xr.DataArray(np.arange(48.0), {"time": time}, "time", "nee", attrs)
    for detrend, words in (
        (True, "net exchange, annual anomalies, detrended"),
        (False, "net exchange, annual anomalies"),
    ):
        anomalies = da.flux.annual_anomalies(detrend)
        assert anomalies.attrs["long_name"] == words and anomalies.attrs["positive"] == "up"
        spread = da.flux.interannual_variability(detrend)
        assert spread.attrs["long_name"] == f"{words}, standard deviation" and "positive" not in spread.attrs
        assert "standard_name" not in {*anomalies.attrs, *spread.attrs}
    assert da.flux.annual().attrs["standard_name"] == da.flux.mean_seasonal_cycle().attrs["standard_name"] == name
