"""Components that stand in a design many times and are described once, so that a large array costs as little as one."""

from typing import Any

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Shape, ShapeCastable, ShapeLike, Value
from amaranth.lib import wiring

from golden.parameters import Parameters


class Tile(wiring.Component):
    """A component that defines `describe` in place of `elaborate`, and is made from parameters alone.

    Where the platform has a `TileLibrary` as its `tiles`, every tile is a cell of its kind, and `rtl_gen.verilog`
    describes each kind once. Elsewhere, in a simulation for one, every tile is described.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.
    members : dict of str to wiring.Member
        Its ports.
    """

    def __init__(self, parameters: Parameters, members: dict[str, wiring.Member]):
        self._parameters = parameters
        super().__init__(members)

    @property
    def parameters(self) -> Parameters:
        """What it was made from; tiles of one class and one such object are equal."""
        return self._parameters

    def describe(self, platform: object) -> Module:
        """The component, as `elaborate` would return it."""
        raise NotImplementedError(f"{type(self).__name__} must define describe")

    def give(self, **values: Any) -> None:
        """Make values its inputs, in place of the signals that it came with.

        What many tiles share would be copied for each of them otherwise, bit by bit.

        Parameters
        ----------
        values : value for each name
            Of inputs; as wide as these, and as many.

        Raises
        ------
        ValueError
            If there is no such input, a value is wider or narrower, or there are more or fewer.
        """
        members = dict(self.signature.members.items())
        for name, value in values.items():
            member = members.get(name)
            if member is None or not member.is_port or member.flow != wiring.In:
                raise ValueError(f"what is given to {type(self).__name__} must be one of its inputs, not {name}")
            setattr(self, name, self._shaped(name, member.shape, value, member.dimensions))

    def _shaped(self, name: str, shape: ShapeLike, value: Any, dimensions: tuple[int, ...]) -> Any:
        """A value as one of a shape, or of each that is in a list of such."""
        if dimensions:
            if len(value) != dimensions[0]:
                raise ValueError(f"{name} of {type(self).__name__} must be {dimensions[0]} values, not {len(value)}")
            return [self._shaped(name, shape, one, dimensions[1:]) for one in value]
        value, wanted = Value.cast(value), Shape.cast(shape).width
        if len(value) != wanted:
            raise ValueError(f"{name} of {type(self).__name__} must have {wanted} bits, not {len(value)}")
        return shape(value) if isinstance(shape, ShapeCastable) else value

    def elaborate(self, platform: object) -> Module | Instance:  # noqa: D102
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

    def place(self, tile: Tile, platform: object) -> Module | Instance:
        """A cell of a tile's kind, or its description, if it is the one to be described."""
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
        return Instance(self._names[key], *ports)

    def __len__(self) -> int:
        return len(self._tiles)

    def take(self, number: int) -> tuple[str, Tile]:
        """The name of a kind, and a tile of it that is described wherever it stands."""
        tile = type(self._tiles[number])(self._tiles[number].parameters)
        self._whole.append(tile)
        return list(self._names.values())[number], tile
