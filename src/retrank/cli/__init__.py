"""The commands: `retrank quickstart | train | update | config | evaluate | recommend | similar | clean | serve ...`.

`main` parses arguments, `commands` does what they ask, `pipeline` is a whole run, `config` its TOML description,
`tables` what it reads, `checks` what must hold before it trains, `showing`, `output` and `next_steps` what it prints,
`reference` the page of all settings, `cleaning` what stopped runs left, `doctor` what a bug report needs,
`extras` what is installed, `serving` runs services, `stored` reads what they kept.
"""

from retrank.cli.main import app, main

__all__ = ["app", "main"]
