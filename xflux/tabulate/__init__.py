"""A regional budget of files in one call: opened, integrated year by year, put into a table, a file or a figure."""

from xflux.tabulate.files import expanded
from xflux.tabulate.output import aligned, check_places, draw, text, write
from xflux.tabulate.table import Budget, budget

__all__ = ["Budget", "aligned", "budget", "check_places", "draw", "expanded", "text", "write"]
