"""Integrals by region as a plain table."""

import pandas as pd
import xarray as xr

from xflux.regions.globe import REMAINDERS
from xflux.temporal.riding import CALENDAR, RIDING


def to_dataframe(obj: xr.DataArray | xr.Dataset) -> "pd.DataFrame":
    """Values by step and region as a table that has every value in one row; what is lazy is computed.

    Parameters
    ----------
    obj
        Integrals by region as ``aggregate_regions`` makes them, or any flux.

    Returns
    -------
    pandas.DataFrame
        A column for each dim, ``region_name``, the flux in its own units (``attrs["units"]`` of the frame, by column)
        and ``valid_fraction``. Lengths of steps and sums in and outside all regions, which ride along for xflux, are
        left out.

    Raises
    ------
    ValueError
        Dims beside which another dim of the Dataset has no values: a table has one row for each combination.

    Examples
    --------
    >>> da = xr.DataArray([[1.0], [2.0]], {"year": [2001, 2002], "region": ["EU"]}, name="nee", attrs={"units": "PgC"})
    >>> to_dataframe(da.assign_coords(unassigned=("year", [0.1, 0.2])))
       year region  nee
    0  2001     EU  1.0
    1  2002     EU  2.0
    """
    ds = obj.to_dataset(name=obj.name or "flux") if isinstance(obj, xr.DataArray) else obj
    clutter = [
        c
        for c, coord in ds.coords.items()
        if c in (*RIDING, CALENDAR) or str(c).endswith((*REMAINDERS, "_bnds", "_bounds"))
    ]
    table = ds.drop_vars(clutter).compute()
    frame = table.to_dataframe(dim_order=max((da.dims for da in table.values()), key=len)).reset_index()
    if "region_name" in frame:
        frame.insert(list(frame).index("region") + 1, "region_name", frame.pop("region_name"))
    frame.attrs = {"units": {str(name): da.attrs.get("units") for name, da in table.data_vars.items()}}
    return frame
