"""Measuring the product on the machine at hand: an installation of its own, simulated load, figures."""
