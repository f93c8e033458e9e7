"""Docstrings on their way to napoleon: what ours mean where its rules would read them otherwise.

- ``name : what it is`` is a parameter with its description, not with its type.
- *Returns* of one line is what it is, not its type. The line of a property or attribute is its description too.
- ``:func:`` and the like name an object as its own module does: it is linked where the reference has it. What there is
  but has no page becomes plain code; what there is not stays as it is, and the build warns.
- ``|x|`` is an absolute value.
- A method of the accessor has what its function says, without the object that it sits on.
"""

import importlib
import inspect
import re
from functools import cache
from pathlib import Path

NAMES = re.compile(r"^([*\w]+(?:, ?[*\w…]+)*) : (.+)$")
TYPES = re.compile(r"^[\w.]+(?:Error|Warning)(?:, [\w.]+(?:Error|Warning))*$")


def sections(lines: list[str]) -> list[tuple[str | None, list[str]]]:
    """(title, lines) of each section of a numpydoc docstring; the first has no title."""
    found: list[tuple[str | None, list[str]]] = [(None, [])]
    i = 0
    while i < len(lines):
        if i + 1 < len(lines) and re.fullmatch(r"-{3,}", lines[i + 1].strip()) and lines[i].strip():
            found.append((lines[i].strip(), []))
            i += 2
        else:
            found[-1][1].append(lines[i])
            i += 1
    return found


def rewritten(lines: list[str]) -> list[str]:
    """The docstring in the form that napoleon takes as it is meant."""
    out: list[str] = []
    for title, body in sections(lines):
        if title is None:
            out += body
        elif title == "Returns" and sum(map(bool, body)) == 1:
            out += ["Returns:", "--------", *body]  # a section of free text to napoleon, by conf.py
        else:
            out += [title, "-" * len(title)]
            for line in body:
                named = NAMES.match(line) if title in ("Parameters", "Attributes") else None
                out += [named[1], f"    {named[2]}"] if named else [line]
    return out


ROLE = re.compile(r":(func|class|meth|mod|data|exc|attr):`~?([\w.]+)`")


@cache
def documented() -> dict[str, list[str]]:
    """Last part of a name → full names that have a page, from the lists of the reference."""
    text = (Path(__file__).parent / "reference.md").read_text(encoding="utf-8")
    names: dict[str, list[str]] = {}
    for name in re.findall(r"^   ([A-Za-z][\w.]*)$", text, flags=re.M):
        names.setdefault(name.split(".")[-1], []).append(f"xflux.{name}")
    return names


def is_there(target: str, module: str) -> bool:
    """Whether ``target`` names an object or module, seen from ``module`` or from the top."""
    for start in (module, *("xflux." + ".".join(module.split(".")[1:n]) for n in (2, 1)), ""):
        path = f"{start.strip('.')}.{target}".strip(".").split(".")
        for cut in range(len(path), 0, -1):
            try:
                found = importlib.import_module(".".join(path[:cut]))
                for part in path[cut:]:
                    found = getattr(found, part)
                return True
            except (ImportError, AttributeError):
                continue
    return False


def linked(match: re.Match, module: str) -> str:
    """A role whose target is the full name of a page; plain code where the object has none."""
    role, target = match[1], match[2]
    pages = documented().get(target.split(".")[-1], [])
    if role == "mod" or target in pages or (role == "meth" and "." in target):
        known = re.fullmatch(r"xflux\.\w+", target) or target in pages or role == "meth"
        if known or not is_there(target, module):
            return match[0] if role == "mod" else f":{role}:`~{target}`"
        return f"``{target}``"
    near = [p for p in pages if p.split(".")[:2] == module.split(".")[:2]] or pages
    if len(near) == 1 and (target.split(".")[-1] == target or target.startswith("xflux.")):
        return f":{role}:`~{near[0]}`"
    return f"``{target}``" if is_there(target, module) else match[0]


def outside_code(line: str, change) -> str:
    """``change`` of the parts of a line that are no literals."""
    return "".join(part if i % 2 else change(part) for i, part in enumerate(re.split(r"(``.*?``)", line)))


def module_of(name: str, obj) -> str:
    """The module that an object was written in, else the nearest of its name."""
    return getattr(obj, "__module__", None) or (getattr(obj, "__name__", "") if "." in name else name) or name


def absolute(text: str) -> str:
    return re.sub(r"\|(\S[^|`]*?)\|", r"\\|\1\\|", text)


def resolved(line: str, module: str) -> str:
    """A line of prose with its roles, exceptions and absolute values made plain; examples stay as they are."""
    if line.lstrip().startswith((">>>", "...")):
        return line
    if TYPES.match(line):
        return ", ".join(documented().get(name, [name])[0] for name in re.split(", ", line))
    return outside_code(ROLE.sub(lambda match: linked(match, module), line), absolute)


def with_details(function, lines: list[str]) -> list[str]:
    """What an accessor's method takes from its function, without the first parameter: the object that it sits on."""
    first, out = next(iter(inspect.signature(function).parameters)), []
    for title, body in sections(lines):
        if title == "Parameters":
            body = without(body, first)
        out += body if title is None else [title, "-" * len(title), *body]
    return out


def without(body: list[str], name: str) -> list[str]:
    """A section of parameters without one of them."""
    out, skipping = [], False
    for line in body:
        if line and not line.startswith(" "):
            names = [n for n in line.split(", ") if n != name]
            skipping = not names
            line = ", ".join(names)
        if not skipping:
            out.append(line)
    return out


@cache
def code_of_pages() -> dict[str, str]:
    """Page → the code that its build or the tests run."""
    here = Path(__file__).parent
    pages = {}
    for path in sorted(p for p in here.rglob("*.md") if not {"_build", "api"} & set(p.relative_to(here).parts)):
        cells = re.findall(r"```(?:\{code-cell\} )?python\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.S)
        pages["/" + path.relative_to(here).with_suffix("").as_posix()] = "\n".join(cells)
    return pages


def used_on(name: str) -> list[str]:
    """Pages whose code calls a function or class by its room, by an import, or through the accessor."""
    *path, last = name.split(".")
    room = path[-1]
    ways = [rf"\b{room}\.{last}\(", rf"from {'.'.join(path)} import [^\n]*\b{last}\b"]
    if room in ("flux", "evaluate", "regions", "temporal", "bridge", "grid", "forward"):
        ways.append(rf"\.flux\.{last}\(")
    return [page for page, code in code_of_pages().items() if any(re.search(way, code) for way in ways)]


def with_pages(name: str, lines: list[str]) -> list[str]:
    """The docstring and links to the pages where the object is at work."""
    pages = used_on(name)
    return [*lines, "", ".. rubric:: At work in", "", *(f"- :doc:`{page}`" for page in pages), ""] if pages else lines


_kept: dict[str, list[str]] = {}


def process(app, what, name, obj, options, lines: list[str]) -> None:
    """Sphinx's event ``autodoc-process-docstring``, before napoleon's."""
    module = obj.__name__ if what == "module" else module_of(name, getattr(obj, "fget", obj))
    lines[:] = rewritten(lines)
    if inspect.isfunction(obj) and ".flux." in name:
        lines[:] = with_details(inspect.unwrap(obj), lines)
    lines[:] = [resolved(line, module) for line in lines]
    if what in ("property", "attribute", "data"):
        _kept[name] = list(lines)


def restore(app, what, name, obj, options, lines: list[str]) -> None:
    """The same event after napoleon's, which takes what stands before a colon in an attribute's line for its type."""
    if name in _kept:
        lines[:] = _kept.pop(name)
    if what in ("function", "class") or ".flux." in name:
        lines[:] = with_pages(name, lines)
