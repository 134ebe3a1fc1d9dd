"""Tiles: what stands for them in a design, and what they are, made instances and their modules."""

from amaranth.back import rtlil
from amaranth.lib import wiring

from hw.tiles import TileLibrary
from rtl_gen.verilog.rtlil import Bits, Cell, Constant, Module, Netlist, join, take

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
    """Put the modules of tiles in the place of those that stand for them.

    Parameters
    ----------
    netlist : Netlist
        Read from what `convert` gave; changed in place.
    kinds : list of str
        Names of the tiles' modules.
    """
    tiles = {f"\\{kind}" for kind in kinds}
    stands = {
        module.name: module.cells[0]
        for module in netlist.modules.values()
        if len(module.cells) == 1 and module.cells[0].kind in tiles
    }
    names: dict[str, str] = {}
    for name, cell in stands.items():
        names.setdefault(cell.kind, name)
        del netlist.modules[name]
    for module in netlist.modules.values():
        for cell in module.cells:
            if cell.kind in stands:
                _stand_in(cell, stands[cell.kind])
    for module in netlist.modules.values():
        _rename(module, names)
    renamed = {module.name: module for module in netlist.modules.values()}
    netlist.modules.clear()
    netlist.modules.update(renamed)


def _stand_in(cell: Cell, tile: Cell) -> None:
    """Make an instance of what stands for a tile one of the tile."""
    given = cell.inputs | cell.outputs

    def seen(bits: Bits) -> Bits:
        """A value inside, from outside."""
        pieces = []
        for piece in bits:
            constant = isinstance(piece, Constant)
            pieces += [piece] if constant else take(given[piece.wire[1:]], piece.high, piece.low)
        return join(pieces)

    cell.kind = tile.kind
    cell.inputs = {port: seen(bits) for port, bits in tile.inputs.items()}
    # An output that nobody reads is no port of what stands for the tile.
    used = {port: bits for port, bits in tile.outputs.items() if all(piece.wire[1:] in given for piece in bits)}
    cell.outputs = {port: seen(bits) for port, bits in used.items()}


def _rename(module: Module, names: dict[str, str]) -> None:
    """Call tiles, and what is in them, by the place where the first of them stands."""

    def renamed(name: str) -> str:
        head, dot, tail = name.partition(".")
        return (renamed(names[head]) if head in names else head) + dot + tail

    module.name = renamed(module.name)
    for cell in module.cells:
        cell.kind = renamed(cell.kind)
