"""The reports of the simulated project."""
