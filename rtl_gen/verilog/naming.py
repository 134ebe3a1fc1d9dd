"""Names of the emitted text: legal in Verilog, SystemVerilog, VHDL and C++, unique whatever the case of letters."""

import re
from collections.abc import Sequence

from rtl_gen.verilog.rtlil import Bits, Constant, Module, Slice, whole
from rtl_gen.verilog.tidy import is_unnamed_port

_VERILOG = """
accept_on alias always always_comb always_ff always_latch and assert assign assume automatic before begin bind bins
binsof bit break buf bufif0 bufif1 byte case casex casez cell chandle checker class clocking cmos config const
constraint context continue cover covergroup coverpoint cross deassign default defparam design disable dist do edge
else end endcase endchecker endclass endclocking endconfig endfunction endgenerate endgroup endinterface endmodule
endpackage endprimitive endprogram endproperty endsequence endspecify endtable endtask enum event eventually expect
export extends extern final first_match for force foreach forever fork forkjoin function generate genvar global
highz0 highz1 if iff ifnone ignore_bins illegal_bins implements implies import incdir include initial inout input
inside instance int integer interconnect interface intersect join join_any join_none large let liblist library local
localparam logic longint macromodule matches medium modport module nand negedge nettype new nexttime nmos nor
noshowcancelled not notif0 notif1 null or output package packed parameter pmos posedge primitive priority program
property protected pull0 pull1 pulldown pullup pulsestyle_ondetect pulsestyle_onevent pure rand randc randcase
randsequence rcmos real realtime ref reg reject_on release repeat restrict return rnmos rpmos rtran rtranif0
rtranif1 s_always s_eventually s_nexttime s_until s_until_with scalared sequence shortint shortreal showcancelled
signed small soft solve specify specparam static string strong strong0 strong1 struct super supply0 supply1
sync_accept_on sync_reject_on table tagged task this throughout time timeprecision timeunit tran tranif0 tranif1 tri
tri0 tri1 triand trior trireg type typedef union unique unique0 unsigned until until_with untyped use uwire var
vectored virtual void wait wait_order wand weak weak0 weak1 while wildcard wire with within wor xnor xor
"""

_VHDL = """
abs access after all architecture array assert attribute block body buffer bus component configuration constant
disconnect downto elsif entity exit file generic group guarded impure in inertial is label linkage literal loop map mod
next of on open others out port postponed procedure process pure range record register reject rem report rol ror
select severity signal shared sla sll sra srl subtype then to transport unaffected units variable when
"""

_CPP = """
alignas alignof and_eq asm auto bitand bitor bool catch char char16_t char32_t char8_t co_await co_return co_yield
compl concept const_cast consteval constexpr constinit decltype delete double dynamic_cast explicit false float friend
goto inline long mutable namespace noexcept not_eq nullptr operator or_eq private public reinterpret_cast requires
short sizeof static_assert static_cast switch template thread_local throw true try typeid typename using volatile
wchar_t xor_eq
"""

KEYWORDS = frozenset(f"{_VERILOG} {_VHDL} {_CPP}".split())
"""Words that no name may be, in small letters."""


def is_legal(name: str) -> bool:
    """Whether a name is an identifier of Verilog, VHDL and C++: no keyword, no doubled, first or last underscore."""
    return bool(re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*", name)) and name.lower() not in KEYWORDS


def plain_name(name: str) -> str:
    """Return a legal name for one of Amaranth: ``\\a.b[3]$7`` becomes ``a_b_3``."""
    name = re.sub(r"\$\d+$", "", name.removeprefix("\\"))
    name = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
    if not name or name[0].isdigit():
        name = f"n{name}"
    return f"{name}_value" if name.lower() in KEYWORDS else name


def unique(name: str, taken: set[str]) -> str:
    """Return `name`, numbered if `taken` (small letters) has it, and take it."""
    candidate, number = name, 2
    while candidate.lower() in taken:
        candidate = f"{name}_{number}"
        number += 1
    taken.add(candidate.lower())
    return candidate


class Names:
    """Final names of a module's wires, memories and instances.

    Parameters
    ----------
    module : Module
        The module, tidied.
    children : dict
        Names of the modules below it, by module.
    ports : dict
        Names that ports must have.
    """

    def __init__(self, module: Module, children: dict[str, "Names"], ports: dict[str, str]):
        self.table: dict[str, str] = {}
        self._taken: set[str] = set()
        self._module = module
        self.children = children
        own = [wire.name for wire in module.ports]
        for name in own:
            if name in ports:
                self._give(name, ports[name])
        for name in own:
            if not is_unnamed_port(name):
                self._give(name, plain_name(name))
        self.instances = {
            cell.name: unique(plain_name(cell.name), self._taken) for cell in module.cells if cell.is_instance
        }
        self._name_instance_outputs(children)
        # Names that Amaranth made up itself come last.
        self._aliases = sorted(module.aliases, key=lambda alias: (alias[0].startswith("\\_"), "$" in alias[0]))
        for name, wire in module.wires.items():
            if wire.is_named and not is_unnamed_port(name):
                self._give(name, plain_name(name))
        for memory in module.memories:
            self._give(memory, plain_name(memory))
        self._name_same()
        for name, value in self._aliases:
            self._name_parts(name, value, set(own))
        for name in own:
            self._give(name, "part")
        self._extra: dict[str, str] = {}

    def name(self, wires: Sequence[str], kinds: dict[str, str]) -> None:
        """Name wires that the design has no name for: by what they are part of, what they become, or their kind."""
        wanted = set(wires)
        for name, value in self._aliases:
            self._name_parts(name, value, wanted)
        for cell in self._module.cells:
            if cell.is_register and len(cell.inputs["D"]) == 1:
                source, register = cell.inputs["D"][0], cell.outputs["Q"][0].wire
                if isinstance(source, Slice) and source.wire in wanted and source.wire not in self.table:
                    self._give(source.wire, f"{self.table[register]}_next")
        counts: dict[str, int] = {}
        for wire in wires:
            if wire not in self.table:
                kind = kinds.get(wire, "value")
                counts[kind] = counts.get(kind, 0) + 1
                self._give(wire, f"{kind}_{counts[kind]}")

    def extra(self, wanted: str) -> str:
        """A name for something that is no part of the netlist."""
        if wanted not in self._extra:
            self._extra[wanted] = unique(wanted, self._taken)
        return self._extra[wanted]

    def _give(self, name: str, wanted: str) -> None:
        if name not in self.table:
            self.table[name] = unique(wanted, self._taken)

    def _is_unnamed(self, piece: Constant | Slice) -> bool:
        wires = self._module.wires
        if not isinstance(piece, Slice) or piece.wire not in wires or piece != whole(wires[piece.wire]):
            return False
        return not wires[piece.wire].is_named or is_unnamed_port(piece.wire)

    def _name_same(self) -> None:
        """What has no name takes that of a signal that is the same."""
        for name, value in self._aliases:
            if len(value) == 1 and self._is_unnamed(value[0]):
                self._give(value[0].wire, plain_name(name))

    def _name_parts(self, name: str, value: Bits, wanted: set[str]) -> None:
        """What still has no name takes that of the bits of a signal that it feeds."""
        low = 0
        sources = {piece.wire for piece in value if isinstance(piece, Slice)}
        for piece in reversed(value):
            if isinstance(piece, Slice) and piece.wire in wanted and self._is_unnamed(piece):
                if not low and sources == {piece.wire}:  # but for constants or copies of its sign it is the signal
                    self._give(piece.wire, plain_name(name))
                bits = f"_{low + piece.width - 1}_{low}" if piece.width > 1 else f"_{low}"
                self._give(piece.wire, plain_name(name) + bits)
            low += piece.width

    def _name_instance_outputs(self, children: dict[str, "Names"]) -> None:
        """A wire that an instance drives is called after both, unless the design gave it a name of its own."""
        for cell in self._module.cells:
            if not cell.is_instance:
                continue
            child = children.get(cell.kind)
            for port, value in cell.outputs.items():
                called = child.table["\\" + port] if child else plain_name(port)
                for piece in value:
                    if not piece.wire.startswith("\\") or plain_name(piece.wire) in (called, plain_name(port)):
                        self._give(piece.wire, f"{self.instances[cell.name]}_{called}")
