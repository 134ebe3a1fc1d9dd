"""Random groups, what the sign mask leaves of them (docs/numerics.md, section 9), and groups as streams have them."""

from sim.vectors import group_values


def random_group(r, p):
    """A group of any kind: usual, sparse, zero, poisoned, or a replay where there are such."""
    kind = r.choice(["usual", "usual", "usual", "zero", "poisoned", "replay", "sparse"])
    empty = {"valid": 0, "lane": 0, "value": 0}
    group = {"exponent": r.randrange(43 - p.digit_width), "digits": [0] * p.lanes}
    slots = []
    if kind in ("usual", "replay") and p.outliers:
        lanes = sorted(r.sample(range(p.lanes), r.randint(kind == "replay", min(p.outliers, p.lanes))))
        slots = [{"valid": 1, "lane": lane, "value": r.getrandbits(15)} for lane in lanes]
    taken = {slot["lane"] for slot in slots}
    if kind in ("usual", "sparse"):
        share = 1.0 if kind == "usual" else 1.5 / p.lanes
        group["digits"] = [
            r.randint(-p.digit_max, p.digit_max) if lane not in taken and r.random() < share else 0
            for lane in range(p.lanes)
        ]
    replay = int(kind == "replay" and p.replays)
    if kind == "poisoned":
        group["exponent"] = 63
    elif not any(group["digits"]) and not slots:
        group["exponent"] = 62
        replay = 0
    if p.replays:
        group["replay"] = replay
    if p.outliers:
        group["outliers"] = slots + [empty] * (p.outliers - len(slots))
    return group


def masked(group, mask, p):
    """What a mask leaves of a group."""
    digits = [q if mask >> lane & 1 else 0 for lane, q in enumerate(group["digits"])]
    kept = [slot for slot in group.get("outliers", []) if slot["valid"] and mask >> slot["lane"] & 1]
    result = {"exponent": group["exponent"], "digits": digits}
    if group["exponent"] != 63 and not group.get("replay") and not any(digits) and not kept:
        result["exponent"] = 62
    if p.replays:
        result["replay"] = group["replay"]
    if p.outliers:
        result["outliers"] = kept + [{"valid": 0, "lane": 0, "value": 0}] * (p.outliers - len(kept))
    return result


def plain_group(groups, p, index):
    """A group of golden's as the stream has it."""
    values = group_values(groups, p)
    group = {name: int(values[name][index]) for name in ("exponent", "replay") if name in values}
    group["digits"] = [int(digit) for digit in values["digits"][index]]
    if p.outliers:
        fields = values["outliers"]
        group["outliers"] = [{name: int(fields[name][index][slot]) for name in fields} for slot in range(p.outliers)]
    return group
