"""The servers whose load is measured beside `retrank serve`; each runs in the interpreter of its library."""
