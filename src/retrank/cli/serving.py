"""The commands `serve`, `reload` and `key`."""

import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from retrank.cli.output import print_json
from retrank.core.errors import ConfigError
from retrank.core.extras import optional

__all__ = ["add_commands", "effects_of"]

_ORIGIN: Final = re.compile(r"https?://[^/\s*]+")


def add_commands(app: typer.Typer) -> None:
    """Add `serve`, `reload` and `key`.

    Args:
        app: the command line.
    """
    for name, function in (("serve", _serve), ("reload", _reload), ("key", _key)):
        app.command(name)(function)


def _variable(name: str) -> str:
    return f"RETRANK_SERVE_{name}"


def _serve(
    bundle: Annotated[Path, typer.Argument(help="The directory of a bundle.", envvar=_variable("BUNDLE"))],
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 for all.", envvar=_variable("HOST"))
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="The port; 0 for any that is free.", envvar=_variable("PORT"))
    ] = 8000,
    workers: Annotated[
        int, typer.Option(min=1, max=256, help="How many processes answer.", envvar=_variable("WORKERS"))
    ] = 1,
    store: Annotated[
        str | None,
        typer.Option(
            help="Where events go: a file, sqlite:///FILE, postgresql://... or redis://...; by default a file beside "
            "the bundle, BUNDLE-events.sqlite.",
            envvar=_variable("STORE"),
        ),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(help="A file with the digests of API keys, which `retrank key` makes.", envvar=_variable("KEYS")),
    ] = None,
    origin: Annotated[
        list[str],
        typer.Option(help="An origin whose pages may call (CORS); may be repeated.", envvar=_variable("ORIGIN")),
    ] = [],  # noqa: B006
    event_type: Annotated[
        list[str],
        typer.Option(
            help="NAME=EFFECT of another type of event; its effect is interaction, hide, unhide or record. May be "
            "repeated.",
            envvar=_variable("EVENT_TYPE"),
        ),
    ] = [],  # noqa: B006
    log_requests: Annotated[
        bool, typer.Option(help="Log a line for each request.", envvar=_variable("LOG_REQUESTS"))
    ] = True,
    impressions: Annotated[
        bool, typer.Option(help="Keep in the store which lists were shown.", envvar=_variable("IMPRESSIONS"))
    ] = True,
    page: Annotated[
        bool,
        typer.Option(help="Show the page at /, and tell who is known and what they did.", envvar=_variable("PAGE")),
    ] = True,
    max_k: Annotated[int, typer.Option(min=1, help="The longest list.", envvar=_variable("MAX_K"))] = 1_000,
    max_body: Annotated[
        int, typer.Option(min=1, help="The largest body of a request, in bytes.", envvar=_variable("MAX_BODY"))
    ] = 2**20,
    queue: Annotated[
        int, typer.Option(min=1, help="How many requests wait in a worker; others get 503.", envvar=_variable("QUEUE"))
    ] = 1_024,
    deadline: Annotated[
        float, typer.Option(help="Seconds after which a waiting request is given up.", envvar=_variable("DEADLINE"))
    ] = 2.0,
    watch: Annotated[
        bool, typer.Option("--watch", help="Load a new bundle as soon as it is there.", envvar=_variable("WATCH"))
    ] = False,
) -> None:
    """Serve a bundle over HTTP, with a page at /. SIGHUP, or `retrank reload`, loads a new one in its place."""
    if sys.platform == "win32":
        raise ConfigError("Linux or macOS", "Windows", "retrank serve", "run it in a container, or in WSL")
    launching, settings = (optional(f"retrank.serving.{name}", "serve") for name in ("launching", "settings"))
    known_keys = optional("retrank.serving.keys", "serve")
    wanted = settings.Settings(
        limits=settings.Limits(k=max_k, body_bytes=max_body, queue=queue, deadline=deadline),
        event_types={**settings.EVENT_TYPES, **effects_of(event_type)},
        logs_impressions=impressions,
        logs_requests=log_requests,
        shows_page=page,
        key_hashes=frozenset() if keys is None else known_keys.read_key_hashes(keys),
        origins=_origins(origin),
    )
    place = store or f"{str(bundle.absolute()).rstrip('/')}-events.sqlite"
    optional("retrank.serving.bundles", "serve").version_of(bundle)  # before the port is taken
    launching.launch(bundle, place, wanted, _listener(host, port), num_workers=workers, watches=watch)


def _reload(
    bundle: Annotated[Path, typer.Argument(help="The directory of a bundle that is being served.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a line for each service.")] = False,
) -> None:
    """Have the services of a bundle on this machine load it anew, and wait until they answer from it."""
    results = optional("retrank.serving.control", "serve").ask_for_reload(bundle)
    for result in results:
        if as_json:
            print_json(result)
        elif result["result"] != "refused":
            done = "answers from it" if result["result"] == "loaded" else "has it already"
            typer.echo(f"bundle {result['bundle']}: the service with process id {result['pid']} {done}")
    if refused := [result for result in results if result["result"] == "refused"]:
        services = ", ".join(str(result["pid"]) for result in refused)
        raise ConfigError(
            "a bundle that can be loaded",
            refused[0]["error"],
            f"service with process id {services}",
            "the old bundle stays in use",
        )


def _key() -> None:
    """Make an API key, and its digest for the file that `retrank serve --keys` reads."""
    keys = optional("retrank.serving.keys", "serve")
    made = keys.new_key()
    typer.echo(f"key     {made}  (for the client; it is shown only now)")
    typer.echo(f"digest  {keys.digest_of(made)}  (a line of the file)")


def _listener(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise ConfigError("an address that is free", f"{host}:{port} ({error})", "--host and --port") from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each answer waits for 40 ms
    return listener


def effects_of(options: Sequence[str]) -> dict[str, str]:
    """Read what types of events do.

    Args:
        options: NAME=EFFECT each.

    Raises:
        ConfigError: something else, or two effects of one type.
    """
    effects: dict[str, str] = {}
    for option in options:
        name, separator, effect = option.partition("=")
        if not name or not separator:
            raise ConfigError("NAME=EFFECT", repr(option), "--event-type", "write e.g. --event-type share=interaction")
        if effects.setdefault(name, effect) != effect:
            raise ConfigError("one effect of a type", f"{effects[name]} and {effect}", f"--event-type {name}")
    return effects


def _origins(options: Sequence[str]) -> tuple[str, ...]:
    for option in options:
        if option != "*" and not _ORIGIN.fullmatch(option):
            raise ConfigError("an origin", repr(option), "--origin", "write e.g. --origin https://shop.example")
    if "*" in options and len(options) > 1:
        raise ConfigError("'*' alone, or single origins", str(list(options)), "--origin")
    return tuple(dict.fromkeys(options))
