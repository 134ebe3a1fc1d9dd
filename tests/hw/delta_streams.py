"""An oracle of the delta stream written from docs/formats.md with strings of bits, and random groups to feed it."""

import math
import random

MARKER = 0xE0
ZERO, POISONED = 62, 63


def little(value, width):
    """Bits of a number, least significant first."""
    assert 0 <= value < 1 << width, (value, width)
    return "".join(str(value >> position & 1) for position in range(width))


def number(bits):
    return int(bits[::-1], 2) if bits else 0


def longest(p):
    """G of docs/formats.md."""
    k, n, m = p.digit_width, p.lanes, p.outliers
    planes = 1 + (2 if k >= 3 else 0) + max(k - 3, 0) + 1
    return 10 + math.ceil(math.log2(m + 1)) + n * planes + m * (math.ceil(math.log2(n)) + 16)


def encode_group(p, group, predictor, before):
    k, n, m = p.digit_width, p.lanes, p.outliers
    exponent, replay = group["exponent"], group.get("replay", 0)
    if exponent == ZERO:
        return "100"
    if exponent == POISONED:
        return "1111" + little(POISONED, 6)
    if replay:
        bits = "1110" if exponent == before else "1111" + little(62, 6) + little(exponent, 6)
    elif exponent == predictor:
        bits = "0"
    elif exponent == predictor + 1:
        bits = "101"
    elif exponent == predictor - 1:
        bits = "110"
    else:
        bits = "1111" + little(exponent, 6)
    slots = [slot for slot in group.get("outliers", []) if slot["valid"]]
    if m:
        bits += little(len(slots), math.ceil(math.log2(m + 1)))
    if not replay:
        r = max(k - 3, 0)
        magnitudes = [abs(digit) for digit in group["digits"]]
        heights = [magnitude >> r for magnitude in magnitudes]
        bits += "".join("1" if height > 0 else "0" for height in heights)
        if k >= 3:
            bits += "".join("1" if height > 1 else "0" for height in heights if height > 0)
            bits += "".join("1" if height > 2 else "0" for height in heights if height > 1)
        bits += "".join(little(magnitude % (1 << r), r) for magnitude in magnitudes)
        bits += "".join("1" if digit < 0 else "0" for digit in group["digits"] if digit)
    for slot in slots:
        bits += little(slot["lane"], math.ceil(math.log2(n))) + little(slot["value"], 16)
    return bits


def header(groups, passes, length, marker=None):
    return little(MARKER + passes - 1 if marker is None else marker, 8) + little(groups - 1, 6) + little(length, 18)


def check(bits):
    """The check of bits: long division, its highest power first."""
    value = 0
    for bit in bits + "0" * 16:
        value = value << 1 | int(bit)
        if value >> 16:
            value ^= 0b1_0000_0000_0010_1101
    return f"{value:016b}"


def to_words(p, bits):
    """Whole words of a block, padded with zeros; with its checks, if it has any."""
    width = p.link_width
    if p.link_checks:
        head = bits[:3] + "1" + bits[4:32]
        body = bits[32:] + "0" * (-(len(bits) + 32) % width)
        bits = head + check(head) + body + check(body)
    bits += "0" * (-len(bits) % width)
    return [number(bits[start : start + width]) for start in range(0, len(bits), width)]


def encode_block(p, groups, passes):
    """Header and payload as bits, without padding, and the length of each group."""
    payload, lengths, predictors, before, place = "", [], {}, None, 0
    for group in groups:
        bits = encode_group(p, group, predictors.get(place, 24), before)
        if not group.get("replay", 0):
            if group["exponent"] < ZERO:
                predictors[place] = group["exponent"]
            place = (place + 1) % passes
        before = group["exponent"]
        payload += bits
        lengths.append(len(bits))
    return header(len(groups), passes, len(payload)) + payload, lengths


def encode(p, groups, passes):
    """Words of a stream."""
    words = []
    for start in range(0, len(groups), 64):
        bits, _ = encode_block(p, groups[start : start + 64], passes)
        words += to_words(p, bits)
    return words


class Beyond(Exception):
    """Bits that there are not."""


class Bits:
    """A cursor over a string of bits that does not run past the end."""

    def __init__(self, bits):
        self.bits, self.position = bits, 0

    def take(self, count):
        if self.position + count > len(self.bits):
            raise Beyond
        self.position += count
        return self.bits[self.position - count : self.position]

    def take_number(self, count):
        return number(self.take(count))


def decode_group(p, bits, predictor, before):
    """A group, or None if it is refused; all its fields are read in any case."""
    k, n, m = p.digit_width, p.lanes, p.outliers
    group, sound = empty_group(p, predictor), True
    if bits.take(1) == "1":
        second = bits.take(2)
        if second == "00":
            return empty_group(p, ZERO)
        if second == "01":
            group["exponent"] = predictor + 1
        elif second == "10":
            group["exponent"] = predictor - 1
        elif bits.take(1) == "0":
            if not p.replays:
                return None
            group["exponent"], group["replay"] = before, 1
        else:
            group["exponent"] = bits.take_number(6)
            if group["exponent"] == POISONED:
                return empty_group(p, POISONED)
            if group["exponent"] == 62:
                if not p.replays:
                    return None
                group["exponent"], group["replay"] = bits.take_number(6), 1
    if group["exponent"] is None or not 0 <= group["exponent"] <= 42 - k:
        sound = False
    count = bits.take_number(math.ceil(math.log2(m + 1)))
    if count > m:
        count, sound = 0, False
    if not group.get("replay"):
        r = max(k - 3, 0)
        heights = [int(bit) for bit in bits.take(n)]
        for least in (1, 2) if k >= 3 else ():
            more = iter(bits.take(sum(height >= least for height in heights)))
            heights = [height + int(next(more)) if height >= least else height for height in heights]
        digits = [(height << r) + bits.take_number(r) for height in heights]
        signs = iter(bits.take(sum(digit != 0 for digit in digits)))
        group["digits"] = [-digit if digit and next(signs) == "1" else digit for digit in digits]
    lanes = [-1]
    for index in range(count):
        lane, value = bits.take_number(math.ceil(math.log2(n))), bits.take_number(16)
        sound &= lanes[-1] < lane < n
        lanes.append(lane)
        group["outliers"][index] = {"valid": 1, "lane": lane, "value": value}
    return group if sound else None


def decode(p, words, passes=1):
    """Groups of ``(word, last)`` pairs, each with its mark `last`, and whether an error was seen."""
    width, groups, error = p.link_width, [], False
    words = list(words)
    while words:
        count = next((index for index, (_, last) in enumerate(words) if last), len(words) - 1) + 1
        current, words = [word for word, _ in words[:count]], words[count:]
        position, delivered = 0, False
        while position < len(current):
            first = little(current[position], width)[:32]
            announced, length = number(first[8:14]) + 1, number(first[14:])
            sound = number(first[:8]) == MARKER + 8 * p.link_checks + passes - 1
            sound &= announced <= length <= announced * longest(p)
            if p.link_checks:
                sound &= "".join(little(word, width) for word in current[position:][:2])[32:48] == check(first)
            if not sound:
                error, delivered, position = True, False, position + 1
                continue
            size = -(-(32 + 32 * p.link_checks + length) // width)
            held = current[position : position + size]
            position += size
            bits = "".join(little(word, width) for word in held)
            refused = False
            if p.link_checks:
                refused = len(held) < size or check(bits[48:-16]) != bits[-16:]
                bits = bits[:32] + bits[48:-16]
            error |= refused or len(held) < size or "1" in bits[32 + length :]
            payload = Bits(bits[32 : 32 + length])
            predictors, before, place = {}, None, 0
            short = refused
            for _ in range(announced):
                group = None
                try:
                    if not short:
                        group = decode_group(p, payload, predictors.get(place, 24), before)
                except Beyond:
                    short = True
                refused |= group is None
                group = empty_group(p, POISONED) if refused else group
                if not group.get("replay"):
                    if group["exponent"] < ZERO:
                        predictors[place] = group["exponent"]
                    place = (place + 1) % passes
                before = group["exponent"] if group["exponent"] < ZERO else None
                groups.append([group, 0])
            error |= refused or payload.position != length
            if not short and payload.position < length and not p.link_checks:
                # The length is wrong, or the groups: what follows them may be another block.
                position += -(-(32 + payload.position) // width) - size
            delivered = True
        if delivered:
            groups[-1][1] = 1
        else:
            groups.append([empty_group(p, POISONED), 1])
    return [{"group": group, "last": last} for group, last in groups], error


def empty_group(p, exponent):
    group = {"exponent": exponent, "digits": [0] * p.lanes}
    if p.replays:
        group["replay"] = 0
    if p.outliers:
        group["outliers"] = [{"valid": 0, "lane": 0, "value": 0} for _ in range(p.outliers)]
    return group


def random_group(p, r, *, exponents=None, density=None, replay=False):
    """A group as the quantiser makes them: special ones, sparse ones, dense ones, jumps of the exponent."""
    top = 42 - p.digit_width
    choice = r.random()
    if not replay and choice < 0.08:
        return empty_group(p, ZERO)
    if not replay and choice < 0.12:
        return empty_group(p, POISONED)
    if exponents is None:
        exponents = r.choice([(24, 25), (22, 26), (0, top)])
    group = empty_group(p, r.randint(*exponents))
    slots = sorted(r.sample(range(p.lanes), r.choice([0, r.randint(0, p.outliers), p.outliers])))
    if p.outliers:
        for index, lane in enumerate(slots):
            group["outliers"][index] = {"valid": 1, "lane": lane, "value": r.getrandbits(16)}
    if replay:
        group["replay"] = 1
        return group
    density = r.choice([0.0, 0.1, 0.5, 1.0]) if density is None else density
    largest = r.choice([1, p.digit_max])
    for lane in range(p.lanes):
        if lane not in slots and r.random() < density:
            group["digits"][lane] = r.choice([-1, 1]) * r.randint(1, largest)
    return group


def random_groups(p, count, seed=1, **settings):
    r = random.Random(seed)
    groups = []
    for _ in range(count):
        replay = p.replays and bool(groups) and r.random() < 0.3
        group = random_group(p, r, replay=replay, **settings)
        if replay and r.random() < 0.7 and groups[-1]["exponent"] < ZERO:
            group["exponent"] = groups[-1]["exponent"]
        groups.append(group)
    return groups
