"""The command that starts the web page: page."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import app
from flows.cli.checks import find_model
from flows.cli.options import PrivateOption
from reelcheck.errors import SettingsError
from reelcheck.locations import is_url


@app.command()
def page(
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="Checkpoint folder to choose from, or a catalogue's name."),
    ] = None,
    registry: Annotated[
        Path | None,
        typer.Option("--registry", help="Folder of versions to choose from, the champion first."),
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option("--results", help="Output folder of `score` to look at; it may be running."),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 is the whole network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8501,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME[:PORT]",
            help="One more name by which browsers reach the page, as a proxy's.",
        ),
    ] = None,
    max_upload_mb: Annotated[
        int, typer.Option("--max-upload-mb", min=1, max=10_000, help="Largest file that is taken.")
    ] = 200,
    *,
    allow_paths: Annotated[
        bool,
        typer.Option(
            "--allow-paths",
            help="Visitors may name any file and URL that this machine can read.",
        ),
    ] = False,
    allow_private_addresses: PrivateOption = False,
) -> None:
    """Serve a web page: check files, bring a model, browse results, see runs.

    There are no accounts: whoever reaches the address may use it.

    Example: `reelcheck page --model model/ --results scores/`
    """
    from flows.cli.printing import console
    from reelcheck.page_config import PageSettings

    for name in model or []:
        if is_url(name):
            raise SettingsError(f"{name} is a URL; give a checkpoint folder of this machine")
    settings = PageSettings(
        models=tuple(Path(find_model(name)).resolve() for name in model or []),
        registry=registry and registry.resolve(),
        results=tuple(path.resolve() for path in results or []),
        max_upload_mb=max_upload_mb,
        allow_paths=allow_paths,
        host=host,
        port=port,
        allow_hosts=tuple(allow_host or ()),
        allow_private_addresses=allow_private_addresses,
    )
    console.print(f"page: http://{host}:{port}  (Ctrl-C ends it)", highlight=False)
    server = subprocess.Popen(  # noqa: S603 - this interpreter, our own arguments
        [sys.executable, "-m", "page", settings.model_dump_json()],
        env=os.environ | {"STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false"},
    )
    # Whoever ends this process means the server; Ctrl-C reaches both.
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    try:
        code = server.wait()
    except KeyboardInterrupt:
        server.wait()
        code = 130
    raise typer.Exit(code)
