"""A regional budget of files in one call: opened, integrated year by year, put into a table, a file or a figure."""

from xflux.tabulate.output import draw, text, write
from xflux.tabulate.table import Budget, budget

__all__ = ["Budget", "budget", "draw", "text", "write"]
