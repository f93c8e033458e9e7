"""The page's HTML: sections made from one or more runs."""

import base64
import math
from html import escape
from importlib import resources
from typing import TYPE_CHECKING

from xflux.report.mapdata import embed, map_data
from xflux.report.run import Run, heading

if TYPE_CHECKING:
    import pandas as pd

AGAIN = "made anew by: xflux.study.numbers(RUN)"
LONG = 40  # rows above which a table starts folded


def build(runs: list[Run], resolution: float) -> str:
    """The whole page as text."""
    data, problems = map_data(runs, resolution)
    title = " · ".join(dict.fromkeys(run.title for run in runs))
    compared = f"<p class='note'>{len(runs)} runs side by side: {escape(', '.join(r.path.name for r in runs))}.</p>"
    sections = [
        ("verdict", "Verdict", _columns(runs, _verdict)),
        ("numbers", "Numbers", _numbers(runs)),
        ("limits", "What may not be claimed", _columns(runs, _limits)),
        ("what", "What was run, on what", _columns(runs, _what)),
        ("map", "Map", _map(data, problems)),
        ("tables", "Tables", _tables(runs)),
        ("figures", "Figures", _figures(runs)),
        ("provenance", "Provenance", _columns(runs, _provenance)),
        ("missing", "Missing parts", _missing(runs, problems)),
    ]
    navigation = "".join(f"<a href='#{key}'>{escape(name)}</a>" for key, name, _ in sections)
    body = "".join(f"<section id='{key}'><h2>{escape(name)}</h2>{html}</section>" for key, name, html in sections)
    files = resources.files("xflux.report")
    style, script = (files.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<link rel='icon' href='data:,'>"
        f"<title>{escape(title)}</title><style>{style}</style></head><body>"
        f"<header><h1>{escape(title)}</h1>{compared if len(runs) > 1 else ''}<nav>{navigation}</nav></header>"
        f"<main>{body}</main><script type='application/json' id='map-data'>{embed(data)}</script>"
        f"<script>{script}</script></body></html>\n"
    )


def _columns(runs: list[Run], part) -> str:
    """One part for every run: as it is for one run, in columns under the runs' names for several."""
    if len(runs) == 1:
        return part(runs[0])
    cells = "".join(f"<div class='column'><h3>{escape(run.path.name)}</h3>{part(run)}</div>" for run in runs)
    return f"<div class='columns'>{cells}</div>"


def _verdict(run: Run) -> str:
    smoke = run.provenance.get("smoke") or run.summary.get("smoke")
    warning = "<p class='warning'>A smoke run: the numbers mean nothing.</p>" if smoke else ""
    text = run.summary.get("verdict")
    return warning + (f"<p class='verdict'>{escape(str(text))}</p>" if text else _absent("verdict", "summary.json"))


def _absent(what: str, where: str) -> str:
    return f"<p class='absent'>No {escape(what)}: {escape(where)} is not in the run folder or does not have it.</p>"


def numbers_of(run: Run) -> dict[str, float]:
    """The numbers of ``summary.json``: its key ``numbers``, else its own numeric entries."""
    source = run.summary.get("numbers", run.summary)
    return {str(k): v for k, v in source.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _numbers(runs: list[Run]) -> str:
    import pandas as pd

    table = pd.DataFrame({run_name(run, runs): numbers_of(run) for run in runs})
    if not len(table):
        return _absent("numbers", "summary.json")
    if len(runs) == 1:
        return _by_model(numbers_of(runs[0]), runs[0].summary.get("units", {}))
    first = table.columns[0]
    for name in list(table.columns[1:]):
        table[f"{name} − {first}"] = table[name] - table[first]
    units = {k: v for run in runs for k, v in run.summary.get("units", {}).items()}
    table.index = [_with_units(key, units) for key in table.index]
    table.index.name = "quantity"
    return table_html(table.reset_index(), f"summary.json · {AGAIN}")


def _by_model(numbers: dict[str, float], units: dict[str, str]) -> str:
    """Keys "model: quantity" as a row a model and a column a quantity; the rest below one another."""
    import pandas as pd

    models: dict[str, dict[str, float]] = {}
    for key, value in numbers.items():
        model, colon, quantity = key.partition(": ")
        if colon:
            models.setdefault(model, {})[_with_units(quantity, units)] = value
    rest = {_with_units(key, units): value for key, value in numbers.items() if ": " not in key}
    tables = [pd.DataFrame(list(rest.items()), columns=["quantity", "value"])] if rest else []
    if models:
        tables.append(pd.DataFrame.from_dict(models, orient="index").rename_axis("model").reset_index())
    return "".join(table_html(table, f"summary.json · {AGAIN}") for table in tables)


def _with_units(quantity: str, units: dict[str, str]) -> str:
    """A quantity, or "model: quantity", with its units."""
    plain = quantity.split(": ", 1)[-1]
    return f"{quantity} ({units[plain]})" if plain in units else quantity


def run_name(run: Run, runs: list[Run]) -> str:
    """A run's folder name, with its parent's where two runs are called the same."""
    same = [r for r in runs if r.path.resolve().name == run.path.resolve().name]
    path = run.path.resolve()
    return path.name if len(same) == 1 else f"{path.parent.name}/{path.name}"


def _limits(run: Run) -> str:
    claims = run.summary.get("claims_not_allowed")
    if not claims:
        return _absent("list of claims", "summary.json")
    return "<ul class='claims'>" + "".join(f"<li>{escape(str(c))}</li>" for c in claims) + "</ul>"


def _what(run: Run) -> str:
    if not run.study:
        return _absent("study", "study.toml")
    inputs = run.provenance.get("inputs", {})
    files = f"<h4>Inputs</h4>{_nested(inputs)}" if inputs else ""
    return f"{files}<details><summary>Resolved study</summary>{_nested(run.study)}</details>"


def _provenance(run: Run) -> str:
    if not run.provenance:
        return _absent("provenance", "provenance.json")
    return _nested({k: v for k, v in run.provenance.items() if k != "inputs"})


def _nested(value: object) -> str:
    """Nested mappings as definition lists."""
    if isinstance(value, dict):
        if not value:
            return "<span class='value'>none</span>"
        rows = "".join(f"<dt>{escape(str(k))}</dt><dd>{_nested(v)}</dd>" for k, v in value.items())
        return f"<dl>{rows}</dl>"
    if isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
        return "<ol>" + "".join(f"<li>{_nested(v)}</li>" for v in value) + "</ol>"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"<span class='value'>{escape(text)}</span>"


def _map(data: dict | None, problems: list[str]) -> str:
    if data is None:
        return _absent("map", "flux/*.zarr")
    return (
        "<form class='controls' onsubmit='return false'>"
        "<label>Model <select id='map-model'></select></label>"
        "<label>minus <select id='map-minus'></select></label>"
        "<label>Month <select id='map-month'></select></label>"
        "<label>Member <select id='map-member'></select></label>"
        "<label>Colour range <input id='map-range' type='range' min='10' max='300' value='100'></label></form>"
        "<div class='map'><canvas id='map-canvas' width='1120' height='520' tabindex='0' role='img' "
        "aria-label='Map of the mean flux'></canvas></div>"
        "<div class='bar'><span id='bar-low'></span><canvas id='map-bar' width='320' height='14'></canvas>"
        "<span id='bar-high'></span> <span id='bar-units'></span></div>"
        "<p id='map-readout' aria-live='polite'>Point at a cell to read it.</p>"
        "<p class='note'>Equal Earth projection, outlines of the RECCAP2 regions. The map shows means over cells of "
        f"about {_spacing(data)}°, weighted by area; tables and figures are at full resolution. Positive: into "
        "the atmosphere.</p>"
    )


def _spacing(data: dict) -> str:
    edges = data["layers"][0]["lat_edges"]
    return f"{abs(edges[-1] - edges[0]) / (len(edges) - 1):.3g}"


def _names(runs: list[Run], kind: str) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in getattr(run, kind)))


def _tables(runs: list[Run]) -> str:
    html = []
    for name in _names(runs, "tables"):
        blocks = "".join(
            f"<div class='column'>{'' if len(runs) == 1 else f'<h4>{escape(run_name(run, runs))}</h4>'}"
            + (
                table_html(run.tables[name], f"tables/{name}.csv · made anew by: xflux table RUN {name}")
                if name in run.tables
                else _absent("table", f"tables/{name}.csv")
            )
            + "</div>"
            for run in runs
        )
        longest = max(len(run.tables[name]) for run in runs if name in run.tables)
        opened = "" if longest > LONG else " open"
        html.append(
            f"<details id='table-{escape(name)}'{opened}><summary>{escape(_title(runs, name))} ({longest} rows)"
            f"</summary><div class='columns'>{blocks}</div></details>"
        )
    return "".join(html) or _absent("tables", "tables/*.csv")


def _title(runs: list[Run], name: str) -> str:
    return next(run.heading(name) for run in runs if name in run.tables)


def table_html(table: "pd.DataFrame", source: str) -> str:
    """A data frame as a table that sorts; the full number is in ``data-value``."""
    heads = "".join(f"<th scope='col'><button type='button'>{escape(_head(c))}</button></th>" for c in table.columns)
    rows = "".join("<tr>" + "".join(_cell(v) for v in row) + "</tr>" for row in table.itertuples(index=False))
    return (
        f"<div class='scroll'><table class='sortable'><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
        f"</div><p class='source'>{escape(source)}</p>"
    )


def _head(name: object) -> str:
    return "" if str(name).startswith("Unnamed: ") else str(name)


def _cell(value: object) -> str:
    if isinstance(value, bool) or (not isinstance(value, int | float) and not hasattr(value, "dtype")):
        return f"<td>{escape(str(value))}</td>"
    number = float(value)
    if math.isnan(number):
        return "<td class='number' data-value=''>–</td>"
    return f"<td class='number' data-value='{number!r}'>{shown(number)}</td>"


def shown(number: float) -> str:
    """A number with four significant digits, whole numbers in full.

    >>> shown(-2.053171), shown(151000.0), shown(0.0412345)
    ('−2.053', '151000', '0.04123')
    """
    text = f"{number:.0f}" if number.is_integer() and abs(number) < 1e12 else f"{number:.4g}"
    return text.replace("-", "−")


def _figures(runs: list[Run]) -> str:
    html = []
    for name in _names(runs, "figures"):
        images = "".join(_image(run, name, run_name(run, runs) if len(runs) > 1 else "") for run in runs)
        html.append(f"<h3>{escape(heading(name))}</h3><div class='columns'>{images}</div>")
    return "".join(html) or _absent("figures", "figures/*.png")


def _image(run: Run, name: str, caption: str) -> str:
    if name not in run.figures:
        return f"<div class='column'>{_absent('figure', f'figures/{name}.png')}</div>"
    content = base64.b64encode(run.figures[name].read_bytes()).decode("ascii")
    words = escape(f"{heading(name)}{', ' + caption if caption else ''}")
    return (
        f"<figure class='column'><img alt='{words}' loading='lazy' src='data:image/png;base64,{content}'>"
        f"<figcaption>{escape(caption)} <span class='source'>figures/{escape(name)}.png</span></figcaption>"
        "</figure>"
    )


def _missing(runs: list[Run], problems: list[str]) -> str:
    items = [f"{run_name(run, runs)}: {part}" if len(runs) > 1 else part for run in runs for part in run.missing]
    if not items and not problems:
        return "<p>None: the page shows everything that a run folder holds.</p>"
    return "<ul>" + "".join(f"<li>{escape(i)}</li>" for i in (*items, *problems)) + "</ul>"
