"""Tiles: each kind is a module, described once, and each of them an instance of it."""

from amaranth.back import rtlil
from amaranth.lib import wiring

from hw.tiles import TileLibrary
from rtl_gen.verilog.rtlil import Module, Netlist

__all__ = ["TilePlatform", "convert", "place_tiles"]


class TilePlatform:
    """A platform, or none, with a library of tiles."""

    def __init__(self, platform: object, tiles: TileLibrary):
        self.tiles = tiles
        self._platform = platform

    def __getattr__(self, name: str) -> object:
        return getattr(self._platform, name)


def convert(component: wiring.Component, name: str, platform: object) -> tuple[str, list[str]]:
    """RTLIL of a component and then of every kind of tile in it, and the names of these."""
    library = TileLibrary(component)
    platform = TilePlatform(platform, library)
    texts, kinds = [rtlil.convert(component, name=name, platform=platform, emit_src=False)], []
    while len(kinds) < len(library):
        kind, tile = library.take(len(kinds))
        kinds.append(kind)
        texts.append(rtlil.convert(tile, name=kind, platform=platform, emit_src=False))
    return "\n".join(texts), kinds


def place_tiles(netlist: Netlist, kinds: list[str]) -> None:
    """Call tiles, and what is in them, by the place where the first of each kind stands.

    Parameters
    ----------
    netlist : Netlist
        Read from what `convert` gave; changed in place.
    kinds : list of str
        Names of the tiles' modules.
    """
    tiles = {f"\\{kind}" for kind in kinds}
    names: dict[str, str] = {}
    for module in netlist.modules.values():
        for cell in module.cells:
            if cell.kind in tiles:
                names.setdefault(cell.kind, f"{module.name}.{cell.name[1:]}")
    for module in netlist.modules.values():
        _rename(module, names)
    renamed = {module.name: module for module in netlist.modules.values()}
    netlist.modules.clear()
    netlist.modules.update(renamed)


def _rename(module: Module, names: dict[str, str]) -> None:
    def renamed(name: str) -> str:
        head, dot, tail = name.partition(".")
        return (renamed(names[head]) if head in names else head) + dot + tail

    module.name = renamed(module.name)
    for cell in module.cells:
        cell.kind = renamed(cell.kind)
