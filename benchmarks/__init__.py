"""Measured speed: retrank beside plain torch, interleaved in one run. Run `python -m benchmarks`."""
