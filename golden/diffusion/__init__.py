"""Diffusion models that run on the law: layers, networks, sampling, differential execution, cost."""
