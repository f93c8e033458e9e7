"""What ``import xflux`` costs over ``import xarray``: python benchmarks/import_time.py [repeats]

Each repeat is a fresh interpreter; the least of them counts (the rest is the machine's other work). The limit is 0.3 s.
"""

import subprocess
import sys

CODE = """
import time
start = time.perf_counter()
import xarray
middle = time.perf_counter()
import xflux
print(middle - start, time.perf_counter() - middle)
"""


def timed() -> tuple[float, float]:
    """Seconds of ``import xarray``, and of ``import xflux`` after it."""
    done = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True)
    xarray, xflux = done.stdout.split()
    return float(xarray), float(xflux)


def main(repeats: int = 7) -> None:
    timed()  # byte code is written
    times = [timed() for _ in range(repeats)]
    for name, values in zip(("xarray", "xflux after it"), zip(*times, strict=True), strict=True):
        print(f"import {name:14s} least {min(values):.3f} s   median {sorted(values)[repeats // 2]:.3f} s")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
