"""AXI4 and AXI4-Lite (AMBA AXI Protocol Specification, ARM IHI 0022H) as signatures, under their published names.

Signals that a master here would hold constant and a slave may ignore (lock, cache, protection, quality of service,
region, user) are left out: an interconnect gives them their defaults. So are those that it would not look at.
"""

from amaranth.hdl import unsigned
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

MAX_BEATS = 16
"""Beats of a burst at most, of the 256 that AXI4 allows: no master holds the bus for long."""

BOUNDARY = 4096
"""Bytes whose boundaries no burst crosses."""


_CHANNELS = {"aw": "write", "w": "written word", "b": "answer to a write", "ar": "read", "r": "word read"}

_SIGNALS = {
    "valid": "offered",
    "ready": "taken, if offered",
    "id": "identifier",
    "addr": "address of its first byte",
    "len": "beats, less one",
    "size": "bytes of a beat, as a power of two",
    "burst": "1, as addresses go up",
    "prot": "protection; not looked at",
    "data": "its bits",
    "strb": "a bit for each byte that is written",
    "last": "last beat of the burst",
    "resp": "0 if all went well",
}

MEANINGS = {
    f"{channel}{signal}": f"{what}: {meaning}"
    for channel, what in _CHANNELS.items()
    for signal, meaning in _SIGNALS.items()
}
"""What each signal of a channel means, by its published name."""


class Burst(enum.Enum, shape=2):
    """Kinds of bursts."""

    FIXED = 0
    INCR = 1
    WRAP = 2


class Response(enum.Enum, shape=2):
    """What a slave answers."""

    OKAY = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


def _channel(prefix: str, *, back: bool = False, **fields: int) -> dict[str, wiring.Member]:
    """Members of a channel that goes from the master to the slave, or back."""
    forth, reply = (In, Out) if back else (Out, In)
    return {
        f"{prefix}valid": forth(1),
        f"{prefix}ready": reply(1),
        **{f"{prefix}{name}": forth(unsigned(width)) for name, width in fields.items()},
    }


class _Wide(wiring.Signature):
    """What the channels of AXI4 share.

    Parameters
    ----------
    address_width : int
        Bits of an address in bytes.
    data_width : int
        Bits of a beat: a power of two.
    id_width : int
        Bits of an identifier.

    Raises
    ------
    TypeError
        If an argument is no integer.
    ValueError
        If one is out of range.
    """

    meanings = MEANINGS

    def __init__(self, address_width: int, data_width: int, id_width: int = 1):
        check_range("address_width", address_width, 12, 64)
        check_range("data_width", data_width, 8, 1024)
        check_range("id_width", id_width, 1, 32)
        if data_width & (data_width - 1):
            raise ValueError(f"data_width must be a power of two, not {data_width}")
        self._address_width, self._data_width, self._id_width = address_width, data_width, id_width
        super().__init__(self._members())

    def _members(self) -> dict[str, wiring.Member]:
        """All channels."""
        raise NotImplementedError(f"{type(self).__name__} must define _members")

    def _address(self, prefix: str) -> dict[str, wiring.Member]:
        """A channel of addresses."""
        return _channel(prefix, id=self._id_width, addr=self._address_width, len=8, size=3, burst=2)

    @property
    def address_width(self) -> int:
        """Bits of an address."""
        return self._address_width

    @property
    def data_width(self) -> int:
        """Bits of a beat."""
        return self._data_width


class AXI4Read(_Wide):
    """The channels of AXI4 that read, from the master's side: `arvalid`, `arready`, `arid`, and so on."""

    def _members(self) -> dict[str, wiring.Member]:
        reply = _channel("r", back=True, id=self._id_width, data=self._data_width, resp=2, last=1)
        return self._address("ar") | reply


class AXI4Write(_Wide):
    """The channels of AXI4 that write, from the master's side: `awvalid`, `awready`, `awid`, and so on."""

    def _members(self) -> dict[str, wiring.Member]:
        word = _channel("w", data=self._data_width, strb=self._data_width // 8, last=1)
        return self._address("aw") | word | _channel("b", back=True, id=self._id_width, resp=2)


class AXI4(_Wide):
    """All five channels of AXI4, from the master's side."""

    def _members(self) -> dict[str, wiring.Member]:
        halves = (kind(self._address_width, self._data_width, self._id_width) for kind in (AXI4Write, AXI4Read))
        return {name: member for half in halves for name, member in half.members.items()}


class AXI4Lite(wiring.Signature):
    """A master's side of AXI4-Lite with 32 bits of data.

    Parameters
    ----------
    address_width : int
        Bits of an address in bytes, at least 3.

    Members
    -------
    aw..., w..., b..., ar..., r... : In and Out
        The five channels: `awvalid`, `awready`, `awaddr`, and so on.

    Raises
    ------
    TypeError
        If `address_width` is no integer.
    ValueError
        If it is out of range.
    """

    meanings = MEANINGS

    def __init__(self, address_width: int):
        check_range("address_width", address_width, 3, 64)
        super().__init__(
            _channel("aw", addr=address_width, prot=3)
            | _channel("w", data=32, strb=4)
            | _channel("b", back=True, resp=2)
            | _channel("ar", addr=address_width, prot=3)
            | _channel("r", back=True, data=32, resp=2)
        )
        self._address_width = address_width

    @property
    def address_width(self) -> int:
        """Bits of an address."""
        return self._address_width


def check_range(name: str, value: int, least: int, most: int) -> None:
    """Refuse an argument that is no integer from `least` to `most`."""
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be in {least}..{most}, not {value}")
