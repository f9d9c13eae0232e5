"""The command `export`."""

from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console
from rich.markup import escape

from retrank.cli.output import print_json
from retrank.core.directories import ensure_replaceable
from retrank.export import Layout, write_export
from retrank.recommender import Recommender

__all__ = ["app"]

app = typer.Typer()


@app.command()
def export(
    bundle: Annotated[Path, typer.Argument(help="The directory of a bundle.")],
    out: Annotated[Path, typer.Argument(help="Where the export goes; an earlier one there is replaced.")],
    layout: Annotated[list[str], typer.Option(help="onnx, torch, triton or vectors; may be repeated.")] = ["onnx"],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write the models of a bundle as ONNX, for torch or for Triton, with a runner that needs no retrank."""
    ensure_replaceable(out)
    recommender = Recommender.load(bundle, progress=not as_json)
    write_export(recommender, out, cast("list[Layout]", layout), progress=not as_json)
    files = {file.relative_to(out).as_posix(): file.stat().st_size for file in sorted(out.rglob("*")) if file.is_file()}
    if as_json:
        print_json({"out": str(out), "files": files})
        return
    console = Console(highlight=False)
    for name, size in files.items():
        console.print(f"{size:>12,}  {escape(name)}")
    console.print(
        f"Every program computed a sample as its model does. The export is in [bold]{escape(str(out))}[/bold]."
    )
