"""The report of a run folder: self-contained, says what is missing, works in a browser, shows the folder's numbers."""

import base64
import json
import re
import shutil
import zlib
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xflux import report
from xflux.report.page import ENTRIES, arranged

pytest.importorskip("matplotlib")
VERDICT = "EC has −20.10 ± 1.20 PgC/yr & <EC-ATM> has −2.10."
REGIONS = ("BRA", "EU", "RUS")


def flux(seed, offset, members=3):
    rng = np.random.default_rng(seed)
    lat, lon = np.arange(-89, 90, 2.0), np.arange(-179, 180, 2.0)
    da = xr.DataArray(
        rng.standard_normal((members, 12, lat.size, lon.size)).astype("float32") * 0.2 + offset,
        dims=("member", "month", "lat", "lon"),
        name="nee",
        attrs={"units": "gC m-2 d-1"},
        coords={"member": range(members), "month": range(1, 13), "lat": lat, "lon": lon},
    )
    land = (abs(da.lat) < 60) & (abs(da.lon) < 100)
    return xr.Dataset({"nee": da.where(land), "land_fraction": land.astype("float32")})


def write_run(folder, offset=0.0):
    import matplotlib.pyplot as plt

    for part in ("tables", "figures", "flux"):
        (folder / part).mkdir(parents=True)
    (folder / "study.toml").write_text('name = "small"\n[train]\nfolds = 3\n')
    summary = {
        "study": "small",
        "title": "A small study",
        "subject": "Net flux of CO₂ between land and atmosphere, inversions 2001-2014",
        "verdict": VERDICT,
        "claims_not_allowed": ["Interannual variability.", "Daily weather."],
        "numbers": {"EC: annual": -20.1 + offset, "EC-ATM: annual": -2.1 + offset, "missing": float("nan")},
        "headline": {
            "heads": [
                "",
                "global flux\nPgC/yr",
                "cycle off by\nPgC/month",
                "tower error\ngC m⁻² d⁻¹",
                "regions\nin range",
            ],
            "rows": [
                [
                    "EC-ATM sampled+total\ntowers + inversions through random pixels, global sum",
                    "−2.66 ± 0.11",
                    "up to 0.03",
                    "1.02",
                    "13 of 18",
                ]
            ]
            * 6,
        },
        "models": {"ec": {"label": "EC", "file": "ec"}, "bridge": {"label": "EC-ATM bridge", "file": "bridge"}},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "provenance.json").write_text(
        json.dumps(
            {"seed": 0, "versions": {"xflux": "0.1"}, "inputs": {"towers": {"file": "t.parquet", "sha256": "abc123"}}}
        )
    )
    pd.DataFrame(
        {
            "product": ["EC", "EC-ATM", "CAMS"],
            "annual flux (PgC yr-1)": [-20.123456, -2.1 + offset, np.nan],
            "days": [151000, 2, 3],
        }
    ).to_csv(folder / "tables" / "global_annual.csv", index=False)
    flux(0, -1.0 + offset).to_zarr(folder / "flux" / "ec.zarr")
    flux(1, 0.2 + offset).to_zarr(folder / "flux" / "bridge.zarr")
    sizes = {
        "seasonal_cycle_global": (3.27, 2.4),
        "map_pair": (3.27, 4.2),
        "towers": (7, 2.5),
        "annual_reccap2": (3, 6),
    }
    for name, size in sizes.items():
        figure, ax = plt.subplots(figsize=size)
        ax.plot([0, 1])
        figure.savefig(folder / "figures" / f"{name}.png", dpi=160)
        plt.close(figure)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "one")


@pytest.fixture(scope="module")
def page(run):
    return report.write_report(run).read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Sections with their text, and every address that the page would load."""

    def __init__(self):
        super().__init__()
        self.sections, self.addresses, self.open = {}, [], None

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "section":
            self.open = attrs["id"]
            self.sections[self.open] = ""
        self.addresses += [attrs[k] for k in ("src", "href") if attrs.get(k)]

    def handle_endtag(self, tag):
        if tag == "section":
            self.open = None

    def handle_data(self, data):
        if self.open:
            self.sections[self.open] += data + " "


def outline(page):
    parser = Outline()
    parser.feed(page)
    return parser


def map_data(page):
    return json.loads(re.search(r"id='map-data'>(.*?)</script>", page, re.S).group(1))


def unpack(text, kind):
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="u1").reshape(np.dtype(kind).itemsize, -1)
    return np.ascontiguousarray(planes.T).view(kind).ravel()


# ------------------------------------------------------------------ content
def test_the_page_says_what_a_reader_asks_first(page):
    sections = outline(page).sections
    assert list(sections) == "verdict limits the-global-sum regions maps towers provenance".split()
    assert VERDICT in sections["verdict"] and "13 of 18" in sections["verdict"]
    assert "inversions 2001-2014" in sections["verdict"] and "total<small>towers + inversions" in page
    assert "Interannual variability." in sections["limits"]
    assert "RECCAP2 regions" in sections["regions"] and "standard deviation" in sections["regions"]
    assert "abc123" in sections["provenance"] and "folds" in sections["provenance"]
    assert "None: the page shows everything" in sections["provenance"]


def test_no_network_address_is_in_the_page(page):
    assert all(a.startswith(("data:", "#")) for a in outline(page).addresses)
    assert not re.search(r"https?://|@import|url\(", page)


def test_every_figure_and_table_stands_once_under_its_section(page):
    assert page.count("src='data:image/") == 4 and page.count("<details id='table-global_annual'>") == 1
    assert page.index("id='the-global-sum'") < page.index("id='table-global_annual'") < page.index("id='regions'")
    names = {entry.figure for entry in ENTRIES} | {t for entry in ENTRIES for t in entry.tables}
    found = arranged(names, [*names, "own"])
    assert sorted(e.figure for part in found.values() for e, _ in part if e.figure) == sorted(names)
    assert sorted(t for part in found.values() for _, tables in part for t in tables) == sorted([*names, "own"])


def test_a_smoke_run_says_so_and_others_do_not(run, page, tmp_path):
    assert "mean nothing" not in page
    folder = shutil.copytree(run, tmp_path / "smoke")
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"smoke": True}))
    assert page.count("class='smoke'") == 0
    assert ">Smoke run, the numbers mean nothing." in report.write_report(folder).read_text()
    both = report.write_report([run, folder], tmp_path / "both.html").read_text()
    assert ">smoke: Smoke run" in both


def test_text_is_escaped(page):
    assert "<EC-ATM>" not in page and "&lt;EC-ATM&gt;" in page


HOSTILE = (
    "<!--<script> v2",
    "</script><script>alert(1)</script>",
    "]]></style></title><b onclick='x()'>\"quoted\" & 'quoted'",
    "{{ 7 * 7 }} {% raw %} {# comment",
    "\u202eright to left\u2066 \U0001f333 \u2028 \x00 \u00e9",
    "\ud800 half a pair",
)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_any_text_in_any_place_stays_text(run, tmp_path, text):
    folder = tmp_path / "<b>&'\"run"
    shutil.copytree(run, folder)
    plain = report.write_report(folder).read_text(encoding="utf-8")
    summary = {
        "title": text, "verdict": text, "claims_not_allowed": [text], "numbers": {f"{text}: {text}": 1.5, text: 2.5},
        "headline": {"heads": [text], "rows": [[text]]},
        "units": {text: text}, "tables": {"global_annual": text}, "models": {text: {"label": text, "file": "ec"}},
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "provenance.json").write_text(json.dumps({"inputs": {text: text}, "call": [text, {text: [text]}]}))
    page = report.write_report(folder).read_text(encoding="utf-8")
    shown = text.encode("utf-8", "replace").decode("utf-8")
    for mark in ("<script", "</script", "<!--", "<style", "</style", "<b", "onclick='"):
        assert page.count(mark) == plain.count(mark), mark
    assert page[page.rindex("<script>") :] == plain[plain.rindex("<script>") :]
    sections = outline(page).sections
    for part in ("verdict", "limits", "the-global-sum", "provenance"):
        assert shown.replace("\x00", "\ufffd") in sections[part].replace("\x00", "\ufffd"), part
    assert map_data(page)["layers"][0]["label"] == text and map_data(page)["runs"] == [text]


def test_a_summary_of_other_shapes_does_not_cost_the_page(tmp_path):
    summary = {
        "numbers": [1],
        "units": "PgC",
        "claims_not_allowed": "all",
        "models": [1],
        "headline": {"rows": 3},
        "verdict": {},
    }
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    sections = outline(report.write_report(tmp_path).read_text(encoding="utf-8")).sections
    assert "No verdict" in sections["verdict"] and "all" in sections["limits"]


def test_every_number_of_a_table_is_the_files(run, page):
    table = pd.read_csv(run / "tables" / "global_annual.csv")
    part = page[page.index("id='table-global_annual'") :]
    shown = [float(v) if v else np.nan for v in re.findall(r"data-value='([^']*)'", part[: part.index("</table>")])]
    np.testing.assert_array_equal(shown, table.iloc[:, 1:].to_numpy(dtype=float).ravel())


def test_map_numbers_are_those_of_the_store(run, page):
    layer = map_data(page)["layers"][0]
    assert layer["label"] == "EC" and layer["units"] == "gC m-2 d-1"
    assert layer["shows"] == ["mean of 3 members", "standard deviation of members"]
    values = unpack(layer["values"], "<i2").reshape(2, 13, layer["size"]) * layer["scale"]
    cells = unpack(layer["cells"], "<i4")
    with xr.open_zarr(run / "flux" / "ec.zarr") as store:
        nee = store["nee"].load()
    flat = nee.values.reshape(3, 12, -1)[:, :, cells]
    days = np.array([31, 28.2425, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
    years = (flat * days[:, None]).sum(axis=1) / days.sum()
    for number, of in enumerate((np.mean, lambda v, axis: np.std(v, axis, ddof=1))):
        np.testing.assert_allclose(values[number, 1:], of(flat, axis=0), atol=layer["scale"])
        np.testing.assert_allclose(values[number, 0], of(years, axis=0), atol=layer["scale"])
    assert np.isfinite(flat).all() and cells.size == np.isfinite(nee[0, 0]).sum()
    assert {"BRA", "NAF", "EU"} <= {layer["region_names"][number] for number in unpack(layer["regions"], "u1")}


def test_a_flux_of_another_name_without_members_or_months_is_shown(tmp_path):
    (tmp_path / "flux").mkdir()
    gpp = flux(0, 3.0).isel(member=0, month=0, drop=True).rename(nee="gpp")
    turned = gpp.assign_coords(lon=gpp.lon % 360).sortby("lon").sortby("lat", ascending=False)
    turned.to_zarr(tmp_path / "flux" / "gpp.zarr")
    layer = map_data(report.write_report(tmp_path).read_text(encoding="utf-8"))["layers"][0]
    assert layer["shows"] == ["the one member"] and layer["periods"] == ["year"] and layer["lon_edges"][0] == -180
    values = unpack(layer["values"], "<i2") * layer["scale"]
    expected = gpp.gpp.values.ravel()
    np.testing.assert_allclose(values, expected[np.isfinite(expected)], atol=layer["scale"])


def test_coarsening_keeps_the_global_integral(tmp_path):
    folder = write_run(tmp_path / "fine")
    page = report.write_report(folder, tmp_path / "coarse.html", resolution=6.0).read_text(encoding="utf-8")
    layer = map_data(page)["layers"][0]
    values = unpack(layer["values"], "<i2").reshape(2, 13, layer["size"]) * layer["scale"]
    assert len(layer["lat_edges"]) == 31 and len(layer["lon_edges"]) == 61
    with xr.open_zarr(folder / "flux" / "ec.zarr") as store:
        nee, land = store["nee"].isel(month=5).mean("member").load(), store["land_fraction"].load()
    from xflux.cells import cell_area

    area = cell_area(nee) * land
    expected = float((nee * area).sum() / area.sum())
    lat, lon = np.array(layer["lat_edges"]), np.array(layer["lon_edges"])
    cells = unpack(layer["cells"], "<i4")
    blocks = area.coarsen(lat=3, lon=3).sum().values.ravel()[cells]
    np.testing.assert_allclose((values[0, 6] * blocks).sum() / blocks.sum(), expected, rtol=1e-3)
    assert lat[0] == -90 and lon[-1] == 180


def test_missing_parts_are_named(tmp_path):
    (tmp_path / "summary.json").write_text('{"verdict": "Nothing else is here."}')
    sections = outline(report.write_report(tmp_path).read_text(encoding="utf-8")).sections
    for part in ("study.toml", "provenance.json", "tables/*.csv", "figures/*.png", "flux/*.zarr"):
        assert part in sections["provenance"]
    assert list(sections) == ["verdict", "limits", "provenance"]


def test_broken_parts_do_not_cost_the_page(tmp_path):
    folder = write_run(tmp_path / "broken")
    (folder / "provenance.json").write_text("{")
    (folder / "tables" / "empty.csv").write_text("")
    shutil.rmtree(folder / "flux" / "bridge.zarr" / "nee")
    sections = outline(report.write_report(folder).read_text(encoding="utf-8")).sections
    assert "provenance.json (unreadable" in sections["provenance"] and "empty.csv (unreadable" in sections["provenance"]
    assert "flux/bridge.zarr is not on the map" in sections["provenance"]


def test_a_folder_that_is_no_run_raises(tmp_path):
    with pytest.raises(ValueError, match=r"holds nothing of a run: looked for study.toml"):
        report.write_report(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"run folder .* does not exist"):
        report.write_report(tmp_path / "absent")
    with pytest.raises(ValueError, match="no run folder given"):
        report.write_report([])


def test_two_runs_stand_side_by_side_with_their_difference(run, tmp_path):
    other = write_run(tmp_path / "two", offset=0.5)
    out = report.write_report([run, other], tmp_path / "both.html")
    page = out.read_text(encoding="utf-8")
    sections = outline(page).sections
    assert "two − one" in sections["differences"] and "0.5" in sections["differences"]
    assert sections["verdict"].count(VERDICT) == 2 and page.count("src='data:image/") == 8
    assert [layer["run"] for layer in map_data(page)["layers"]] == [0, 0, 1, 1]


# ------------------------------------------------------------------ in a browser
@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium and chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
        "--disable-dev-shm-usage",
        "--window-size=1300,1000",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield window
    window.quit()


def opened(browser, path):
    from selenium.webdriver.support.wait import WebDriverWait

    browser.get(path.resolve().as_uri())
    WebDriverWait(browser, 60).until(lambda b: b.find_element("tag name", "html").get_attribute("data-ready"))
    assert browser.find_element("tag name", "html").get_attribute("data-ready") == "1"
    return browser


def choose(browser, control, text):
    from selenium.webdriver.support.select import Select

    Select(browser.find_element("id", f"map-{control}")).select_by_visible_text(text)


def read_at(browser, lon, lat):
    """Point at a place and return what the page says about it."""
    from xflux.plot.projection import project

    xs, ys = project(np.array([lon, 180, 0, 0]), np.array([lat, 0, 90, -60]), "equal-earth")
    x, y, west, north, south = (float(v) for v in (xs[0], ys[0], xs[1], ys[2], ys[3]))
    browser.execute_script(
        """const c = document.getElementById('map-canvas'), b = c.getBoundingClientRect();
        c.dispatchEvent(new PointerEvent('pointermove', {clientX: b.left + arguments[0] * b.width,
          clientY: b.top + arguments[1] * b.height}));""",
        (x / west + 1) / 2,
        (north - y) / (north - south),
    )
    return browser.find_element("id", "map-readout").text


def test_page_loads_without_errors_and_reads_cells(run, browser):
    window = opened(browser, report.write_report(run))
    assert [e for e in window.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == []
    with xr.open_zarr(run / "flux" / "ec.zarr") as store:
        nee = store["nee"].load()
    choose(window, "model", "EC")
    choose(window, "month", "July")
    choose(window, "member", "standard deviation of members")
    text = read_at(window, 25.0, 1.0)
    expected = float(nee.sel(month=7, lat=1.0, lon=25.0).std(ddof=1))
    assert "EQAF" in text and "gC m-2 d-1" in text
    value = float(re.search(r": (−?[\d.]+) ", text).group(1).replace("−", "-"))
    assert abs(value - expected) < 0.006
    choose(window, "minus", "EC-ATM bridge")
    with xr.open_zarr(run / "flux" / "bridge.zarr") as store:
        other = float(store["nee"].sel(month=7, lat=1.0, lon=25.0).std(ddof=1))
    value = float(re.search(r": (−?[\d.]+) ", read_at(window, 25.0, 1.0)).group(1).replace("−", "-"))
    assert abs(value - (expected - other)) < 0.006
    assert "no value" in read_at(window, -150.0, 0.0)


def test_switching_redraws_the_map(run, browser):
    window = opened(browser, report.write_report(run))
    picture = "return document.getElementById('map-canvas').toDataURL()"
    first = window.execute_script(picture)
    choose(window, "model", "EC-ATM bridge")
    second = window.execute_script(picture)
    choose(window, "month", "January")
    third = window.execute_script(picture)
    assert len({first, second, third}) == 3
    assert "EC-ATM bridge, January" in window.find_element("id", "map-canvas").get_attribute("aria-label")


def test_tables_sort_by_full_numbers(run, browser):
    window = opened(browser, report.write_report(run))
    window.find_element("css selector", "#table-global_annual summary").click()
    table = window.find_element("css selector", "#table-global_annual table")

    def column():
        return [row.find_elements("tag name", "td")[0].text for row in table.find_elements("css selector", "tbody tr")]

    head = table.find_elements("css selector", "th button")[1]
    window.execute_script("arguments[0].click()", head)
    assert column() == ["EC", "EC-ATM", "CAMS"]  # rising, what is missing at the end
    window.execute_script("arguments[0].click()", head)
    assert column() == ["EC-ATM", "EC", "CAMS"]
    assert table.find_elements("tag name", "th")[1].get_attribute("aria-sort") == "descending"


def test_page_of_two_runs_and_of_a_bare_folder_load(run, browser, tmp_path):
    other = write_run(tmp_path / "two", offset=0.5)
    window = opened(browser, report.write_report([run, other], tmp_path / "both.html"))
    assert [e for e in window.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == []
    options = window.find_elements("css selector", "#map-model option")
    assert len(options) == 4 and len({o.text for o in options}) == 4
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "summary.json").write_text('{"verdict": "x"}')
    window = opened(browser, report.write_report(tmp_path / "bare"))
    assert [e for e in window.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == []


# What a reader would see as wrong: text beyond the screen (or its own scrolled box), boxes over one another.
LAYOUT = """
const found = [], shown = e => e.checkVisibility();
const page = document.documentElement;
if (page.scrollWidth > page.clientWidth) found.push(`page ${page.scrollWidth} wide in ${page.clientWidth}`);
const kinds = 'p, h1, h2, h3, h4, li, summary, td, th, dt, dd, img, canvas, label, nav a';
const all = [...document.querySelectorAll(kinds)].filter(e => shown(e) && !e.closest('.smoke'));
const boxes = all.map(e => e.getBoundingClientRect());
const name = e => `${e.tagName} ${(e.textContent || e.alt).slice(0, 30)}`;
all.forEach((e, i) => {
  const beyond = boxes[i].right > page.clientWidth + 1 || boxes[i].left < -1;
  if (beyond && !e.closest('.scroll')) found.push('outside: ' + name(e));
  if (e.tagName !== 'CANVAS' && e.scrollWidth > e.clientWidth + 1 && e.clientWidth) found.push('cut: ' + name(e));
  for (let k = i + 1; k < all.length; k++) {
    if (e.contains(all[k]) || boxes[k].top > boxes[i].bottom + 2000) continue;
    const wide = Math.min(boxes[i].right, boxes[k].right) - Math.max(boxes[i].left, boxes[k].left);
    const high = Math.min(boxes[i].bottom, boxes[k].bottom) - Math.max(boxes[i].top, boxes[k].top);
    const apart = e.closest('.scroll') !== all[k].closest('.scroll');  // what one box hides is not over another
    if (wide > 1 && high > 1 && !apart) found.push(`over one another: ${name(e)} | ${name(all[k])}`);
  }
});
return found;
"""


def sized(browser, width, height, media="screen"):
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


@pytest.mark.parametrize(
    "width, height, media",
    [(1280, 800, "screen"), (390, 844, "screen"), (680, 1000, "print")],
    ids=["desk", "phone", "A4"],
)
@pytest.mark.parametrize("count", [1, 2])
def test_nothing_is_cut_or_overlaps_on_a_desk_a_phone_and_paper(run, browser, tmp_path, width, height, media, count):
    sized(browser, width, height, media)
    runs = [run, shutil.copytree(run, tmp_path / "a_second_run_of_the_same_study_with_a_long_name")][:count]
    try:
        window = opened(browser, report.write_report(runs, tmp_path / "page.html"))
        assert window.execute_script(LAYOUT) == []
        if media == "screen":
            window.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
            assert window.execute_script(LAYOUT) == []
        window.execute_script("document.querySelector('.verdict').style = 'width: 1px; white-space: nowrap'")
        assert window.execute_script(LAYOUT)  # the check itself can fail
    finally:
        sized(browser, 1300, 1000)


def test_the_first_screen_has_verdict_table_maps_and_cycle(run, browser):
    sized(browser, 1280, 800)
    try:
        window = opened(browser, report.write_report(run))
        for what in (".verdict", "table.headline", "img[alt='Map pair']", "img[alt='Seasonal cycle global']"):
            box = window.find_element("css selector", what).rect
            assert box["y"] >= 0 and box["height"] > 20 and box["y"] + box["height"] <= 800, what
        table = "const box = document.querySelector('.first .scroll'); return box.scrollWidth - box.clientWidth"
        assert window.execute_script(table) <= 0  # no column is behind its edge
    finally:
        sized(browser, 1300, 1000)
