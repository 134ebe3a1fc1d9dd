"""Differential execution of whole networks: one executor for any network, step after step, under any method."""
