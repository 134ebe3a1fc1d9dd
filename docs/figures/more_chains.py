"""What more chains of the U-Net would win and lose: ``python docs/figures/more_chains.py VARIANT STEPS [NETWORK]``.

A study, not kept: decision 008 has its table. VARIANT is

====== ================================================================================================================
now    the chains that there are
twice  the three products that a norm and a residual read are chains, and run twice: joint vectors for the residual
back   the same, once: what groups add to z, over the factor of its norm, is added to the state that the residual reads
last   the last activation follows a sum of two products with no other reader: both are chains of one z
open   golden's open loop under the same group exponents: everything but attention stays deltas; link by the cost model
====== ================================================================================================================

Four images in floating point for PSNR and bits on the link, a program on paper for clocks.
"""

import dataclasses
import sys
from typing import Any

import numpy as np

import golden.diffusion.differential.closed_loop as loop
import rtl_gen.program.network as program
from golden.diffusion import zoo
from golden.diffusion.cost.predict import predict
from golden.diffusion.cost.rates import Rates
from golden.diffusion.cost.traffic import loads
from golden.diffusion.differential import chains as law
from golden.diffusion.differential.fixed.link import FloatLink
from golden.diffusion.differential.fixed.value import Fixed, Masked
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.differential.run import run
from golden.diffusion.layers import Norm, Role
from golden.diffusion.sampling import Sampling
from golden.diffusion.zoo import quality
from golden.machine.work import timeline
from golden.parameters import preset
from rtl_gen.options import Machine
from rtl_gen.program import near
from rtl_gen.program.commands import on_machine
from rtl_gen.program.near import Factors
from rtl_gen.program.sampling import compile_sampling
from sim.compare import behind

VARIANT, STEPS, NETWORK = sys.argv[1], int(sys.argv[2]), (*sys.argv[3:], "unet")[0]
LAST = ("up0.block.skip", "up0.block.conv2")
"""Products of the last sum."""


@dataclasses.dataclass(frozen=True, eq=False)
class Two:
    """What a chain takes of a product, and what its other readers take; or both terms of the last sum."""

    chained: Any
    other: Any

    @property
    def real(self) -> np.ndarray:
        """Of a measure, which asks for the latter."""
        return self.other.real if isinstance(self.other, Fixed) else np.zeros(1, np.float32)


def with_others(network: Any, main: frozenset[str], lanes: int, kept: str | None = None) -> tuple[law.Chain, ...]:
    """Chains, those among them whose product is read by a residual too."""
    found = list(plain_chains(network, main, lanes, kept))
    for layer in network.layers:
        readers = network.consumers(layer.name)
        norms = [one for one in readers if isinstance(one, Norm) and one.groups]
        if VARIANT in ("twice", "back") and layer.contracted and not layer.bilinear and len(readers) > 1 == len(norms):
            (after,) = network.consumers(norms[0].name)
            if after.role is Role.ACTIVATION:
                found.append(law.Chain(layer, None, norms[0], after))
    return tuple(found)


def last_chains(network: Any) -> tuple[law.Chain, ...]:
    """Both of the last sum."""
    by_name = network.by_name
    end = next(one for one in network.layers if one.name.startswith("head.") and one.role is Role.ACTIVATION)
    return tuple(law.Chain(by_name[name], None, by_name["head.norm"], end) for name in LAST)


def shared(network: Any, layer: Any) -> bool:
    """Whether others than a chain read a product."""
    return VARIANT in ("twice", "back") and len(network.consumers(layer.name)) > 1


plain_chains, loop.chains = law.chains, with_others


class Loop(loop.ClosedLoop):
    """Golden's, in floating point."""

    def __init__(self, network: Any, *rest: Any, **options: Any):
        super().__init__(network, *rest, **options)
        self._early: dict[str, Masked] = {}
        if VARIANT == "last":
            first, second = last_chains(network)
            self.chains |= {one.name: second for one in second.layers} | {first.product.name: first}
            self.__dict__.pop("units", None)

    def __call__(self, layer: Any, values: Any) -> Any:  # noqa: D102
        chain = self.chains.get(layer.name)
        if VARIANT == "last" and not layer.contracted and isinstance(values[0], loop.Chained | Two):
            if layer.role is Role.SUM and layer.name == "up0.block.add":
                return Two(*values)
            if isinstance(values[0], Two):
                return values[0] if layer.role is Role.NORM else self._of_sum(layer.name, values[0])
        if isinstance(values[0], Two):
            values = [values[0].chained if chain is not None else values[0].other, *values[1:]]
        values = [one.other if isinstance(one, Two) else one for one in values]
        return super().__call__(layer, values)

    def _of_sum(self, name: str, terms: Two) -> Masked:
        """Groups of both, behind the signs before either."""
        mask, sent = self._states[name] >= 0, []
        for chain, term in zip(last_chains(self._network), (terms.chained, terms.other), strict=True):
            self._masked(chain, term)
            sent.append(kept[-1])
        values = sum(np.where(mask, one.values, 0) for one in sent)
        return Masked(dataclasses.replace(sent[0], values=values), self.units[name])

    def _product(self, layer: Any, values: list[Any]) -> Any:
        chain, before = self.chains.get(layer.name), self._states.get(layer.name)
        if chain is None or not shared(self._network, layer):
            return super()._product(layer, values)
        unit, sent = self.units[layer.name], self._send(layer, 0, values[0])
        sums = self._core.product(layer, sent.passes, self._segments(layer), sent.unit, unit, self._most_groups)
        if sent.start is not False:
            self._ran[layer.name] = self._index
            change = loop.Change(self._outputs(layer, sums), sent.start, unit)
            bias = loop.across(getattr(layer, "bias", None), change.counts, layer.channel_axis or -1)
            return Fixed(self._accumulate(layer, change, bias, unit), unit)
        chained = loop.Chained(dataclasses.replace(sums, values=sums.values.copy()))
        if VARIANT == "twice":
            change = loop.Change(self._outputs(layer, sums), False, unit)
            return Two(chained, Fixed(self._accumulate(layer, change, None, unit), unit))
        name, last = chain.activation.name, self._ran.get(layer.name, 0)
        z, units = self._states[name], (unit, self.units[name])
        self._early[layer.name] = super()._masked(chain, chained)
        found = law.scales(chain, self._profile, self._index, last, units, None)
        factor = np.ldexp(found.factors.view(np.float16).astype(np.float64), found.places)[:, None, None]
        change = np.divide(self._states[name] - z, factor, out=np.zeros(z.shape), where=factor != 0)
        self._states[layer.name] = self._near.accumulate(before, np.rint(change).astype(np.float32), None)
        return Two(chained, Fixed(self._states[layer.name], unit))

    def _masked(self, chain: law.Chain, value: Any) -> Masked:
        return self._early.pop(chain.product.name, None) or super()._masked(chain, value)


class Compiler(program.Compiler):
    """Programs that take as long: the numbers of the second state are not right."""

    def __init__(self, network: Any, *rest: Any, **options: Any):
        super().__init__(network, *rest, **options)
        if VARIANT == "last":
            first, second = last_chains(network)
            self._chains |= {one.name: second for one in second.layers} | {first.product.name: first}
            self._loop.units[second.activation.name] = self._loop.units[second.read]

    def _begin_chain(self, chain: law.Chain, value: Any) -> None:
        both = VARIANT == "last" and chain.product.name in LAST
        for one in last_chains(self._network) if both else (chain,):
            super()._begin_chain(one, value)

    def _layer(self, layer: Any, values: list[Any]) -> Any:
        if VARIANT == "last" and not self._starts[0]:
            if layer.name == "up0.block.add":
                return Two(*values)
            if values and isinstance(values[0], Two):
                if layer.role is Role.NORM:
                    return values[0]
                terms = (values[0].chained, values[0].other)
                # the last product reads both: here one, as what it multiplies is next to nothing
                return [self._chained(*pair) for pair in zip(last_chains(self._network), terms, strict=True)][1]
        if layer.contracted and layer.name in self._chains and not self._starts[0] and shared(self._network, layer):
            return self._split(layer, program._Pending(layer, values[0]))
        chain = self._chains.get(layer.name)
        values = [(one.chained if chain else one.other) if isinstance(one, Two) else one for one in values]
        if chain and not layer.contracted and isinstance(values[0], program._Value) and values[0].masked:
            return values[0]
        return super()._layer(layer, values)

    def _split(self, layer: Any, pending: Any) -> Two:
        if VARIANT == "twice":
            return Two(pending, self._product(layer, pending.value, layer.name, None))
        chain, own = self._chains[layer.name], self.states[layer.name]
        masked, z, name = self._chained(chain, pending), self._state_of_chain(chain), f"{layer.name}.change"
        self._shapes[name], self._layouts[name] = self._shapes[layer.name], self._layouts[layer.name]
        change = self._tensor(name, own, unit=z.unit)
        ones = [Factors.of([1.0], [one.unit], one.unit)[0] for one in (z, own)]
        channels = Factors.of([np.linspace(0.5, 2, z.channels)], [z.unit], own.unit)[0]
        old, new, back = (self.table(near.factors(one), varying=False) for one in (*ones, channels))
        for number in self._numbers(change):
            self._combine(layer, change, [z, z], number, "sum", {"factor1": old, "factor2": old})
            options = {"factor1": new, "factor2": back, "kind2": "channel"}
            self._combine(layer, own, [own, change], number, "sum", options)
        return Two(masked, program._Value((own,)))


kept: list[Any] = []


def keep(self: FloatLink, *arguments: Any) -> Any:
    """What a chain's product sends, for who asks."""
    kept[:] = [plain_keep(self, *arguments)]
    return kept[0]


plain_keep, FloatLink.keep = FloatLink.keep, keep


def main() -> None:
    """Print a row."""
    import golden.diffusion.differential.run as runs
    import rtl_gen.program.sampling as samplings

    runs.ClosedLoop, samplings.Compiler = Loop, Compiler
    network = zoo.load(NETWORK)
    method = on_machine(Method.named("paper"), Machine("edge", preset("edge")))
    sampling = Sampling(network, [3, 8, 1, 7], STEPS)
    if VARIANT == "open":
        paper = Method.named("paper")
        chosen = {name: getattr(method.machine, name) for name in ("lanes", "outliers", "exponent_policy")}
        method = behind(
            dataclasses.replace(paper, machine=dataclasses.replace(paper.machine, memory_lanes=4, **chosen)),
            method.machine,
        )
    found = run(sampling, method, measured=True)
    psnr = float(np.mean(quality.psnr(found.images, sampling.images())))
    rows = [*found.measure.inputs.values(), *found.measure.outputs.values()]
    link = sum(min(row.bits, row.joint) for row in rows) / (16 * sum(row.elements for row in rows))
    if VARIANT == "open":
        costs = [
            predict(load, method.flow, Rates.measured(found.measure, joint=True, steps=(step,)), method.machine)
            for step in range(STEPS)
            for load in loads(network, 4, method.attention)
        ]
        bits, raw = (8 * sum(getattr(cost, name) for cost in costs) / 4e6 for name in ("link", "raw"))
        print(f"open, {STEPS} steps, {NETWORK}: {psnr:.1f} dB, {bits:.2f} Mbit an image, {raw:.2f} of them raw")
        return
    one = Sampling(network, [3], STEPS)
    compiled = compile_sampling(one, method, calibrate(one))
    clocks = sum(timeline(turn, method.machine).clocks for turn in compiled.turns)
    bits = sum(min(row.bits, row.joint) for row in rows) / 4e6
    print(f"{VARIANT}, {STEPS} steps, {NETWORK}: {psnr:.1f} dB, link {link:.3f}, {bits:.2f} Mbit an image, {clocks:,}")


if __name__ == "__main__":
    main()
