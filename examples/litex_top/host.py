"""The host of the simulated system as a port of the driver: registers and memory, both by the system's bus."""

import struct
import subprocess

import numpy as np

from golden.machine.command import UNIT_BYTES
from golden.machine.registers import register


class HostPort:
    """A machine on a bus whose host is another process (``host.cpp``).

    Parameters
    ----------
    executable : Path
        The simulation.
    folder : Path
        Where it runs: what LiteX wrote for its memories lies there.
    parameters : Parameters
        Of the machine.
    registers, ram : int
        Addresses in bytes of its registers and of the RAM on the bus.
    size : int
        Bytes of RAM.
    """

    def __init__(self, executable, folder, parameters, registers, ram, size):
        self.parameters = parameters
        self._registers, self._ram = registers, ram
        self._host = subprocess.Popen([executable], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._bases = [register(f"region{number}_base").offset for number in range(8)]
        self.memory = BusMemory(self, ram, size)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._host.stdin.close()
        self._host.wait()
        self._host.stdout.close()

    def ask(self, what, address, number, words=b"", answers=0):
        """Send a request; the words of its answer, an array of uint32."""
        self._host.stdin.write(struct.pack("<3I", ord(what), address, number) + words)
        self._host.stdin.flush()
        answer = self._host.stdout.read(4 * answers)
        if len(answer) < 4 * answers:
            raise RuntimeError(f"the host has ended with code {self._host.wait()}")
        return np.frombuffer(answer, "<u4")

    def read(self, offset):
        """Read a register."""
        return int(self.ask("r", self._registers + offset, 1, answers=1)[0])

    def write(self, offset, value):
        """Write a register. A region's base counts from the begin of the bus, a program's from that of the RAM."""
        if offset in self._bases:
            value += self._ram // UNIT_BYTES
        self.ask("w", self._registers + offset, 1, struct.pack("<I", value))

    def advance(self, clocks):
        """Let so many clocks pass, or fewer if the machine interrupts; whether it does."""
        return bool(self.ask("a", 0, clocks, answers=1)[0])

    def spans(self):
        """None: the bus does not tell when engines work."""
        return {}


class BusMemory:
    """RAM on the bus; slices of whole words of it read and write like those of an array of uint8."""

    def __init__(self, port, address, size):
        self._port, self._address, self._size = port, address, size

    def __len__(self):
        return self._size

    def _words(self, place):
        begin, end, _ = place.indices(self._size)
        return self._address + begin, (end - begin) // 4

    def __getitem__(self, place):
        address, count = self._words(place)
        return self._port.ask("r", address, count, answers=count).view(np.uint8)

    def __setitem__(self, place, values):
        self._port.ask("w", *self._words(place), np.asarray(values, np.uint8).tobytes())

    def copy(self):
        """All of it, as an array."""
        return self[:]
