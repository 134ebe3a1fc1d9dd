"""Tiles: each kind is a module, described once, and each of them an instance of it."""

from amaranth.back import rtlil
from amaranth.hdl import Fragment, Instance, Value
from amaranth.lib import wiring

from hw.tiles import Tile, TileLibrary
from rtl_gen.verilog.rtlil import Constant, Module, Netlist, Slice

# Amaranth has room for 65,536 bits of inputs at the top, less than a row of the array may have. So inputs of a tile
# are driven by cells of this kind in its text, and ports from `place_tiles` on.
_INPUT = "tile_input"


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
        texts.append(_convert_tile(tile, kind, platform))
    return "\n".join(texts), kinds


def _convert_tile(tile: Tile, kind: str, platform: object) -> str:
    fragment = Fragment.get(tile, platform)
    outputs = {}
    for path, member, value in tile.signature.flatten(tile):
        port, value = "__".join(map(str, path)), Value.cast(value)
        if member.flow == wiring.Out:
            outputs[port] = (value, None)
        elif len(value):
            fragment.add_subfragment(Instance(_INPUT, p_port=port, o_value=value))
    return rtlil.convert_fragment(fragment, ports=outputs, name=kind, emit_src=False)[0]


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
        if module.name in tiles:
            _open_inputs(module)
        for cell in module.cells:
            if cell.kind in tiles:
                names.setdefault(cell.kind, f"{module.name}.{cell.name[1:]}")
    for module in netlist.modules.values():
        _rename(module, names)
    renamed = {module.name: module for module in netlist.modules.values()}
    netlist.modules.clear()
    netlist.modules.update(renamed)


def _open_inputs(module: Module) -> None:
    """Make ports of what drives the inputs of a tile."""
    sources = [cell for cell in module.cells if cell.kind == f"\\{_INPUT}"]
    module.cells = [cell for cell in module.cells if cell.kind != f"\\{_INPUT}"]
    names: dict[str, str] = {}
    for cell in sources:
        (driven,) = cell.outputs["value"]
        module.wires[driven.wire].port = "input"
        port = "\\" + cell.parameters["port"].strip('"')
        if driven.wire != port:  # a signal inside has that name
            names |= {driven.wire: port, port: driven.wire}

    def renamed(piece: Constant | Slice) -> Constant | Slice:
        constant = isinstance(piece, Constant)
        return piece if constant else Slice(names.get(piece.wire, piece.wire), piece.high, piece.low)

    if names:
        for wire in module.wires.values():
            wire.name = names.get(wire.name, wire.name)
        module.wires = {wire.name: wire for wire in module.wires.values()}
        module.map_targets(renamed)
        module.map_reads(lambda value: tuple(map(renamed, value)))


def _rename(module: Module, names: dict[str, str]) -> None:
    def renamed(name: str) -> str:
        head, dot, tail = name.partition(".")
        return (renamed(names[head]) if head in names else head) + dot + tail

    module.name = renamed(module.name)
    for cell in module.cells:
        cell.kind = renamed(cell.kind)
