"""What a flux is per m2 of: said by the caller, by ``area_basis``, by CF ``cell_methods``, or by nobody."""

import pytest
import xarray as xr

from xflux.contents import area_basis, assumed_area_basis


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
