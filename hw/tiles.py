"""Components that stand in a design many times and are described once, so that a large array costs as little as one."""

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Value
from amaranth.lib import wiring

from golden.parameters import Parameters

__all__ = ["Tile", "TileLibrary"]


class Tile(wiring.Component):
    """A component that defines `describe` in place of `elaborate`.

    Where the platform has a `TileLibrary` as its `tiles`, every tile is a cell that stands for its kind, and
    `rtl_gen.verilog` describes each kind once. Elsewhere, in a simulation for one, every tile is described.
    """

    parameters: Parameters
    """What it was made from; tiles of one class and one such object are equal."""

    def describe(self, platform: object) -> Module:
        """The component, as `elaborate` would return it."""
        raise NotImplementedError(f"{type(self).__name__} must define describe")

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        library = getattr(platform, "tiles", None)
        return self.describe(platform) if library is None else library.place(self, platform)


class TileLibrary:
    """The kinds of tiles of a design.

    Parameters
    ----------
    whole : optional
        A component that is described wherever it stands.
    """

    def __init__(self, whole: object = None):
        self._whole = [whole]
        self._names: dict[tuple[type, int], str] = {}
        self._tiles: list[Tile] = []

    def place(self, tile: Tile, platform: object) -> Module:
        """A cell that stands for a tile, or its description, if it is the one to be described."""
        if any(tile is whole for whole in self._whole):
            return tile.describe(platform)
        key = type(tile), id(tile.parameters)  # a tile of the library keeps the parameters alive
        if key not in self._names:
            self._names[key] = f"tile_{len(self._tiles)}"
            self._tiles.append(tile)
        ports = [("i", "clk", ClockSignal()), ("i", "rst", ResetSignal())]
        for path, member, value in tile.signature.flatten(tile):
            if len(Value.cast(value)):
                ports.append(("i" if member.flow == wiring.In else "o", "__".join(map(str, path)), value))
        m = Module()
        m.submodules.tile = Instance(self._names[key], *ports)
        return m

    def __len__(self) -> int:
        return len(self._tiles)

    def take(self, number: int) -> tuple[str, Tile]:
        """The name of a kind, and a tile of it that will be described from now on."""
        tile = self._tiles[number]
        self._whole.append(tile)
        return list(self._names.values())[number], tile
