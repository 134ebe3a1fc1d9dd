"""Random loads of groups, and where docs/machine.md puts them: a walk over the addresses."""

import random

from golden.machine.command import LoadGroups, LoadWeights, Operand, Operation

GROUP = {"lines": 1, "width": 1, "groups": 1, "pitch": 1, "height": 1, "slot": 1}
"""Fields of a load of one group."""


def random_load(p, r: random.Random, **fields) -> LoadGroups:
    """A load that breaks no rule; `fields` are as they are given."""
    while True:
        repeat = fields.get("repeat", r.choice([1, 1, 2]))
        passes = fields.get("passes", r.randrange(3))
        rows = fields.get("rows", r.randrange(p.rows))
        lines, width, groups = r.randint(1, 4), r.randint(1, 4), r.randint(1, 3)
        left, right, first = r.randrange(3), r.randrange(3), r.choice([0, 0, r.randrange(6)])
        pitch = first + groups * (passes + 1) + r.choice([0, 0, r.randrange(5)])
        line = left + width * repeat + right
        room = p.group_buffer - ((lines * line - 1) * pitch + first + groups * (passes + 1))
        if room < 0:
            continue
        values = {
            "source": Operand(5, r.randrange(4)),
            "lengths": Operand(3, r.randrange(4)),
            "half": bool(r.getrandbits(1)),
            "at": r.choice([0, room, r.randint(0, room)]) % (1 << 15),
            "slot": 8,
            "slot_step": r.choice([0, 0, 9, 12]),
            "line_step": r.choice([0, lines, r.randrange(8)]),
            "rows": rows,
            "line": r.randint(-4, 6),
            "skip": r.randrange(4),
            "lines": lines,
            "repeat": repeat,
            "height": r.randint(0, 9),
            "width": width,
            "left": left,
            "right": right,
            "groups": groups,
            "passes": passes,
            "sent": r.randint(0, passes),
            "first": first,
            "pitch": pitch,
        }
        return LoadGroups(**values | fields)


def placed(load: LoadGroups) -> dict[tuple[int, int], tuple[int, int] | None]:
    """What lies where after a load: (row, address) -> (slot, number of the group in it), or None for a zero group.

    From the link a slot is a number of a line.
    """
    found: dict[tuple[int, int], tuple[int, int] | None] = {}
    across = load.left + load.width * load.repeat + load.right
    for row in range(load.rows + 1):
        for number in range(load.lines):
            line = load.line + row * load.line_step + number
            for position in range(across):
                column = position - load.left
                inside = 0 <= line < load.height * load.repeat and 0 <= column < load.width * load.repeat
                for group in range(load.groups):
                    for address in range(load.passes + 1):
                        here = load.at + (number * across + position) * load.pitch + load.first
                        here += group * (load.passes + 1) + address
                        assert (row, here) not in found
                        found[row, here] = None
                        if inside and address <= load.sent:
                            slot = line // load.repeat
                            slot += 0 if load.link else load.skip + row * load.slot_step
                            of = (column // load.repeat * load.groups + group) * (load.sent + 1) + address
                            found[row, here] = slot, of
    return found


def refused(units: int) -> list[tuple[Operation, str]]:
    """Operations that a machine with the buffers of preset tiny and regions of so many units refuses; why."""
    return [
        (LoadWeights(records=0), "field"),
        (LoadWeights(at=510, records=3), "buffer"),
        (LoadWeights(records=3, source=Operand(1, units)), "region"),
        (LoadGroups(**GROUP, rows=1), "field"),
        (LoadGroups(**GROUP, sent=1), "field"),
        (LoadGroups(**GROUP | {"lines": 0}), "field"),
        (LoadGroups(**GROUP | {"width": 0}), "field"),
        (LoadGroups(**GROUP | {"groups": 0}), "field"),
        (LoadGroups(**GROUP, first=1), "field"),
        (LoadGroups(**GROUP, passes=1), "field"),
        (LoadGroups(**GROUP, at=2048), "buffer"),
        (LoadGroups(**GROUP | {"pitch": 2048}, left=1), "buffer"),
        (LoadGroups(**GROUP | {"width": 0xFFFF}, repeat=2), "buffer"),
        (LoadGroups(**GROUP | {"width": 0xFFFF, "pitch": 0xFFFF, "lines": 0xFFF}), "buffer"),
        (LoadGroups(**GROUP, source=Operand(1, units)), "region"),
        (LoadGroups(**GROUP, source=Operand(1, (1 << 29) - 1)), "region"),
        (LoadGroups(**GROUP | {"slot": 0xFFFF}, skip=0xFFFF), "region"),
    ]
