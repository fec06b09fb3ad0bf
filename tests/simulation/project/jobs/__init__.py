"""The jobs of the simulated project."""
