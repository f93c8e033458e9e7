"""Build ``xflux/data/country_polygons.npz``, the polygons behind "reccap2", "reccap2-chapters" and "countries".

Source: Natural Earth 1:50m countries (public domain) as TopoJSON in the npm package ``world-atlas`` 2.0.2 (ISC)::

    npm pack world-atlas@2.0.2 && tar xzf world-atlas-2.0.2.tgz
    python tools/build_regions.py package/countries-50m.json

What it does: joins the arcs to rings, unwraps rings that jump across the antimeridian and closes those around a pole,
turns exteriors counterclockwise and holes clockwise, names every polygon by its ISO 3166 code (overseas parts by where
they lie, since the source knows only their state), and stores whole 1e-5 degrees. Neighbours share their vertices, so
the polygons tile: no gaps, no overlaps. Which country belongs to which region is in ``xflux/data/countries.csv``.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[1] / "xflux" / "data"
SCALE = 100_000

# Parts that the source has under their state: code of the state, (west, south, east, north), code of the part.
OVERSEAS = [
    ("FRA", (-56, 1, -50, 7), "GUF"),
    ("FRA", (-62.5, 15.5, -60.9, 17), "GLP"),
    ("FRA", (-61.5, 14, -60.5, 15.3), "MTQ"),
    ("FRA", (54, -22, 57, -20), "REU"),
    ("FRA", (44, -14, 46, -12), "MYT"),
    ("NOR", (5, 73, 40, 82), "SJM"),
    ("NOR", (-10, 70, -7, 72), "SJM"),
    ("NLD", (-70, 11, -67, 13), "BES"),
    ("NLD", (-64, 17, -62, 18.5), "BES"),
    ("CCK", (103, -12, 108, -9), "CXR"),
    ("NZL", (-173, -10, -170, -7), "TKL"),
]
# The source's countries without an ISO number, by their name there.
NAMED = {
    "Kosovo": "XKX",
    "Somaliland": "SOM",
    "N. Cyprus": "CYP",
    "Siachen Glacier": "IND",
    "Indian Ocean Ter.": "CCK",
    "Ashmore and Cartier Is.": "AUS",
}


def arcs_of(topology: dict) -> list[np.ndarray]:
    """Arcs (points, 2) in degrees; the source counts in steps from the first point."""
    scale, offset = topology["transform"]["scale"], topology["transform"]["translate"]
    return [np.cumsum(np.array(arc), axis=0) * scale + offset for arc in topology["arcs"]]


def ring_of(indices: list[int], arcs: list[np.ndarray]) -> np.ndarray:
    """A closed ring: arcs end to end, those with a negative index backwards."""
    pieces = [arcs[i] if i >= 0 else arcs[~i][::-1] for i in indices]
    return np.concatenate([pieces[0], *(piece[1:] for piece in pieces[1:])])


def unwrap(ring: np.ndarray) -> np.ndarray:
    """Without jumps of 360°; a ring that then goes around the Earth is closed over its pole."""
    lon = np.unwrap(ring[:, 0], period=360)
    lat = np.where(ring[:, 1] < -89.99, -90.0, ring[:, 1])
    ring = np.stack([lon, lat], axis=1)
    if around_pole(ring):
        pole = np.copysign(90.0, lat[np.abs(lat).argmax()])
        ring = np.concatenate([ring, [[lon[-1], pole], [lon[0], pole], ring[0]]])
    return ring


def around_pole(ring: np.ndarray) -> bool:
    """Whether an unwrapped ring ends a whole turn from where it began."""
    return abs(ring[-1, 0] - ring[0, 0]) > 180


def signed_area(ring: np.ndarray) -> float:
    x, y = ring.T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2


def code_of(name: str, number: str | None, ring: np.ndarray, by_number: dict[str, str]) -> str:
    code = NAMED.get(name) or by_number[str(number)]
    lon, lat = ring[:-1].mean(axis=0)
    for state, (west, south, east, north), part in OVERSEAS:
        if code == state and west <= lon <= east and south <= lat <= north:
            return part
    return code


def polygons(topology: dict, by_number: dict[str, str]):
    """(code, ring) of every ring, exteriors first and counterclockwise."""
    arcs = arcs_of(topology)
    for country in topology["objects"]["countries"]["geometries"]:
        parts = country["arcs"] if country["type"] == "MultiPolygon" else [country["arcs"]]
        for part in parts:
            rings = [unwrap(ring_of(indices, arcs)) for indices in part]
            code = code_of(country["properties"]["name"], country.get("id"), rings[0], by_number)
            # Antarctica is the space between its coast and a ring at the pole, which has no area once closed.
            rings = [ring for ring in rings if abs(signed_area(ring)) > 0]
            for i, ring in enumerate(rings):
                wanted = 1 if i == 0 else -1
                yield code, ring if np.sign(signed_area(ring)) == wanted else ring[::-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("topojson", type=Path, help="countries-50m.json of world-atlas")
    parser.add_argument("--out", type=Path, default=DATA / "country_polygons.npz")
    args = parser.parse_args()
    with (DATA / "countries.csv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    by_number = {row["iso_n3"]: row["iso_a3"] for row in rows if row["iso_n3"]}
    found = list(polygons(json.loads(args.topojson.read_text()), by_number))
    points = np.round(np.concatenate([ring for _, ring in found]) * SCALE).astype("int32")
    # Steps from point to point are small numbers, which compress well.
    steps = np.diff(points, axis=0, prepend=np.zeros((1, 2), "int32"))
    np.savez_compressed(
        args.out,
        lon=steps[:, 0],
        lat=steps[:, 1],
        size=np.array([len(ring) for _, ring in found], dtype="int32"),
        code=np.array([code for code, _ in found], dtype="U3"),
    )
    missing = sorted({row["iso_a3"] for row in rows} - {code for code, _ in found})
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB, {len(found)} rings; not in the source: {missing}")


if __name__ == "__main__":
    main()
