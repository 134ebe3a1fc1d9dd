"""Random netlists, as RTLIL that Amaranth could have written, and yosys' word on whether two texts are one function."""

import random

from rtl_gen import tools
from rtl_gen.verilog.rtlil import read
from rtl_gen.verilog.tidy import tidy
from rtl_gen.verilog.writer import Writer

ARITHMETIC = ("$add", "$sub", "$mul", "$neg")
COMPARISONS = ("$eq", "$ne", "$lt", "$le", "$gt", "$ge")
BITWISE = ("$and", "$or", "$xor", "$not")
REDUCTIONS = ("$reduce_or", "$reduce_and", "$reduce_xor", "$reduce_bool")
SHIFTS = ("$shl", "$shr", "$sshr", "$shift")
KINDS = (*ARITHMETIC, *COMPARISONS, *BITWISE, *REDUCTIONS, *SHIFTS, "$mux", "process")


class RandomNetlist:
    """A module of operators and decisions over a few inputs, and names for some of them; `text` is its RTLIL.

    Parameters
    ----------
    seed : int
        Of all choices.
    count : int
        Operators.
    kinds : sequence of str
        Which ones.
    """

    def __init__(self, seed, count=20, kinds=KINDS):
        self.draw = random.Random(seed)
        self.wires = {f"\\in{number}": self.draw.randint(1, 8) for number in range(4)}
        wires = [
            f"  wire width {width} input {number} {name}" for number, (name, width) in enumerate(self.wires.items())
        ]
        bodies = []
        for number in range(count):
            name = f"\\w{number}" if self.draw.random() < 0.5 else f"${number}"
            width, body = self.item(self.draw.choice(kinds), name, number)
            wires.append(f"  wire width {width} {name}")
            bodies.append(body)
            self.wires[name] = width
        for number in range(count // 4):
            parts = self.draw.sample(list(self.wires)[4:], self.draw.randint(2, 4))
            wires.append(f"  wire width {sum(self.wires[name] for name in parts)} \\name{number}")
            bodies.append(f"connect \\name{number} {{ {' '.join(parts)} }}")
        results = list(self.wires)[4:][-8:]
        total = sum(self.wires[name] for name in results)
        wires.append(f"  wire width {total} output 4 \\out")
        joined = " ".join(f"{name} [{self.wires[name] - 1}:0]" for name in results)
        bodies = ["\n".join(f"  {line}" for line in body.splitlines()) for body in bodies]
        lines = [*wires, *bodies, f"connect \\out {{ {joined} }}"]
        self.text = "module \\top\n" + "\n\n".join(lines) + "\nend\n"

    def operand(self, width):
        """Some bits: of wires, constants, or both."""
        draw, pieces = self.draw, []
        while width:
            if draw.random() < 0.2:
                count = draw.randint(1, width)
                pieces.append(
                    f"{count}'" + draw.choice(["0" * count, "1" * count, f"{draw.getrandbits(count):0{count}b}"])
                )
            else:
                name = draw.choice(list(self.wires))
                count = draw.randint(1, min(width, self.wires[name]))
                low = draw.randint(0, self.wires[name] - count)
                pieces.append(f"{name} [{low + count - 1}:{low}]")
            width -= count
        return pieces[0] if len(pieces) == 1 else "{ " + " ".join(pieces) + " }"

    def item(self, kind, name, number):
        """A cell or process that drives the wire `name`: its width, and the text."""
        draw = self.draw
        a, b, y, signed = draw.randint(1, 8), draw.randint(1, 8), draw.randint(1, 12), draw.randint(0, 1)
        if kind == "process":
            return y, self.process(name, y, number)
        if kind == "$mux":
            ports = {"S": self.operand(1), "A": self.operand(y), "B": self.operand(y)}
            return y, self.cell(kind, number, {"WIDTH": y}, ports, name)
        if kind in REDUCTIONS or kind in COMPARISONS:
            y = 1
        if kind in BITWISE:
            a, b, signed = y, y, 0
        if kind in SHIFTS:
            b = draw.randint(1, 4)
            signed = int(kind == "$sshr") if kind != "$shl" else signed
            y = y if kind == "$shl" else a
        if kind in REDUCTIONS:
            signed = 0
        parameters, ports = {"A_SIGNED": signed, "A_WIDTH": a}, {"A": self.operand(a)}
        if kind not in ("$not", "$neg", *REDUCTIONS):
            parameters |= {"B_SIGNED": 0 if kind in SHIFTS else signed, "B_WIDTH": b}
            ports["B"] = self.operand(b)
        return y, self.cell(kind, number, parameters | {"Y_WIDTH": y}, ports, name)

    def cell(self, kind, number, parameters, ports, name):
        """Text of a cell."""
        lines = [f"parameter \\{key} {value}" for key, value in parameters.items()]
        lines += [f"connect \\{port} {bits}" for port, bits in ports.items()]
        return "\n".join([f"cell {kind} $cell{number}", *lines, f"connect \\Y {name}", "end"])

    def process(self, name, width, number):
        """Text of a decision tree."""
        draw = self.draw

        def assign(low, count):
            return f"assign {name} [{low + count - 1}:{low}] {self.operand(count)}"

        def body(depth):
            lines = []
            for _ in range(draw.randint(0, 2)):
                count = draw.randint(1, width)
                lines.append(assign(draw.randint(0, width - count), count))
            if depth and draw.random() < 0.8:
                select = draw.randint(1, 3)
                lines.append(f"switch {self.operand(select)}")
                for _ in range(draw.randint(1, 3)):
                    patterns = {"".join(draw.choice("01-") for _ in range(select)) for _ in range(draw.randint(1, 2))}
                    lines += [
                        "case " + ", ".join(f"{select}'{pattern}" for pattern in sorted(patterns)),
                        *body(depth - 1),
                    ]
                if draw.random() < 0.5:
                    lines += ["case", *body(depth - 1)]
                lines.append("end")
            return lines

        return "\n".join([f"process $process{number}", assign(0, width), *body(2), "end"])


def written(text):
    """Verilog of RTLIL: read, tidied, written."""
    netlist = read(text)
    tidy(netlist)
    return Writer(netlist.top, {}, {wire.name: wire.name[1:] for wire in netlist.top.ports}).write("top", {})


def is_same(rtlil, verilog, folder):
    """Whether yosys proves that both texts, of a module ``top`` without registers, are one function."""
    (folder / "gold.il").write_text(rtlil, encoding="utf-8")
    (folder / "gate.v").write_text(verilog, encoding="utf-8")
    script = """\
read_rtlil gold.il
proc
rename top gold
read_verilog gate.v
proc
rename top gate
miter -equiv -flatten gold gate both
hierarchy -top both
opt -fast
sat -verify -prove trigger 0 both
"""
    try:
        tools.run_yosys(script, cwd=folder)
    except tools.ToolError as error:
        if "SAT proof finished - model found: FAIL!" in error.output:
            return False
        raise
    return True
