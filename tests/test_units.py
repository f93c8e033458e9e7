"""Unit strings as people write them: accepted with the right factor, or refused with a reason."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import xflux  # noqa: F401 - registers .flux
from xflux.units import UnitsError, conversion, factor, flux_variables, is_flux, parse, quantity, registry, same

CO2 = 12.011 / 44.009
DAY = 86400.0

# spelling → factor to the reference unit, which follows from the definitions by hand
SPELLINGS = {
    "gC m-2 d-1": {
        "gC m-2 d-1": 1,
        "gC m-2 day-1": 1,
        "g C m-2 d-1": 1,
        "g C m-2 day-1": 1,
        "g(C) m-2 d-1": 1,
        "gC/m2/d": 1,
        "gC/m^2/day": 1,
        "gC/m²/day": 1,
        "g C / m^2 / d": 1,
        "gC m^-2 d^-1": 1,
        "gC m**-2 d**-1": 1,
        "gC m^{-2} d^{-1}": 1,
        "g C m$^{-2}$ d$^{-1}$": 1,
        "gC m⁻² d⁻¹": 1,
        "gC·m⁻²·d⁻¹": 1,
        "gC m−2 d−1": 1,
        "gC m–2 d–1": 1,
        "gC⋅m⁻²⋅d⁻¹": 1,
        "gC × m-2 × d-1": 1,
        "gC m-2d-1": 1,
        "gCm-2d-1": 1,
        "gCm⁻²d⁻¹": 1,
        "gC per square metre per day": 1,
        "gC/sq m/day": 1,
        "gC.m-2.d-1": 1,
        "gC_m-2_d-1": 1,
        "gC*m-2*d-1": 1,
        "gC/(m2 d)": 1,
        "gC m(-2) d(-1)": 1,
        "g[C] m-2 d-1": 1,
        "grams of carbon per m2 per day": 1,
        "gC/(m2*day)": 1,
        "gC per m2 per day": 1,
        "grams C m-2 day-1": 1,
        "grams carbon m-2 day-1": 1,
        "gC m-2 days-1": 1,
        "m-2 d-1 gC": 1,
        "[gC m-2 d-1]": 1,
        " gC m-2 d-1 ": 1,
        "mgC m-2 d-1": 1e-3,
        "mg C m-2 h-1": 24e-3,
        "gC m-2 s-1": DAY,
        "gC m-2 hour-1": 24,
        "kgC m-2 s-1": 1000 * DAY,
        "kg C m-2 s-1": 1000 * DAY,
        "kgC/m2/s": 1000 * DAY,
        "kgC.m-2.s-1": 1000 * DAY,
        "kgCO2 m-2 s-1": 1000 * DAY * CO2,
        "kg-CO2/m2/s": 1000 * DAY * CO2,
        "kg(CO2) m-2 s-1": 1000 * DAY * CO2,
        "kg CO_2 m^-2 s^-1": 1000 * DAY * CO2,
        "kgCO2-C m-2 s-1": 1000 * DAY,
        "gCO2 m-2 d-1": CO2,
        "mg CO2 m-2 s-1": DAY * CO2 / 1000,
        "umolCO2 m-2 s-1": 12.011e-6 * DAY,
        "umol CO2 m-2 s-1": 12.011e-6 * DAY,
        "umol m-2 s-1": 12.011e-6 * DAY,
        "umol m-2s-1": 12.011e-6 * DAY,
        "umolCO2m-2s-1": 12.011e-6 * DAY,
        "µmol m-2 s-1": 12.011e-6 * DAY,
        "μmol m⁻² s⁻¹": 12.011e-6 * DAY,
        "micromol CO2 m-2 s-1": 12.011e-6 * DAY,
        "micromoles/m2/s": 12.011e-6 * DAY,
        "mol m-2 s-1": 12.011 * DAY,
        "mol/m2/s": 12.011 * DAY,
        "molC m-2 s-1": 12.011 * DAY,
        "mol CO2 m-2 s-1": 12.011 * DAY,
        "mmol m-2 d-1": 12.011e-3,
        "nmol m-2 s-1": 12.011e-9 * DAY,
        "tC ha-1 d-1": 100,
        "kgC ha-1 d-1": 0.1,
        "tC km-2 d-1": 1,
        '"gC m-2 d-1"': 1,
    },
    "gC m-2 yr-1": {
        "gC m-2 yr-1": 1,
        "gC m-2 a-1": 1,
        "gC per m2 per year": 1,
        "PgC/m2/yr": 1e15,
        "kgC m-2 year-1": 1000,
        "tC/ha/yr": 100,
        "Mg C ha^-1 yr^-1": 100,
        "g CO2 m-2 yr-1": CO2,
        "mol m-2 yr-1": 12.011,
    },
    "gC m-2 month-1": {
        "kgC m-2 month-1": 1000,
        "gC/m2/month": 1,
        "gC m-2 mon-1": 1,
        "kg-CO2/m2/month": 1000 * CO2,
    },
    "PgC yr-1": {
        "PgC yr-1": 1,
        "PgC/yr": 1,
        "Pg C/yr": 1,
        "Pg C yr^{-1}": 1,
        "PgC a-1": 1,
        "PgC per year": 1,
        "GtC yr-1": 1,
        "Gt C / yr": 1,
        "TgC yr-1": 1e-3,
        "MtC/yr": 1e-3,
        "GgC yr-1": 1e-6,
        "tC yr-1": 1e-9,
        "gigatonnes carbon per year": 1,
        "petagrams C yr-1": 1,
        "PgCO2 yr-1": CO2,
        "GtCO2/yr": CO2,
        "TgCO2 yr-1": 1e-3 * CO2,
        "MtCO2 yr-1": 1e-3 * CO2,
        "PgC/yr per grid cell": 1,
        "PgC yr-1 cell-1": 1,
        "TgC/region/yr": 1e-3,
        "Tmol yr-1": 12.011e-3,
    },
    "gC m-2 s-1": {
        "molec cm-2 s-1": 1e4 * 12.011 / 6.02214076e23,
        "molecules CO2 cm-2 s-1": 1e4 * 12.011 / 6.02214076e23,
        "atoms C/cm2/s": 1e4 * 12.011 / 6.02214076e23,
        "molecules m^-2 s^-1": 12.011 / 6.02214076e23,
        "gC m-2 s-1\x00\x00": 1,
        "\xa0gC\xa0m-2\u202fs-1\n": 1,
        "(gC m-2 s-1)": 1,
    },
    "PgC month-1": {"PgC month-1": 1, "TgC/month": 1e-3, "PgCO2 month-1": CO2},
    "PgC": {"PgC": 1, "GtC": 1, "gC": 1e-15, "PgCO2": CO2, "mol": 12.011e-15},
    "W m-2": {"W m-2": 1, "W/m^2": 1, "J m-2 s-1": 1, "MJ m-2 d-1": 1e6 / DAY, "kJ m-2 h-1": 1 / 3.6},
    "W": {"W": 1, "TW": 1e12, "PW": 1e15, "EJ d-1": 1e18 / DAY, "ZJ d-1": 1e21 / DAY},
    "mm d-1": {"mm d-1": 1, "mm/day": 1, "kg H2O m-2 d-1": 1, "kg H2O m-2 s-1": DAY, "cm d-1": 10, "mm h-1": 24,
               "mmolH2O m-2 s-1": 18.015e-6 * DAY},
}  # fmt: skip
ACCEPTED = [(text, reference, k) for reference, group in SPELLINGS.items() for text, k in group.items()]

REFUSED = {
    "g m-2 d-1": "bare mass is ambiguous",
    "kg m-2 s-1": "bare mass is ambiguous",
    "kg m**-2 s**-1": "bare mass is ambiguous",
    "kgm-2s-1": "bare mass is ambiguous",
    "gC m-2-1": "not a unit",
    "Pg yr-1": "bare mass is ambiguous",
    "t ha-1": "bare mass is ambiguous",
    "C": "alone is no amount",
    "deg C": "not known|alone is no amount",
    "CO2": "alone is no amount",
    "C m-2 d-1": "alone is no amount",
    "degC": "not known",
    "K": "not known",
    "hPa": "nothing but m-2",
    "PgC**2": "to the power 1",
    "gC2 m-2 d-1": "to the power 1",
    "gC gC m-2": "to the power 1",
    "gC m-2 d": "to the power -1",
    "gC m-2 s-2": "to the power -1",
    "gC/m2 d": "to the power -1",
    "gC m-2 d-1 yr-1": "at most one unit of time",
    "gC m-3 d-1": "nothing but m-2",
    "gC m2 d-1": "nothing but m-2",
    "gC m-2 (8 days)-1": "not a unit",
    "gC m-2 30min-1": "not a unit",
    "gC m-2 season-1": "not known",
    "kgC m-2 s-1 K-1": "not known",
    "gN m-2 d-1": "not known",
    "MtCO2e yr-1": "not a unit|not known",
    "pgC yr-1": "not known",
    "KgC m-2 s-1": "not known",
    "PgC yr-1.5": "not a unit",
    "1e15 gC yr-1": "not a unit",
    "umol photons m-2 s-1": "not known",
    "m s-1": "a length is no flux",
    "%": "not a unit",
    "kgC/m^2/8day": "'8day' is not a unit, it is the length of the data's step",
    "gC m-2 (8d)-1": "not a unit, it is the length",
    "gC m-2 per 16 days": "not a unit, it is the length",
    "1.e-9 kgC m-2 s-1": "the number '1.e-9' is not a unit: multiply",
    "10^6 tC": r"the number '10\^6' is not a unit",
    "1e-6 kgC m-2 s-1": "the number '1e-6' is not",
    "x10-8 mol m-2 s-1": "the number '10-8' is not",
    "9**9**9**9 gC": "the number",
    "Kg C m-2 s-1": "write 'kgC'",
    "Mt CO2-eq yr-1": "CO2 equivalents",
    "mtC yr-1": "not known",
    "gCs": "not known",
    "W m-2 d-1": "to the power -1",
    "gC**gC": "not a unit",
    "per": "no unit in it",
    "unknown": "not known",
}


def test_there_are_enough_spellings():
    assert len({text for text, *_ in ACCEPTED}) >= 90
    assert len(REFUSED) >= 30


@pytest.mark.parametrize(("text", "reference", "expected"), ACCEPTED)
def test_accepted(text, reference, expected):
    assert factor(text, reference) == pytest.approx(expected, rel=1e-12)
    assert factor(reference, text) == pytest.approx(1 / expected, rel=1e-12)


@pytest.mark.parametrize(("text", "reason"), REFUSED.items())
def test_refused(text, reason):
    with pytest.raises(UnitsError, match=reason):
        parse(text)
    assert not is_flux(text)


@pytest.mark.parametrize("text", [None, 3, b"gC", ["gC"]])
def test_what_is_no_string_is_refused(text):
    with pytest.raises(UnitsError, match="must be a string"):
        parse(text)


def test_carbon_is_not_grams():
    with pytest.raises(UnitsError, match="bare mass is ambiguous"):
        factor("gC", "g")
    with pytest.raises(UnitsError, match="one is C, the other water"):
        factor("gC m-2 d-1", "mm d-1")
    with pytest.raises(UnitsError, match="one is energy, the other C"):
        factor("W m-2", "gC m-2 s-1")


@pytest.mark.parametrize(
    ("source", "target"),
    [("PgC month-1", "PgC yr-1"), ("PgC month-1", "PgC d-1"), ("PgC yr-1", "PgC d-1")],
)
def test_months_and_years_have_no_fixed_length(source, target):
    for pair in ((source, target), (target, source)):
        with pytest.raises(UnitsError, match=r"months and years differ in length; use \.flux\.convert_units"):
            factor(*pair)
    with pytest.raises(UnitsError, match="only one is per time"):
        factor("PgC", "PgC d-1")


def test_per_area_is_not_per_region():
    with pytest.raises(UnitsError, match=r"only one is per area.*cell_area.*aggregate_regions"):
        factor("gC m-2 d-1", "PgC d-1")


@given(
    st.sampled_from(["gC", "kgC", "PgC", "GtCO2", "umol", "mol", "tC", "mg CO2"]),
    st.sampled_from(["gC", "TgC", "mmolC", "kgCO2"]),
    st.sampled_from(["m-2", "ha-1", "km-2"]),
    st.sampled_from(["s-1", "d-1", "h-1", "min-1"]),
)
def test_conversions_chain_and_invert(a, b, area, time):
    source, middle = f"{a} {area} {time}", f"{b} m-2 s-1"
    assert factor(source, "gC m-2 d-1") == pytest.approx(
        factor(source, middle) * factor(middle, "gC m-2 d-1"), rel=1e-12
    )
    assert factor(source, source) == pytest.approx(1, rel=1e-15)


def test_parts_of_a_unit():
    u = parse("kg-CO2/m2/month")
    assert (u.substance, u.per_area, u.time, u.amount) == ("CO2", True, "month", "kgCO2 m-2")
    u = parse("PgC yr-1")
    assert (u.substance, u.per_area, u.time, u.amount) == ("C", False, "year", "PgC")
    assert parse("mol/m2/s").substance == "mol"
    assert parse("PgC").time is None
    assert parse("W m-2").time == "fixed"
    assert parse("m2").substance == "area"
    assert parse("1").substance == "1"


@pytest.mark.parametrize(
    ("attrs", "substance"),
    [
        ({"long_name": "Wildfire flux of Carbon Dioxide"}, "CO2"),
        ({"standard_name": "surface_upward_mass_flux_of_carbon_dioxide_due_to_emission_from_fires"}, "CO2"),
        (
            {"standard_name": "surface_net_downward_mass_flux_of_carbon_dioxide_expressed_as_carbon_due_to_all_land"},
            "C",
        ),
        ({"long_name": "Carbon Mass Flux out of Atmosphere due to Gross Primary Production on Land"}, "C"),
        ({"standard_name": "gross_primary_productivity_of_biomass_expressed_as_carbon"}, "C"),
        ({"species": "co2"}, "CO2"),
        ({"substance": "C"}, "C"),
        ({"standard_name": "water_evapotranspiration_flux"}, "water"),
        ({"long_name": "net CO2 flux (kgC m-2 s-1)"}, "C"),
        ({"long_name": "net CO2 flux [kg C / m2 / s]"}, "C"),
        ({"long_name": "fire emissions in kg CO2-C"}, "C"),
        ({"long_name": "net carbon flux in kgCO2"}, "CO2"),
        ({"long_name": "Mass of carbon dioxide emitted by fires"}, "CO2"),
        ({"standard_name": "surface_upward_flux_of_carbon_expressed_as_carbon_dioxide"}, "CO2"),
        ({"long_name": "net carbon flux, given as CO2"}, "CO2"),
    ],
)
def test_attributes_say_what_a_bare_mass_is(attrs, substance):
    assert parse("kg m-2 s-1", attrs).substance == substance
    assert parse("kg m**-2 s**-1", attrs).per_area


@pytest.mark.parametrize("attrs", [{}, {"long_name": "gross primary production"}])
def test_attributes_that_do_not_say_leave_it_ambiguous(attrs):
    with pytest.raises(UnitsError, match="ambiguous"):
        parse("kg m-2 s-1", attrs)


@pytest.mark.parametrize(
    "name",
    [
        "Posterior net carbon flux from atmospheric CO2 inversion",
        "net biosphere exchange (carbon), CO2 inversion",
        "net flux of carbon, fitted to CO2 observations",
        "C flux from a CO2 inversion",
    ],
)
def test_carbon_beside_co2_is_ambiguous_until_something_says_which(name):
    with pytest.raises(UnitsError, match=r"ambiguous.*speak of carbon and of CO2"):
        parse("kg m-2 s-1", {"long_name": name})
    assert parse("kg m-2 s-1", {"long_name": name, "species": "C"}).substance == "C"
    assert parse("kg m-2 s-1", {"long_name": name, "species": "CO2"}).substance == "CO2"
    assert parse("kg m-2 s-1", {"long_name": f"{name}, expressed as carbon"}).substance == "C"
    assert parse("mol m-2 s-1", {"long_name": name}).substance == "mol"


def test_a_mass_of_another_gas_is_called_by_its_name():
    with pytest.raises(UnitsError, match="this mass is methane, not carbon"):
        parse("kg m-2 s-1", {"species": "CH4"})


def test_the_unit_itself_outranks_the_attributes():
    assert parse("kgC m-2 s-1", {"long_name": "flux of carbon dioxide"}).substance == "C"


def test_mol_of_something_else_is_no_carbon():
    with pytest.raises(UnitsError, match="these mol are photons"):
        parse("umol m-2 s-1", {"long_name": "photosynthetic photon flux density"})
    with pytest.raises(UnitsError, match="these mol are methane"):
        parse("mol/m2/s", {"species": "ch4"})
    assert parse("mol/m2/s", {"species": "co2"}).substance == "mol"


def test_is_flux():
    assert is_flux("gC m-2 d-1")
    assert is_flux("PgC month-1")
    assert is_flux("umol m-2 s-1")
    assert not is_flux("gC m-2")
    assert not is_flux("m2")
    assert not is_flux("1")
    assert not is_flux("W m-2")
    assert is_flux("W m-2", substances=("energy",))
    assert not is_flux("mm d-1")
    assert is_flux("mm d-1", substances=("water",))


def test_flux_variables():
    names = {"nee": "gC m-2 d-1", "NEE_mad": "gC m-2 d-1", "nee_std": "gC m-2 d-1", "gpp": "umol m-2 s-1",
             "land": "PgC yr-1", "cell_area": "m2", "land_fraction": "1", "LE": "W m-2", "P": "mm d-1", "T": "degC",
             "stock": "gC m-2", "ppfd": "umol m-2 s-1"}  # fmt: skip
    ds = xr.Dataset({k: ("x", np.zeros(2), {"units": u}) for k, u in names.items()})
    ds["ppfd"].attrs["long_name"] = "photosynthetic photon flux density"
    ds["bare"] = ("x", np.zeros(2))
    assert flux_variables(ds) == ["nee", "gpp", "land"]
    assert flux_variables(ds, ("energy",)) == ["LE"]


UNCERTAIN = ("nee_sd", "nee_p05", "nee_lower", "nee_25", "nee_iqr", "ensstd", "nee_2sigma",
             "nee_se", "NEE_unc", "nee_uncertainty", "nee_error", "nee_stdev", "nee_std", "nee_mad",
             "neeUncertainty", "nee_ci95", "nee_variance",
             "nee_rmse", "sigma_nee", "nee_sigma", "nee_q05", "NEE_fsd", "NEE_RANDUNC", "nee_std_prior")  # fmt: skip


@pytest.mark.parametrize(
    ("name", "attrs"),
    [
        *((name, {}) for name in UNCERTAIN),
        ("u", {"long_name": "one-sigma uncertainty of the flux"}),
        ("u", {"long_name": "Posterior uncertainty"}),
        ("u", {"standard_name": "surface_upward_mass_flux_of_carbon standard_error"}),
        ("u", {"cell_methods": "time: mean realization: standard_deviation"}),
        ("listed", {}),
    ],
)
def test_uncertainties_are_no_fluxes(name, attrs):
    flux = xr.DataArray(np.ones(2), dims="time", attrs={"units": "gC m-2 d-1"})
    ds = xr.Dataset({"nee": flux.assign_attrs(ancillary_variables="listed qc"), name: flux.assign_attrs(attrs)})
    assert flux_variables(ds) == ["nee"]


@pytest.mark.parametrize(
    "name", ["nee", "se_asia_nee", "lower_canopy_gpp", "gpp_serious", "nee_seasonal", "stdnee", "used", "terror"]
)
def test_other_names_are_fluxes(name):
    attrs = {"units": "gC m-2 d-1", "long_name": "net flux, mean of the posterior"}
    assert flux_variables(xr.Dataset({name: ("time", np.ones(2), attrs)})) == [name]


@pytest.mark.parametrize(
    ("name", "attrs", "is_one"),
    [
        ("anything", {"cell_methods": "time: sum"}, True),
        ("anything", {"cell_methods": "area: mean time: sum"}, True),
        ("anything", {"units": "PgC", "cell_methods": "time: sum area: sum"}, True),
        ("nee", {}, True),
        ("gpp_month", {}, True),
        ("nee", {"cell_methods": "time: point"}, False),
        ("cVeg", {"units": "kg m-2", "long_name": "Carbon Mass in Vegetation", "cell_methods": "time: mean"}, False),
        ("biomass", {}, False),
        ("bio_flux", {}, True),
        ("cumulative_flux", {}, False),
        ("v", {"long_name": "gross primary production"}, True),
        ("v", {"long_name": "gross primary production", "cell_methods": "time: mean"}, False),
        ("cProduct", {"long_name": "Carbon Mass in Products of Land-Use Change"}, False),
        ("termites", {}, False),
    ],
)
def test_amounts_of_steps_are_fluxes_and_stocks_are_not(name, attrs, is_one):
    da = xr.DataArray(np.ones(2), dims="time", attrs={"units": "gC m-2", **attrs})
    assert (flux_variables(xr.Dataset({name: da})) == [name]) is is_one
    assert flux_variables(xr.Dataset({name: da.isel(time=0)})) == []


def test_a_stock_alone_is_refused_with_the_way_out():
    axes = {"time": xr.date_range("2001-01", periods=2, freq="MS"), "lat": [-45.0, 45.0], "lon": [-90.0, 90.0]}
    attrs = {"units": "gC m-2", "area_basis": "cell"}
    ds = xr.DataArray(np.ones((2, 2, 2)), axes, ("time", "lat", "lon"), name="cVeg", attrs=attrs).to_dataset()
    for refused in (
        lambda: ds.flux.aggregate_regions("latitude-bands"),
        lambda: ds.flux.annual(),
        lambda: ds.flux.convert_units("gC m-2 d-1"),
    ):
        with pytest.raises(ValueError, match=r"'cVeg' is an amount without a time.*'time: sum'.*ds\['cVeg'\]"):
            refused()


DRIVERS = [
    ("kg m-2 d-1", "mm d-1", 1, 0),
    ("kg m**-2 s**-1", "mm/day", 86400, 0),
    ("kg/m2/s", "mm d-1", 86400, 0),
    ("kgH2O m-2 d-1", "mm d-1", 1, 0),
    ("m s-1", "mm d-1", 86400e3, 0),
    ("K", "degC", 1, -273.15),
    ("Celsius", "kelvin", 1, 273.15),
    ("degrees_C", "C", 1, 0),
    ("MJ m-2 day-1", "W m-2", 1e6 / 86400, 0),
    ("J m-2 s-1", "W/m^2", 1, 0),
    ("hPa", "kPa", 0.1, 0),
    ("mbar", "Pa", 100, 0),
    ("mb", "hPa", 1, 0),
    ("℃", "K", 1, 273.15),
    ("ºC", "degC", 1, 0),
    ("Wm-2", "W m-2", 1, 0),
    ("'kg m-2 s-1'", "mm d-1", 86400, 0),
    ("%", "1", 0.01, 0),
    ("fraction", "percent", 100, 0),
    ("m3 m-3", "-", 1, 0),
    ("g kg-1", "1", 1e-3, 0),
    ("umol m-2 s-1", "gC m-2 d-1", 12.011e-6 * DAY, 0),
]


@pytest.mark.parametrize(("given", "wanted", "scale", "offset"), DRIVERS)
def test_units_of_drivers(given, wanted, scale, offset):
    assert conversion(given, wanted) == pytest.approx((scale, offset), rel=1e-12)
    assert conversion(wanted, given) == pytest.approx((1 / scale, -offset), rel=1e-12)
    assert same(given, wanted) is (scale == 1 and offset == 0)


def test_units_of_drivers_that_do_not_convert():
    for have, want in (("K", "W m-2"), ("mm d-1", "mm month-1"), ("furlong", "1"), ("hPa", "mm")):
        with pytest.raises(UnitsError):
            conversion(have, want)
        assert not same(have, want)
    assert same("furlongs of  fog", "furlongs of fog")


def test_many_threads_read_units_at_once():
    texts = [f"{a} {b} {c}" for a in ("gC", "kgCO2", "umol") for b in ("m-2", "ha-1") for c in ("s-1", "yr-1", "d-1")]
    expected = [parse(t).amount for t in texts]
    for cached in (registry._registry, registry.measured, quantity._parse):
        cached.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda t: parse(t).amount, texts * 8)) == expected * 8


def test_pint_stays_away_until_needed_and_its_application_registry_as_it_was():
    code = """
import sys, xflux
assert "pint" not in sys.modules
from xflux.units import factor
factor("PgC", "gC")
import pint
ureg = pint.get_application_registry()
assert "gC" not in dir(ureg)
try:
    ureg("PgC")
except pint.UndefinedUnitError:
    pass
else:
    raise AssertionError("the application registry knows carbon")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
