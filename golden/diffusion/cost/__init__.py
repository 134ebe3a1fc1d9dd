"""Cycles, bytes and areas of networks on a machine."""
