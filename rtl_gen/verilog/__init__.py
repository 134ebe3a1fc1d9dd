"""Verilog from Amaranth components: `emission` leads from the component to the text, the others are its steps."""
