"""`interp serve`: a model and its directions behind a local page and an OpenAI-compatible API."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

from typer import Option

from interp.cli.sweep import OtherModel, TextsAtATime, tell_taken_for
from interp.cli.tokens import directions_or_probe
from interp.errors import UserError
from interp.models.settings import ModelSettings
from interp.options import DIRECTIONS, flag, verb
from interp.reports.terminal import Terminal, quiet_libraries


@verb
def serve(
    *,
    model: ModelSettings,
    directions: Annotated[
        list[Path] | None, Option(help=f"{DIRECTIONS} A probe's file too. Repeat for several.")
    ] = None,
    other_model: OtherModel = False,
    port: Annotated[int, Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = 8000,
    host: Annotated[str, Option(help="Address to listen at: this machine's own and no other.")] = "127.0.0.1",
    open_page: Annotated[bool, flag("--open", "Open the page in a browser.")] = False,
    batch_size: TextsAtATime = 32,
) -> None:
    """Serve a model on this machine: a page to steer it on, and an API that OpenAI's clients know.

    Both take the token that is printed, or that in the environment variable INTERP_SERVE_TOKEN. Ctrl-C ends them.

    Example: `interp serve --model organism-imad --directions found/directions.safetensors`
    """
    from interp.directions.directions import Directions, require_made_on
    from interp.models.model import load_model
    from interp.serving.server import Server, listen

    if host not in ("127.0.0.1", "localhost"):
        raise UserError(f"--host {host}: others could reach it; leave it out, and use ssh -L from another machine")
    names = [p.parent.name if p.stem == "directions" and p.parent.name else p.stem for p in directions or ()]
    if len(set(names)) < len(names):
        raise UserError(f"directions {', '.join(names)}: two have one name; rename a file, or its folder")
    files = {name: (path, directions_or_probe(path)) for name, path in zip(names, directions or (), strict=True)}
    vectors = {path: found for path, found in files.values() if isinstance(found, Directions)}
    console = Terminal()
    tell_taken_for(console, vectors)
    quiet_libraries()
    with listen(port) as listening:
        loaded = load_model(**model.arguments)
        if loaded.engine is not None:
            raise loaded.engine.refusal("is not served: texts join while others are written; leave out --engine")
        for path, found in () if other_model else vectors.items():
            require_made_on(found, loaded, path)
        server = Server(loaded, files, listening, n_rows=batch_size)
        page = f"http://{server.host}/?token={server.token}"  # answered from now on: the socket listens
        console.print(f"model: {loaded.name} ({loaded.source})\npage: {page}", soft_wrap=True)
        console.print(f"API: http://{server.host}/v1 (the token is its key); Ctrl-C ends both", soft_wrap=True)
        if open_page:
            webbrowser.open(page)
        server.until_stopped()
    console.print("stopped")
