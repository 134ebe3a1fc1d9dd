"""What one group of a vector leaves for the next."""

from amaranth.hdl import Module, Mux, ShapeLike, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.memory import Ram


class Rows(wiring.Component):
    """A row for each word of a vector, in the order of the words; the words of all groups pass in turn.

    A single row is a register, more are a `Ram`.

    Latency: with `ahead`, `kept` belongs to the word at hand, which leaves with `step`; without, to the word that came
    with the last `step`, and `store` follows in its own time, word after word. At most as many words as rows may lie
    between the two. Throughput: one row per clock.

    Parameters
    ----------
    shape : ShapeLike
        Shape of a row.
    words : int
        Words of a vector.
    ahead : bool
        See above.

    Members
    -------
    step : In(1)
        A word comes (`ahead`: goes).
    finish : In(1)
        Without `ahead`: the row of the next word is ready.
    store : In(1)
        Keep `row`, for the word that finishes (`ahead`: that goes).
    row : In(shape)
        What is to be kept.
    kept : Out(shape)
        What was.
    """

    def __init__(self, shape: ShapeLike, words: int, *, ahead: bool):
        self._shape, self._words, self._ahead = shape, words, ahead
        ends = {} if ahead else {"finish": In(1)}
        super().__init__({"step": In(1), **ends, "store": In(1), "row": In(shape), "kept": Out(shape)})

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        if self._words == 1:
            with m.If(self.store):
                m.d.sync += self.kept.eq(self.row)
            return m
        m.submodules.ram = ram = Ram(self._shape, self._words)
        m.d.comb += [ram.write_enable.eq(self.store), ram.write_data.eq(self.row), self.kept.eq(ram.read_data)]
        word, following = self._counter(m, "word", self.step)
        if self._ahead:
            # A step reads the row after the one it writes; with two rows or more they never meet.
            m.d.comb += [ram.read_enable.eq(1), ram.read_address.eq(following), ram.write_address.eq(word)]
        else:
            written, _ = self._counter(m, "written", self.finish)
            m.d.comb += [ram.read_enable.eq(self.step), ram.read_address.eq(word), ram.write_address.eq(written)]
        return m

    def _counter(self, m: Module, name: str, step: Signal) -> tuple[Signal, Signal]:
        """Number of a word, which `step` moves on to the next, and what it is in the next clock."""
        word, following = Signal(range(self._words), name=name), Signal(range(self._words), name=f"{name}_next")
        m.d.comb += following.eq(Mux(step, Mux(word == self._words - 1, 0, word + 1), word))
        m.d.sync += word.eq(following)
        return word, following
