"""The command ``driftless-hdl``: the generator's commands, and one group for each of the other packages."""

import importlib

import click

from golden.common import console
from golden.common.rooms import VERSION
from rtl_gen.__main__ import main as generator

_PACKAGES = {
    "fpga": "Place, route and measure on FPGAs with open tools.",
    "golden": "Golden model: trained networks, and what differential computing makes of them.",
    "sim": "Simulate the emitted Verilog against the golden model.",
}


class _Package(console.Group):
    """Command line of a package, imported when it is used: cocotb, place and route and matplotlib take their time."""

    def _commands(self) -> click.Group:
        return importlib.import_module(f"{self.name}.__main__").main

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the package's commands."""
        return self._commands().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of the package's commands."""
        return self._commands().get_command(ctx, cmd_name)


@console.group("Driftless: an open generator of differential accelerators for diffusion models.")
@click.version_option(VERSION, message="%(prog)s %(version)s")
def main(traceback: bool) -> None:
    """Root of the command line."""


for _name, _command in generator.commands.items():
    main.add_command(_command, _name)
for _name, _help in _PACKAGES.items():
    main.add_command(_Package(_name, help=_help))
