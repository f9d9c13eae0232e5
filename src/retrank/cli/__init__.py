"""The commands: `retrank quickstart | train | config | evaluate | recommend | doctor`.

`main` parses arguments, `commands` does what they ask, `pipeline` is a whole run, `config` its TOML description.
"""

from retrank.cli.main import app, main

__all__ = ["app", "main"]
