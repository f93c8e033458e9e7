"""open_product and products(): published files of every row of the table, read as their row says."""

import xflux
from xflux import products as room


def test_products_is_a_function_and_a_room():
    assert set(xflux.products().index) == set(room.products().index)
    assert len(xflux.products()) >= 16
