"""What holds for the examples in docstrings too, which lie outside of ``tests/``."""

import sys

import pytest


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Figures that an example draws are closed after it."""
    if isinstance(item, pytest.DoctestItem) and "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
