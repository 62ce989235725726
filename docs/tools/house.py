# SPDX-License-Identifier: Apache-2.0
"""The drawing of the house: the package's rooms and who imports whom, read from the imports.

A room is a folder of the package, or a file beside the folders. Each stands above what it imports. Where one import
implies another (`cli` imports `training`, which imports `models`), only the first is drawn.

Usage: python docs/tools/house.py   (a second; writes docs/images/house.svg)
"""

import ast
import textwrap
from collections.abc import Iterator
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import networkx as nx

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "transformers_simul"
PICTURE = ROOT / "docs" / "images" / "house.svg"
# In pixels: a room, the gaps between rooms and storeys, and the lane of an arrow that passes a storey.
WIDTH, HEIGHT, GAP, RISE, LANE = 196, 62, 26, 56, 16


# How often the storeys are put in order, each by the one above or below.
SWEEPS = 12


class Spot(NamedTuple):
    """A room; or the lane of an arrow that passes a storey, named by the arrow's ends and the storey."""

    room: str
    target: str = ""
    row: int = -1

    @property
    def width(self) -> int:
        """In pixels."""
        return LANE if self.target else WIDTH


def read_rooms(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Each room, and the rooms that it imports.

    Args:
        package (`Path`): the folder of the package.
    """
    face = dict(_face(package / "__init__.py"))
    rooms: dict[str, set[str]] = {}
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        room = _room(package, relative.parts)
        if room != "__init__.py":
            imported = {_room(package, parts) for parts in _imports(path, relative.parts[:-1], face)}
            rooms.setdefault(room, set()).update(imported - {room, "__init__.py"})
    return rooms


def _room(package: Path, parts: tuple[str, ...]) -> str:
    """The room of a module or file, named by its path: `models/` or `auto.py`."""
    name = parts[0].removesuffix(".py")
    return f"{name}/" if (package / name).is_dir() else f"{name}.py"


def _face(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The names that the package itself offers, and where they come from."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level and node.module:
            yield from ((name.name, tuple(node.module.split("."))) for name in node.names)


def _imports(path: Path, folder: tuple[str, ...], face: dict[str, tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """The modules of the package that a file imports, as paths from the package, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = folder[: len(folder) - node.level + 1]
            if node.module:
                yield (*base, *node.module.split("."))
            else:
                yield from ((*base, name.name) if base else face.get(name.name, ("__init__",)) for name in node.names)


def arrows(rooms: dict[str, set[str]]) -> nx.DiGraph:
    """The imports that no other import implies.

    Args:
        rooms (`dict[str, set[str]]`): from [`read_rooms`].

    Raises:
        ValueError: if rooms import one another in a circle.
    """
    graph = nx.DiGraph(rooms)
    if not nx.is_directed_acyclic_graph(graph):
        raise ValueError(f"rooms must not import one another in a circle, but {nx.find_cycle(graph)} do.")
    return nx.transitive_reduction(graph)


def lay_out(drawn: nx.DiGraph) -> tuple[dict[Spot, tuple[float, int]], float]:
    """Where everything stands, each room above what it imports: middle and storey from the top; and the width of all.

    Args:
        drawn (`networkx.DiGraph`): from [`arrows`].
    """
    generations = list(nx.topological_generations(drawn.reverse()))[::-1]
    row_of = {room: row for row, generation in enumerate(generations) for room in generation}
    levels = [[Spot(room) for room in sorted(generation)] for generation in generations]
    links = nx.Graph()
    # A room may import nothing and be imported by none.
    links.add_nodes_from(spot for level in levels for spot in level)
    for room, other in sorted(drawn.edges):
        course = _course(room, other, row_of)
        nx.add_path(links, course)
        for spot in course[1:-1]:
            levels[spot.row].append(spot)
    for _ in range(SWEEPS):
        for fixed, moved in [*pairwise(levels), *pairwise(levels[::-1])]:
            # Each near what it is linked to on the storey above or below, so that few arrows cross.
            place = {spot: index / len(fixed) for index, spot in enumerate(fixed)}
            moved.sort(key=lambda spot, place=place: _mean([place[each] for each in links[spot] if each in place]))
    widths = [sum(spot.width + GAP for spot in level) for level in levels]
    spots = {}
    for row, (level, width) in enumerate(zip(levels, widths, strict=True)):
        left = (max(widths) - width + GAP) / 2
        for spot in level:
            spots[spot] = (left + GAP / 2 + spot.width / 2, row)
            left += spot.width + GAP
    return spots, max(widths) + GAP


def _course(room: str, other: str, row_of: dict[str, int]) -> list[Spot]:
    """What an arrow touches on its way down."""
    return [Spot(room), *(Spot(room, other, row) for row in range(row_of[room] + 1, row_of[other])), Spot(other)]


def _mean(places: list[float]) -> float:
    return sum(places) / len(places) if places else 0.5


def draw(package: Path = PACKAGE) -> str:
    """The drawing as SVG.

    Args:
        package (`Path`): the folder of the package.
    """
    drawn = arrows(read_rooms(package))
    spots, width = lay_out(drawn)
    row_of = {spot.room: row for spot, (_, row) in spots.items() if not spot.target}
    height = _top(max(row_of.values()) + 1) - RISE + GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" font-family="sans-serif">',
        "<title>The folders of transformers_simul and their imports</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#777777"/></marker></defs>',
        f'<rect width="{width:.0f}" height="{height}" fill="#ffffff"/>',
    ]
    lines += [_arrow([(spot, *spots[spot]) for spot in _course(*edge, row_of)]) for edge in sorted(drawn.edges)]
    lines += [_box(package, spot.room, x, _top(row)) for spot, (x, row) in spots.items() if not spot.target]
    return "\n".join([*lines, "</svg>\n"])


def _top(row: int) -> int:
    return GAP + row * (HEIGHT + RISE)


def _arrow(course: list[tuple[Spot, float, int]]) -> str:
    """A line from the foot of a room, through its lanes, to the head of another."""
    (room, x, row), *others = course
    y = _top(row) + HEIGHT
    line = f"M{x:.0f},{y}"
    for spot, across, row in others:
        down = _top(row)
        line += f" C{x:.0f},{y + RISE // 2} {across:.0f},{down - RISE // 2} {across:.0f},{down}"
        x, y = across, down + HEIGHT
        line += f" L{x:.0f},{y}" if spot.target else ""
    name = f"{room.room} imports {others[-1][0].room}"
    return f'<path d="{line}" fill="none" stroke="#777777" marker-end="url(#tip)"><title>{name}</title></path>'


def _box(package: Path, room: str, x: float, y: int) -> str:
    """A room with its name and the beginning of its docstring."""
    path = package / room / "__init__.py" if room.endswith("/") else package / room
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    about = textwrap.wrap(docstring.partition("\n\n")[0], 36, max_lines=2, placeholder=" …")
    fill = "#9ecae1" if room == "models/" else "#deebf7" if room.endswith("/") else "#eeeeee"
    left = x - WIDTH / 2
    texts = [f'<text x="{left + 9:.0f}" y="{y + 19}" font-size="13" font-weight="bold">{escape(room)}</text>']
    for index, line in enumerate(about):
        texts.append(f'<text x="{left + 9:.0f}" y="{y + 36 + 15 * index}" font-size="10">{escape(line)}</text>')
    frame = f'<rect x="{left:.0f}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{fill}" stroke="#555555"/>'
    return "\n".join([frame, *texts])


def main() -> None:
    PICTURE.write_text(draw(), encoding="utf-8")
    print(f"written: {PICTURE}")


if __name__ == "__main__":
    main()
