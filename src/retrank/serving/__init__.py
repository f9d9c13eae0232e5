"""From a bundle to a service: the stores of its events."""

__all__: list[str] = []
