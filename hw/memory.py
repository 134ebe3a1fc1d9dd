"""The one memory of the project: written and read by clock, in the form that open tools turn into block RAM."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Shape, ShapeLike
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out


class Ram(wiring.Component):
    """One write port and one read port on one clock.

    Reading the row that is being written in the same clock is outside the contract: block RAMs of ECP5 and iCE40
    return anything then, and any promise would cost a register and a multiplexer per bit (`no_rw_check` tells yosys
    that none is made).

    Latency: 1 clock from address to data. Throughput: one write and one read per clock.

    Parameters
    ----------
    shape : ShapeLike
        Shape of a row.
    depth : int
        Rows; at least 1.
    distributed : bool
        Whether it is to be made of look-up tables, where the target has such: for a few rows.

    Members
    -------
    write_enable, write_address, write_data : In
        Row to write at this clock edge.
    read_enable, read_address : In
        Row to read at this clock edge; without `read_enable` the data of the last read stays.
    read_data : Out(shape)
        The row.

    Raises
    ------
    TypeError
        If `depth` is no integer.
    ValueError
        If `depth` is below 1.
    """

    latency = 1

    def __init__(self, shape: ShapeLike, depth: int, *, distributed: bool = False):
        _check_depth(depth)
        Shape.cast(shape)
        self._shape = shape
        self._depth = depth
        self._attributes: dict[str, int | str] = {"no_rw_check": 1}
        if distributed:
            self._attributes["ram_style"] = "distributed"
        address_width = (depth - 1).bit_length()
        super().__init__(
            {
                "write_enable": In(1),
                "write_address": In(address_width),
                "write_data": In(shape),
                "read_enable": In(1),
                "read_address": In(address_width),
                "read_data": Out(shape),
            }
        )

    @property
    def depth(self) -> int:
        """Rows."""
        return self._depth

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        m.submodules.rows = rows = memory.Memory(shape=self._shape, depth=self._depth, init=[], attrs=self._attributes)
        write = rows.write_port()
        read = rows.read_port(domain="sync")
        m.d.comb += [
            write.en.eq(self.write_enable),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            read.en.eq(self.read_enable),
            read.addr.eq(self.read_address),
            self.read_data.eq(read.data),
        ]
        return m


class BufferRead(wiring.Signature):
    """Port of a part that reads a `DoubleBuffer`.

    Parameters
    ----------
    shape : ShapeLike
        Shape of a row.
    depth : int
        Rows of a half.

    Members
    -------
    enable, half, address : Out
        Row to read at this clock edge; without `enable` the last one stays.
    data : In(shape)
        The row, `DoubleBuffer.latency` clocks later.
    """

    def __init__(self, shape: ShapeLike, depth: int):
        super().__init__({"enable": Out(1), "half": Out(1), "address": Out(range(depth)), "data": In(shape)})


def buffer_writes(shape: ShapeLike, depth: int) -> dict[str, wiring.Member]:
    """Members that write a row of a `DoubleBuffer`: those of a `BufferRead`, all of them inputs, behind ``write_``."""
    return {f"write_{name}": In(member.shape) for name, member in BufferRead(shape, depth).members.items()}


class RegisterFile(wiring.Component):
    """A few rows that are read without a clock: look-up tables that hold data, where the target has such.

    No reset changes them. A row that is written in a clock is read as it was before.

    Latency: none to read, 1 clock to write. Throughput: one write and all reads per clock.

    Parameters
    ----------
    shape : ShapeLike
        Shape of a row.
    depth : int
        Rows; at least 2.
    reads : int
        Ports that read; each takes a copy of the rows.

    Members
    -------
    write_enable, write_address, write_data : In
        Row to write at this clock edge.
    read_addresses : In(array)
        Rows to read.
    read_data : Out(array of shape)
        The rows.

    Raises
    ------
    TypeError
        If `depth` is no integer.
    ValueError
        If `depth` is below 2.
    """

    def __init__(self, shape: ShapeLike, depth: int, reads: int = 1):
        _check_depth(depth, least=2)
        self._shape, self._depth = shape, depth
        address_width = (depth - 1).bit_length()
        super().__init__(
            {
                "write_enable": In(1),
                "write_address": In(address_width),
                "write_data": In(shape),
                "read_addresses": In(data.ArrayLayout(address_width, reads)),
                "read_data": Out(data.ArrayLayout(shape, reads)),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        m.submodules.rows = rows = memory.Memory(
            shape=self._shape, depth=self._depth, init=[], attrs={"ram_style": "distributed"}
        )
        write = rows.write_port()
        m.d.comb += [
            write.en.eq(self.write_enable),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
        ]
        for address, row in zip(self.read_addresses, self.read_data, strict=True):
            read = rows.read_port(domain="comb")
            m.d.comb += [read.addr.eq(address), row.eq(read.data)]
        return m


class DoubleBuffer(wiring.Component):
    """Two halves of as many rows, so that one is filled while the other is read.

    Row r of half h lies at the address ``{h, r}`` of one `Ram`, whose data pass a register: a block RAM answers late.

    Latency: 2 clocks from address to data. Throughput: one write and one read per clock.

    Parameters
    ----------
    shape : ShapeLike
        Shape of a row.
    depth : int
        Rows of a half; at least 1.

    Members
    -------
    write_enable, write_half, write_address, write_data : In
        Row to write at this clock edge.
    read : In(BufferRead)
        Who reads.

    Raises
    ------
    TypeError
        If `depth` is no integer.
    ValueError
        If `depth` is below 1.
    """

    latency = Ram.latency + 1

    def __init__(self, shape: ShapeLike, depth: int):
        _check_depth(depth)
        self._shape, self._depth = shape, depth
        super().__init__({**buffer_writes(shape, depth), "read": In(BufferRead(shape, depth))})

    @property
    def depth(self) -> int:
        """Rows of a half."""
        return self._depth

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        # The second half begins at a power of two, so that no address is added to another.
        m.submodules.ram = ram = Ram(self._shape, (1 << len(self.read.address)) + self._depth)
        m.d.comb += [
            ram.write_enable.eq(self.write_enable),
            ram.write_address.eq(Cat(self.write_address, self.write_half)),
            ram.write_data.eq(self.write_data),
            ram.read_enable.eq(self.read.enable),
            ram.read_address.eq(Cat(self.read.address, self.read.half)),
        ]
        m.d.sync += self.read.data.eq(ram.read_data)
        return m


class Rom(wiring.Component):
    """A table that several lanes read at once, by clock. Tools double a block RAM for every two ports.

    Latency: 1 clock from address to data. Throughput: a read on every port per clock.

    Parameters
    ----------
    words : sequence of int
        Contents, not negative.
    ports : int
        Reads at a time; at least 1.

    Members
    -------
    enable : In(1)
        Read at this clock edge; without it the data of the last read stay.
    addresses : In(array)
        Word that each port reads; what lies past the end is undefined.
    words : Out(array)
        What each has read.

    Raises
    ------
    ValueError
        If there are no words or no ports, or a word is negative.
    """

    latency = 1

    def __init__(self, words: Sequence[int], ports: int = 1):
        if not words or min(words) < 0:
            raise ValueError(f"Words of a table must be at least 0, and one at least, not {list(words[:4])}")
        if ports < 1:
            raise ValueError(f"Ports of a table must be at least 1, not {ports}")
        self._contents = list(words)
        self._width = max(1, max(words).bit_length())
        super().__init__(
            {
                "enable": In(1),
                "addresses": In(data.ArrayLayout((len(words) - 1).bit_length(), ports)),
                "words": Out(data.ArrayLayout(self._width, ports)),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        m.submodules.rows = rows = memory.Memory(
            shape=self._width, depth=len(self._contents), init=self._contents, attrs={"rom_style": "block"}
        )
        for address, word in zip(self.addresses, self.words, strict=True):
            read = rows.read_port(domain="sync")
            m.d.comb += [read.en.eq(self.enable), read.addr.eq(address), word.eq(read.data)]
        return m


def _check_depth(depth: int, *, least: int = 1) -> None:
    if not isinstance(depth, int):
        raise TypeError(f"Depth of a memory must be an integer, not {depth!r}")
    if depth < least:
        raise ValueError(f"Depth of a memory must be at least {least}, not {depth}")
