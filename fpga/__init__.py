"""Boards, open-tool flows and area reports: ``python -m fpga``."""
