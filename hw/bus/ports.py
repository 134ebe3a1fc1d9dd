"""Ports to memory: a span of bytes is asked for by region, and comes or goes as words of the bus.

Words: a *word* is what the bus moves in a clock; a *span* is bytes that follow each other in one region, however they
lie in words. Its first word and its last may hold bytes that do not belong to it.
"""

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

REGION_WIDTH = 3
"""Bits of a region's number."""

ADDRESS_WIDTH = 35
"""Bits of an address in bytes from the base of a region; past every limit there can be, so that no sum wraps."""

UNIT_WIDTH = ADDRESS_WIDTH - 5
"""Bits of such an address in units of memory."""

ENTRY_WIDTH = ADDRESS_WIDTH - 2
"""Bits of such an address in entries of a table, 4 bytes each."""

BYTES_WIDTH = 32
"""Bits of the length of a span."""

UNIT_BYTES = 32
"""Bytes of a unit of memory: regions begin and end on its boundaries."""


def span() -> data.StructLayout:
    """A span of memory: `bytes` is at least 1."""
    return data.StructLayout({"region": REGION_WIDTH, "address": ADDRESS_WIDTH, "bytes": BYTES_WIDTH})


class MemoryRead(wiring.Signature):
    """Port of a part that reads memory.

    What is asked for comes in order, word by word: ``ceil((address mod B + bytes) / B)`` words of B bytes for a span,
    bytes at their places. Words may be asked for long before they are taken: whoever serves the port sees to it that
    waiting words do not hold up others.

    Parameters
    ----------
    width : int
        Bits of a word.

    Members
    -------
    request : Out(stream of `span`)
        Spans wanted.
    data : In(stream of `width` bits)
        Their words.
    """

    def __init__(self, width: int):
        super().__init__({"request": Out(stream.Signature(span())), "data": In(stream.Signature(width))})


class MemoryWrite(wiring.Signature):
    """Port of a part that writes memory.

    The words of a span follow its request, or come before it has been taken; none comes before the request is valid.

    Parameters
    ----------
    width : int
        Bits of a word.

    Members
    -------
    request : Out(stream of `span`)
        Spans to write.
    data : Out(stream of data, and strobe: a bit for each byte)
        Their words; bytes whose strobe is 0 stay as they are.
    idle : In(1)
        All that was asked for has arrived in memory: reads that are asked for from now on see it.
    """

    def __init__(self, width: int):
        word = data.StructLayout({"data": width, "strobe": width // 8})
        super().__init__({"request": Out(stream.Signature(span())), "data": Out(stream.Signature(word)), "idle": In(1)})
