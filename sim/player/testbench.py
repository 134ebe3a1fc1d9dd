"""The cocotb test that runs inside the simulator: starts each run of the player and writes down how it ended.

The plan is ``plan.json`` in the working folder: the names of the player's ports, and for each run its seed, its pauses,
the values of the settings, where each stream's vectors are in its file, and the sticky bits expected. The outcome of
every run goes to ``outcome.json``; `sim.play` makes the plan, `sim.result` says what the outcome means.
"""

import json
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge

_COUNTERS = ("taken", "first_cycle", "last_cycle")
_CHECKS = ("wrong", "wrong_index", "wrong_cycle", "wrong_got", "wrong_expected", "extra", "unstable")


_MEMORY = ("wrong", "wrong_address", "wrong_got", "wrong_expected", "stray", "unstable")


def _read(dut: object, name: str) -> int:
    return int(getattr(dut, name).value)


def _outcome(dut: object, plan: dict) -> dict:
    return {
        "cycles": _read(dut, "cycle"),
        "hung": _read(dut, "hung"),
        "inputs": {name: {key: _read(dut, f"{name}__{key}") for key in _COUNTERS} for name in plan["inputs"]},
        "outputs": {
            name: {key: _read(dut, f"{name}__{key}") for key in _COUNTERS + _CHECKS} for name in plan["outputs"]
        },
        "memory": {key: _read(dut, f"memory__{key}") for key in _COUNTERS + _MEMORY} if plan["memory"] else {},
        "status": {name: _read(dut, name) for name in plan["status"]},
        "seen": {name: _read(dut, f"{name}__seen") for name in plan["status"]},
    }


@cocotb.test()
async def play(dut: object) -> None:
    """Run the plan."""
    plan = json.loads(Path("plan.json").read_text(encoding="utf-8"))
    outcomes = []
    for name in ("rst", "start", "idle", "stall", "late", "noise", *plan["settings"]):
        getattr(dut, name).value = 0
    dut.patience.value = plan["patience"]
    Clock(dut.clk, 2, unit="ns", impl="gpi").start()
    for mutant, run in [(mutant, run) for mutant in plan.get("mutants", [None]) for run in plan["runs"]]:
        # One run that fails is enough to catch a mutant.
        if mutant is not None:
            if outcomes and outcomes[-1]["mutant"] == mutant and outcomes[-1]["failed"]:
                continue
            dut.mutant.value = mutant
        dut.seed.value = run["seed"]
        dut.limit.value = run["limit"]
        flags = run["flags"]
        for name, value in flags.items():
            getattr(dut, name).value = value
        for name, value in run["settings"].items():
            getattr(dut, name).value = value
        for name, (first, count) in run["streams"].items():
            getattr(dut, f"{name}__first").value = first
            getattr(dut, f"{name}__count").value = count
        if flags["noise"]:
            await _start(dut, 3)
            await ClockCycles(dut.clk, run["begun"])
        await _start(dut, run["reset"])
        if plan["clear"] and flags["late"]:
            dut.clear.value = 1
        await RisingEdge(dut.done)
        outcome = _outcome(dut, plan)
        if plan["clear"]:
            dut.clear.value = 1
            await RisingEdge(dut.clk)
            dut.clear.value = 0
            await RisingEdge(dut.clk)
            outcome["cleared"] = {name: _read(dut, name) for name in plan["status"]}
            if flags["late"]:
                # A status bit that is cleared in every clock shows each event for a clock.
                outcome["status"] = outcome["seen"]
        outcomes.append(outcome | {"mutant": mutant, "failed": _failed(outcome, run)})
    Path("outcome.json").write_text(json.dumps(outcomes), encoding="utf-8")
    failed = sum(outcome["failed"] for outcome in outcomes if not outcome["mutant"])
    assert not failed, f"{failed} of {len(outcomes)} runs differ from the golden model"


async def _start(dut: object, clocks: int) -> None:
    """Reset the unit for so many clocks and start the player; whatever was under way is lost."""
    noise = int(dut.noise.value)
    dut.rst.value = 1
    dut.start.value = 1
    if clocks > 1:
        await ClockCycles(dut.clk, clocks - 1)
    # What streams offer in the last clock of the reset was drawn a clock before it.
    dut.noise.value = 0
    await RisingEdge(dut.clk)
    dut.noise.value = noise
    dut.rst.value = 0
    dut.start.value = 0


def _failed(outcome: dict, run: dict) -> bool:
    outputs = outcome["outputs"].values()
    return bool(
        outcome["hung"]
        or outcome["status"] != run["status"]
        or any(outcome.get("cleared", {}).values())
        or any(outcome["memory"].get(key) for key in ("wrong", "stray", "unstable"))
        or any(output[key] for output in outputs for key in ("wrong", "extra", "unstable"))
    )
