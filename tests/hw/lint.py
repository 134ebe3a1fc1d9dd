"""What every reader of Verilog says about a component."""

from rtl_gen.verilog.emission import emit
from rtl_gen.verilog.lint import READERS, check_files


def complaints(component):
    """Complaints about the component's Verilog, of all readers."""
    (row,) = check_files({"part": emit(component, name="part").text})
    return [complaint for reader in READERS for complaint in row[reader]]
