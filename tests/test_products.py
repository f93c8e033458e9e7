"""open_product and products(): published files of every row of the table, read as their row says."""

import numpy as np
import pytest
import write_products as writer
import xarray as xr

import xflux
from xflux import products as room


@pytest.fixture(scope="session")
def fixtures(tmp_path_factory) -> dict[str, writer.Fixture]:
    return writer.write_all(tmp_path_factory.mktemp("products"))


def quietly(*args, **kwargs) -> xr.Dataset:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return xflux.open_product(*args, **kwargs)


CASES = sorted(writer.WRITERS)


@pytest.mark.parametrize("name", CASES)
def test_values_dims_and_units_are_those_of_the_writer(fixtures, name):
    fixture = fixtures[name]
    ds = quietly(fixture.product, fixture.paths)
    for variable, expected in fixture.values.items():
        da = ds[variable]
        assert da.chunks is not None, "lazy"
        assert da.attrs["units"] == fixture.units[variable]
        assert da.dims[-2:] == ("lat", "lon")
        np.testing.assert_allclose(da.values, expected, rtol=2e-6, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_steps_are_named_by_their_start_and_bounds(fixtures, name):
    fixture = fixtures[name]
    ds = quietly(fixture.product, fixture.paths)
    starts = [(t.year, t.month, t.day) for t in ds.indexes["time"]]
    assert starts == fixture.starts
    assert ds.time.attrs["bounds"] == "time_bnds"
    bounds = ds.time_bnds.values
    assert (bounds[:, 0] == ds.time.values).all()
    if name not in ("openghg",):
        assert (bounds[1:, 0] == bounds[:-1, 1]).all()


def test_products_is_a_function_and_a_room():
    assert set(xflux.products().index) == set(room.products().index)
    assert len(xflux.products()) >= 16
