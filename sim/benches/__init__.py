"""A bench per unit: ``bench(request)`` makes its vectors, ``variants(parameters)`` the other parameters worth a run."""
