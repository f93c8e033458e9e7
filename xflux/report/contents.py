"""What stands where on the page: sections in reading order, each figure with its caption and the tables under it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Entry:
    """A figure of a section, by its file's stem, and its tables; "*" stands for what is matched, the same in both."""

    section: str
    figure: str
    title: str
    caption: str
    tables: tuple[str, ...] = ()


SUM, CYCLE, YEARS, REGIONS = "The global sum", "The seasonal cycle", "Years", "Regions"
MAPS, TOWERS, BRIDGE, TRAINING, MORE = "Maps", "Towers", "The bridge", "Training", "More"
SECTIONS = (SUM, CYCLE, YEARS, REGIONS, MAPS, TOWERS, BRIDGE, TRAINING, MORE)
FIRST = ("map_pair", "seasonal_cycle_global")
"""The figures of the first screen."""

ENTRIES = (
    Entry(SUM, "global_flux", "Annual flux of the globe, year by year",
          "Lines are means over members, shades their standard deviation; dotted lines are single inversions. "
          "Anomalies are less their linear trend. Bars: mean and standard deviation over members or inversions.",
          ("global_annual", "truth", "half_of_the_inversions", "common_cells", "ensemble", "monthly_drivers")),
    Entry(CYCLE, "seasonal_cycle_by_region", "Mean seasonal cycle of every region",
          "Each panel has its own scale. Shades: the range of the inversions, the standard deviation of members.",
          ("seasonal_cycle", "table_3_monthly")),
    Entry(CYCLE, "efficiency", "How well months are met, by region",
          "Normalised Nash–Sutcliffe efficiency against the inversions' mean: 1 is perfect, below 0.5 (dotted) the "
          "mean of the inversions' months would be nearer.", ("scores_by_region",)),
    Entry(YEARS, "interannual", "Annual anomalies",
          "Annual fluxes less their linear trend: the members' mean, the inversions' mean and range. Unseen years are "
          "shaded.", ("interannual", "interannual_years", "interannual_references", "interannual_regions",
                      "table_2_annual", "table_c1_sinks")),
    Entry(REGIONS, "annual_*", "Annual flux by region: *",
          "Bars are means over members with their standard deviation; the band is the range of the inversions.",
          ("regions_*", "within_inversion_range")),
    Entry(MAPS, "mean_flux_maps", "Mean annual flux",
          "Blue is a sink, red a source, grey has no value. All maps have the same scale; arrows: larger values."),
    Entry(MAPS, "difference_maps", "What the inversions change",
          "Difference from EC, which is trained on towers alone."),
    Entry(MAPS, "mean_and_variability", "Mean and variability over years",
          "Below: standard deviation of the annual means of the members' mean."),
    Entry(MAPS, "selected_months", "Four months", "EC, the last model, and their difference, on one scale."),
    Entry(MAPS, "correlation_maps", "How months agree, cell by cell",
          "Correlation of monthly fluxes with each reference and, at the right, by how much it differs. Inversions are "
          "not expected to be right in single cells."),
    Entry(TOWERS, "towers", "Predicted against observed daily flux at towers that were held out",
          "Colours count tower days; dotted is 1:1, the orange line the least-squares fit.", ("towers", "paired")),
    Entry(TOWERS, "towers_longest", "The towers with the longest records",
          "Held-out predictions day by day; dotted is 1:1, lines are least-squares fits."),
    Entry(TOWERS, "towers_by_plant_type", "Predicted against observed by plant type",
          "The plant types with most days: CRO cropland, GRA grassland, WET wetland, MF mixed forest, SAV and WSA "
          "savanna, OSH and CSH shrubland; DBF, DNF, EBF, ENF deciduous or evergreen, broadleaf or needleleaf forest.",
          ("towers_by_group",)),
    Entry(BRIDGE, "bridge_*", "Pixels that stand for regions: *",
          "The area of a mark is its weight.", ("bridge_post_hoc",)),
    Entry(BRIDGE, "stability", "How often a pixel is chosen",
          "Candidates are drawn anew in every draw; the scale is logarithmic."),
    Entry(BRIDGE, "plant_types", "Plant types of the pixels that stand for regions",
          "Bars: share of all contributing pixels; outlines: share of all land."),
    Entry(BRIDGE, "plant_types_by_region", "The same by region",
          "Share of each region's contributing pixels.", ("bridge_plant_types",)),
    Entry(TRAINING, "few_inversions_*", "Seasonal cycles of models that saw only so many inversions: *",
          "Solid: models, mean over members and standard deviation; dotted: the mean of the inversions that they were "
          "trained on.", ("few_inversions",)),
    Entry(TRAINING, "history_*", "Loss by epoch: *",
          "Thin lines are members. Validation is on sites, and years, that were held out; integral and bridged: the "
          "regions' sum in these years, in full and by the bridge.", ("drivers",)),
)  # fmt: skip


def arranged(
    figures: Iterable[str], tables: Iterable[str], words: Callable[[str], str] = str
) -> dict[str, list[tuple[Entry, list[str]]]]:
    """Section → entries with the tables that are there; every figure and table once, unknown ones in the last section.

    ``words`` says what "*" stood for.

    >>> found = arranged(["annual_countries", "mine"], ["regions_countries", "towers"])
    >>> [(section, entry.title, under) for section, entries in found.items() for entry, under in entries]
    [('Regions', 'Annual flux by region: countries', ['regions_countries']),
     ('Towers', '', ['towers']), ('More', 'Mine', [])]
    """
    figures, tables = [f for f in figures if f not in FIRST], list(tables)
    found: dict[str, list[tuple[Entry, list[str]]]] = {}
    for row in ENTRIES:
        stems = [f for f in figures if fnmatchcase(f, row.figure)] or [""]
        for stem in stems:
            rest = stem[len(row.figure) - 1 :]
            # a table that several figures share stands under the last
            asked = [t.replace("*", rest) if stem else t for t in row.tables if "*" in t or stem == stems[-1]]
            under = [t for pattern in asked for t in tables if fnmatchcase(t, pattern)]
            if stem or under:
                title = row.title.replace("*", words(rest)) if stem else ""
                found.setdefault(row.section, []).append((replace(row, figure=stem, title=title), under))
            figures, tables = [f for f in figures if f != stem], [t for t in tables if t not in under]
    for stem in figures:
        title = stem.replace("_", " ").capitalize()
        found.setdefault(MORE, []).append((Entry(MORE, stem, title, ""), []))
    if tables:
        found.setdefault(MORE, []).append((Entry(MORE, "", "", ""), tables))
    return found
