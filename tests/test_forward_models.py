"""Models of other libraries in the forward run: gradient boosting, with and without names of the columns."""

import importlib

import numpy as np
import pandas as pd
import pytest
from forward_world import DRIVERS, assert_close, grid, stacked

from xflux.forward import predict, wrap


@pytest.fixture(scope="module")
def ds():
    return grid(holes=True)


@pytest.fixture(scope="module")
def training():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, len(DRIVERS))).astype("float32")
    return x, x[:, 0] - 2 * x[:, 3] + x[:, 1] ** 2


def expected(ds, function):
    """The model on the complete rows of the stacked array."""
    rows = stacked(ds)
    valid = np.isfinite(rows).all(axis=-1)
    out = np.full(valid.shape, np.nan)
    out[valid] = function(rows[valid])
    return out


def imported(library):
    try:
        return importlib.import_module(library)
    except (ImportError, OSError) as error:  # its wheel counts on OpenMP being on the machine
        pytest.skip(f"{library} cannot be imported: {error}")


def regressor(library):
    module = imported(library)
    if library == "xgboost":
        return module.XGBRegressor(n_estimators=8, n_jobs=1)
    return module.LGBMRegressor(n_estimators=8, n_jobs=1, verbose=-1)


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
@pytest.mark.parametrize("framed", [False, True])
def test_boosted_regressors(ds, training, library, framed):
    x, y = training
    model = regressor(library).fit(pd.DataFrame(x, columns=DRIVERS) if framed else x, y)
    out = predict(ds.chunk(time=90), wrap(model, DRIVERS, "gC m-2 d-1")).compute(num_workers=3)

    def plainly(rows):
        return model.predict(pd.DataFrame(rows, columns=DRIVERS) if framed else rows)

    assert_close(out.values, expected(ds, plainly))
    with pytest.raises(ValueError, match="the model was fitted on"):
        wrap(model, DRIVERS[:3], "1")
    if framed:
        with pytest.raises(ValueError, match=r"fitted on \['tair', .*drivers are \['wai', .*give that order"):
            wrap(model, DRIVERS[::-1], "1")


@pytest.mark.parametrize("framed", [False, True])
def test_bare_boosters_of_xgboost(ds, training, framed):
    xgb = imported("xgboost")
    x, y = training
    names = list(DRIVERS) if framed else None
    model = xgb.train({"max_depth": 3, "nthread": 1}, xgb.DMatrix(x, y, feature_names=names), 5)
    out = predict(ds.chunk(time=90), wrap(model, DRIVERS, "1")).compute(num_workers=3)
    assert_close(out.values, expected(ds, lambda rows: model.predict(xgb.DMatrix(rows, feature_names=names))))
    with pytest.raises(ValueError, match="fitted on 5 columns, 3 drivers" if not framed else "give that order"):
        wrap(model, DRIVERS[:3], "1")


@pytest.mark.parametrize("framed", [False, True])
def test_bare_boosters_of_lightgbm(ds, training, framed):
    lgb = imported("lightgbm")
    x, y = training
    data = lgb.Dataset(pd.DataFrame(x, columns=DRIVERS) if framed else x, y)
    model = lgb.train({"num_threads": 1, "verbose": -1}, data, 5)
    assert_close(predict(ds, wrap(model, DRIVERS, "1")).values, expected(ds, model.predict))
    with pytest.raises(ValueError, match="fitted on 5 columns, 3 drivers" if not framed else "give that order"):
        wrap(model, DRIVERS[:3], "1")
    if framed:  # another order gives other fluxes without an error of the library's
        with pytest.raises(ValueError, match=r"drivers are \['wai', .*give that order"):
            wrap(model, DRIVERS[::-1], "1")
