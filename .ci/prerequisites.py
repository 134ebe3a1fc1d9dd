"""Check what Driftless needs and pip cannot give; print the line to type for what is missing. Standard library only."""

import ctypes
import importlib.util
import os
import shutil
import sys
import sysconfig


def _libpython() -> bool:
    name = sysconfig.get_config_var("INSTSONAME") or ""
    if ".so" not in name:
        return False
    folder = sysconfig.get_config_var("LIBDIR") or ""
    for candidate in (name, os.path.join(folder, name)):
        try:
            ctypes.CDLL(candidate)
            return True
        except OSError:
            continue
    return False


def main() -> int:
    """Return 0 if everything is there, else 2."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if sys.version_info < (3, 11):  # noqa: UP036 (an older interpreter can still run this file)
        print(f"Driftless needs Python 3.11 or newer, not {version}: make build PYTHON=python3.11", file=sys.stderr)
        return 2
    missing = {}
    if shutil.which("g++") is None or shutil.which("c++") is None:
        missing["g++"] = "the C++ compiler that Verilator calls"
    if shutil.which("make") is None:
        missing["make"] = "make, which Verilator calls"
    if shutil.which("perl") is None:
        missing["perl"] = "perl, which Verilator's launcher is written in"
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        missing[f"python{version}-venv"] = "venv, for the environment at .venv"
    if not _libpython():
        missing[f"libpython{version}"] = "a shared libpython, which cocotb loads into the simulator"
    if not missing:
        return 0
    for package, reason in missing.items():
        print(f"Missing: {reason} (Debian and Ubuntu package {package}).", file=sys.stderr)
    print(f"Type: sudo apt-get install {' '.join(missing)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
