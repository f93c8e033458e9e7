"""Towers: eddy-covariance files, quality control, co-location with gridded drivers, folds by site."""

from xflux.towers.averages import to_months
from xflux.towers.colocation import colocate
from xflux.towers.folds import site_folds
from xflux.towers.read import read_towers

__all__ = ["colocate", "read_towers", "site_folds", "to_months"]
