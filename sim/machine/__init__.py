"""The whole machine: its driver, the simulation of its Verilog, and both executors side by side."""

from sim.machine.driver import Driver, Timeout
from sim.machine.port import InterpreterPort, Port

__all__ = ["Driver", "InterpreterPort", "Port", "Timeout"]
