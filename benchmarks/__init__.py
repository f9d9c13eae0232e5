"""Measured speed: retrank, its peers and the limits of the machine, in turn, in one run. Run `make bench`."""
