"""The same published files in other orders, packed, or handed to the wrong row of the table."""

import gc
import gzip
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import write_products as writer
import xarray as xr

import xflux
from xflux.catalogue import ProductError

LAT, LON = ("lat", "latitude", "lat_FULL"), ("lon", "longitude", "lon_FULL")
TIME = ("time", "mtime", "date", "Time", "time_counter")
NETCDF = sorted(set(writer.WRITERS) - {"gfed"})


@pytest.fixture(scope="session")
def fixtures(tmp_path_factory) -> dict[str, writer.Fixture]:
    return writer.write_all(tmp_path_factory.mktemp("turned"))


def quietly(*args, **kwargs) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return xflux.open_product(*args, **kwargs)


def flip(ds, lat, lon, time):
    return ds.isel({lat: slice(None, None, -1)})


def other_longitudes(ds, lat, lon, time):
    west = ds[lon].values
    east = np.where(west < 0, west + 360, west) if west.min() < 0 else np.where(west > 180, west - 360, west)
    ds = ds.assign_coords({lon: (lon, east, ds[lon].attrs)}).sortby(lon)
    return ds.drop_vars([name for name in ds.variables if "lon_b" in str(name)])


def backwards(ds, lat, lon, time):
    return ds.isel({time: slice(None, None, -1)}) if time and "start_date" not in ds else ds


def transposed(ds, lat, lon, time):
    return ds.transpose(*reversed(list(ds.sizes)))


def with_strangers(ds, lat, lon, time):
    return ds.assign(crs=((), 0), names=(("letters",), np.array(["a", "b"])))


def rewrite(source: Path, target: Path, change) -> Path:
    """The file with its dims or order changed and nothing decoded; text as text, which netCDF4 writes as characters."""
    with xr.open_dataset(source, decode_times=False, mask_and_scale=False, decode_coords=False) as ds:
        ds = ds.load()
    lat, lon = (next(name for name in names if name in ds.dims) for names in (LAT, LON))
    ds = change(ds, lat, lon, next((name for name in TIME if name in ds.dims), None))
    for variable in ds.variables.values():
        variable.encoding = {}
    ds.to_netcdf(target)
    return target


@pytest.mark.parametrize("change", [flip, other_longitudes, backwards, transposed, with_strangers])
@pytest.mark.parametrize("name", NETCDF)
def test_order_and_convention_do_not_change_the_budget(fixtures, tmp_path, name, change):
    fixture = fixtures[name]
    if change is backwards and name == "oco2_mip":
        pytest.skip("its LoFI file has no dates that could be put in order")
    paths = [rewrite(path, tmp_path / path.name, change) for path in fixture.paths]
    ds = quietly(fixture.product, paths, land_fraction=fixture.extra.get("land_file"))
    for variable, expected in fixture.totals.items():
        flux = ds.drop_vars([other for other in ds.data_vars if other != variable])
        flux[variable].attrs.setdefault("area_basis", "cell")
        total = flux.flux.aggregate_regions("latitude-bands", "PgC", include_global=True)[variable]
        total = total.sel(region="GLOBAL").transpose(..., "time")
        if fixture.members:
            total = total.sel({next(iter(total.dims)): fixture.members})
        scale = np.nanmax(np.abs(expected))
        np.testing.assert_allclose(total.values, expected, rtol=1e-6, atol=1e-6 * scale, err_msg=variable)


# TRENDY's files are ILAMB-style files with their model in the name: nothing inside tells them apart.
ALIKE = {("trendy", "ilamb")}


@pytest.mark.parametrize("name", sorted(writer.WRITERS))
def test_files_of_one_product_are_not_taken_for_another(fixtures, name):
    fixture = fixtures[name]
    for other in xflux.products().index:
        if other == fixture.product or (fixture.product, other) in ALIKE:
            continue
        with pytest.raises(ProductError, match=r"does not look like|is damaged or is not|no year in the file name"):
            quietly(other, fixture.paths)


def test_what_gives_a_product_away_is_named(fixtures):
    def refused(product, fixture, message):
        with pytest.raises(ProductError, match=message):
            quietly(product, fixtures[fixture].paths)

    refused("carbontracker-europe", "carbontracker", "expected the time dim date, found time")
    refused("carbontracker", "carbontracker_europe", "it has date, bio_flux_prior, which carbontracker has not")
    refused("fluxcom", "x_base", "it has land_fraction, hour_bnds, which fluxcom has not; is it another product")
    refused("x-base", "fluxcom", "it has NEE_mad, which x-base has not")
    refused("x-base", "fluxcom_rs", r"expected the variable land_fraction .*found NEE")
    refused("metaflux", "x_base", "it has NEE, land_fraction, which metaflux has not")
    assert list(quietly("x-base", fixtures["fluxcom_rs"].paths, variables=["nee"]).data_vars) == ["nee"]


def test_a_gzipped_file_is_the_file(fixtures, tmp_path, monkeypatch):
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    (path,) = fixtures["jena_carboscope"].paths
    packed = tmp_path / f"{path.name}.gz"
    with path.open("rb") as plain, gzip.open(packed, "wb") as file:
        shutil.copyfileobj(plain, file)
    a, b = quietly("carboscope", path), quietly("carboscope", packed)
    xr.testing.assert_identical(a.drop_attrs(), b.drop_attrs())
    assert b.chunks and str(packed) in b.attrs["provenance"]
    part = b["nbe"].isel(time=0) * 2
    del b
    gc.collect()
    assert len(list(copies.iterdir())) == 1, "an array still reads from it"
    np.testing.assert_array_equal(part, a["nbe"].isel(time=0) * 2)
    del part
    gc.collect()
    assert not list(copies.iterdir()), "the copy goes with what was read from it"
    packed.write_bytes(packed.read_bytes()[:200])
    with pytest.raises(ProductError, match=r"nc\.gz is damaged or is not a netCDF"):
        quietly("carboscope", packed)
    assert not list(copies.iterdir())


def test_rows_of_characters_may_have_a_length_of_their_own(fixtures, tmp_path):
    """Copies made without joining characters have one more dim, of size one."""
    fixture = fixtures["gcp_inversions"]
    with xr.open_dataset(fixture.paths[0], decode_times=False, concat_characters=False) as ds:
        ds.load().to_netcdf(tmp_path / "copy.nc")
    assert quietly("gcp", tmp_path / "copy.nc").inversion.values.tolist() == fixture.members
