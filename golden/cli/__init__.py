"""The commands of ``python -m golden``, a module for each."""
