"""The link down: joint vectors from the core to near memory."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.link.serial_joint import SerialJointCoder, SerialJointDecoder
from hw.part import Part
from hw.stream import SkidBuffer


class JointLink(Part):
    """Carries joint vectors: as they are, or as a joint stream for each tile, by `link_form`.

    Members
    -------
    i, o : stream of `payloads.joint_part`
        Vectors.
    words : Out(1)
        Event: a word of the stream has crossed.
    damaged : Out(1)
        A stream was refused; until a reset.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        vectors = stream.Signature(payloads.joint_part(parameters))
        return {"i": In(vectors), "o": Out(vectors), "words": Out(1), "damaged": Out(1)}

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        if self._parameters.link_form == "direct":
            m.submodules.buffer = buffer = SkidBuffer(self.i.payload.shape())
            wiring.connect(m, wiring.flipped(self.i), buffer.i)
            wiring.connect(m, buffer.o, wiring.flipped(self.o))
            return m
        m.submodules.coder = coder = SerialJointCoder(self._parameters)
        m.submodules.decoder = decoder = SerialJointDecoder(self._parameters)
        wiring.connect(m, wiring.flipped(self.i), coder.i)
        wiring.connect(m, coder.o, decoder.i)
        wiring.connect(m, decoder.o, wiring.flipped(self.o))
        m.d.comb += [
            self.words.eq(coder.o.valid & coder.o.ready),
            self.damaged.eq(decoder.error),
        ]
        return m
