# amaranth: UnusedElaboratable=no
"""The near-memory engine: adds delta groups to the raw state, which never leaves the memory's side."""

import itertools

from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from golden.parameters import EXPONENT_WIDTH, Parameters
from hw import near_memory, payloads
from hw.arith.bits import or_tree
from hw.stream import Fifo
from hw.units.unit import Unit

_WAITING = 64
"""Words of a delta that can wait for their state: memory latencies up to about this many clocks cost nothing."""


class NearMemoryEngine(Unit):
    """Adds delta groups to the state in memory and sends back the new masks and, if asked, the exact repairs.

    A *word* is what one clock handles: `memory_lanes` elements of state, or the same lanes of a group. A group is cut
    into words; the words of a vector's groups are summed; the sum waits in a queue for the state word that was asked
    for when it was formed; both are added, and the word goes back to memory.

    ::

        i -> select -> shift -> round -> sum over groups -> queue -+-> add -> clamp -> write, o, repairs
                |                                                  |
                +-> read_request -> (memory, any latency) -> read_data

    Hazards: a vector whose address may still be written is not started. A table with one bit per hash of the address
    tells; the bit falls when the memory accepts the vector's last word. So a memory in which a read sees the writes
    accepted before it needs no further rule, and the same address may follow itself at once (it waits).

    FP16 state is read with a vector's first group and passes an adder once per group, then one for the bias.

    Latency: 10 clocks (FP16 state: 19) from the last group of a vector to its mask, with a memory that answers a
    request in the next clock and `pipeline_depth` at its default; the unit adds memory latency beyond that.
    Throughput: one word read and one word written per clock, so one group per `words_per_vector` clocks when every
    vector is one group. Further groups take as long; in FP16 state at least 8 clocks each, the way through the adder.
    Numerics: ``docs/numerics.md`` section 11.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.

    Members
    -------
    i : In(stream of `payloads.near_memory_input`)
        Groups.
    read_request : Out(stream of `payloads.near_memory_request`)
        Words wanted, in order.
    read_data : In(stream of `payloads.memory_word`)
        The words, in the same order.
    write : Out(stream of `payloads.near_memory_write`)
        Words to write.
    o : Out(stream of `payloads.near_memory_mask`)
        One mask per vector, in the order of the vectors.
    repairs : Out(stream of `payloads.near_memory_repair`)
        Only with `flip_repair`.
    state_exponent : In(6)
        Code of the state's LSB, ``s + 24``; constant while vectors are in flight. Unused by FP16 state.
    thresholds : In(ArrayLayout(state element, 2**mask_width - 1))
        Ascending; only with `mask_width` above 1; constant while vectors are in flight.
    clear : In(1)
        Lowers the sticky outputs.
    overflow : Out(1)
        Sticky: a state was clamped.
    poisoned : Out(1)
        Sticky: a poisoned group, or a value that is no finite number, came.
    """

    name = "near_memory_engine"
    summary = "adds delta groups to the state in memory; emits sign masks and repairs"

    def _members(self, parameters: Parameters) -> dict:
        members = {
            "i": In(stream.Signature(payloads.near_memory_input(parameters))),
            "read_request": Out(stream.Signature(payloads.near_memory_request(parameters))),
            "read_data": In(stream.Signature(payloads.memory_word(parameters))),
            "write": Out(stream.Signature(payloads.near_memory_write(parameters))),
            "o": Out(stream.Signature(payloads.near_memory_mask(parameters))),
            "state_exponent": In(EXPONENT_WIDTH),
            "clear": In(1),
            "overflow": Out(1),
            "poisoned": Out(1),
        }
        if parameters.flip_repair:
            members["repairs"] = Out(stream.Signature(payloads.near_memory_repair(parameters)))
        if parameters.mask_width > 1:
            thresholds = data.ArrayLayout(payloads.state_element(parameters), 2**parameters.mask_width - 1)
            members["thresholds"] = In(thresholds)
        return members

    def _chain(self) -> dict[str, wiring.Component]:
        """The parts that a word passes, by name, in order."""
        p = self.parameters
        if p.state_format == "fixed":
            terms = {"terms": near_memory.FixedTerms(p), "sums": near_memory.FixedSums(p)}
            update = near_memory.FixedUpdate(p)
        else:
            terms, update = {"terms": near_memory.HalfTerms(p)}, near_memory.HalfUpdate(p)
        waiting = list(terms.values())[-1].o.payload.shape()
        return {
            "words": near_memory.Words(p),
            **terms,
            "waiting": Fifo(waiting, _WAITING),
            "joined": near_memory.Join(p, waiting),
            "update": update,
            "results": near_memory.Results(p),
        }

    @property
    def latency(self) -> int:
        """Clocks from the last group of a vector to its mask, with a memory that answers in the next clock."""
        return sum(part.latency for part in self._chain().values())

    @property
    def throughput(self) -> str:
        """Payloads per clock, in words."""
        words = self.parameters.words_per_vector
        return "one group per clock" if words == 1 else f"one group per {words} clocks (a memory word per clock)"

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m, chain, scoreboard = Module(), self._chain(), near_memory.Scoreboard()
        words, results = chain["words"], chain["results"]
        for source, sink in itertools.pairwise(chain.values()):
            connect(m, source.o, sink.i)
        connect(m, flipped(self.i), words.i)
        connect(m, words.claim, scoreboard.claim)
        connect(m, words.read_request, flipped(self.read_request))
        connect(m, flipped(self.read_data), chain["joined"].read_data)
        connect(m, results.release, scoreboard.release)
        connect(m, results.write, flipped(self.write))
        connect(m, results.o, flipped(self.o))
        parts = chain | {"scoreboard": scoreboard}
        if self.parameters.flip_repair:
            parts["repairs"] = repairs = near_memory.Repairs(self.parameters)
            connect(m, results.flipped, repairs.i)
            connect(m, repairs.o, flipped(self.repairs))
        for name, part in parts.items():
            m.submodules[name] = part
            for setting in {"state_exponent", "thresholds"} & set(part.signature.members):
                m.d.comb += getattr(part, setting).eq(getattr(self, setting))
        for event in ("overflow", "poisoned"):
            sources = [part for part in parts.values() if event in part.signature.members]
            self._stick(m, **{event: or_tree(getattr(part, event) for part in sources)})
        return m
