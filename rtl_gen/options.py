"""Options that several commands share: which machine, which units, how to print."""

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from golden.common import names
from golden.parameters import DEFAULT_PRESET, Parameters, preset
from hw.accelerator import Accelerator
from hw.tops import COMPONENTS
from hw.units import UNITS


@dataclasses.dataclass(frozen=True)
class Machine:
    """A machine that a command line asked for.

    Parameters
    ----------
    name : str
        The preset's name, or that of the configuration file without its ending.
    parameters : Parameters
        With all settings applied.
    stated : frozenset of str
        Parameters that were set one by one.
    """

    name: str
    parameters: Parameters
    stated: frozenset[str] = frozenset()


def machine(
    command: Callable[..., Any] | None = None,
    *,
    default: Callable[[dict[str, Any]], str] = lambda others: DEFAULT_PRESET,
    shown: str = DEFAULT_PRESET,
) -> Callable[..., Any]:
    """Add ``--preset``, ``--config`` and ``--set`` to a command, which receives them as one ``machine: Machine``.

    Parameters
    ----------
    command : function, optional
        The command; without it, a decorator is returned.
    default : function
        Name of the default preset, from the command's other options.
    shown : str
        What ``--help`` says of it.
    """
    if command is None:
        return functools.partial(machine, default=default, shown=shown)

    @click.option("--preset", "preset_name", metavar="NAME", help=f"Named machine.  [default: {shown}]")
    @click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Machine as a JSON file.")
    @click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a parameter (repeatable).")
    @functools.wraps(command)
    def wrapped(
        *args: Any, preset_name: str | None, config: Path | None, settings: tuple[str, ...], **others: Any
    ) -> Any:
        if preset_name is not None and config is not None:
            raise ValueError(f"A machine must come from --preset or --config, not both ({preset_name} and {config})")
        if config is None:
            name = preset_name or default(others)
            parameters = preset(name)
        else:
            parameters = Parameters.from_file(config)
            name = re.sub(r"[^A-Za-z0-9_]+", "_", config.stem).strip("_") or "machine"
        stated = frozenset(setting.partition("=")[0].strip() for setting in settings)
        return command(*args, machine=Machine(name, parameters.with_settings(settings), stated), **others)

    return wrapped


def choose_units(wanted: Sequence[str], parameters: Parameters) -> list[str]:
    """Names of the units that are meant, in the order of `COMPONENTS`.

    If none is named: all units, and the accelerator if the machine can be one. Its halves stand in it.

    Raises
    ------
    ValueError
        If there is no such unit; the sentence suggests the closest.
    """
    for name in wanted:
        names.lookup("Unit", name, COMPONENTS)
    every = [*UNITS, *([Accelerator.name] if parameters.closed_loop else [])]
    return [name for name in COMPONENTS if name in (wanted or every)]


units = click.option("--unit", "units", multiple=True, metavar="NAME", help="Only this unit (repeatable).")

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

jobs = click.option(
    "--jobs", default=os.cpu_count() or 1, show_default=True, type=click.IntRange(1), help="Units at a time."
)
