"""Commands for running unattended: serve, deploy, verify."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import app
from flows.cli.printing import console, print_damages
from reelcheck.errors import SettingsError
from reelcheck.locations import is_url
from reelcheck.serving.login import ServerLogin
from storage.refusals import require_source


@app.command()
def serve(
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; others than this machine's need a password."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the server.")] = 4200,
    max_runs: Annotated[int, typer.Option(min=1, help="Flow runs at once; further ones wait.")] = 2,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:PORT]", help="One more name by which it is reached, as a proxy's."
        ),
    ] = None,
) -> None:
    """Start a Prefect server with every deployment, and a worker, until Ctrl-C.

    The server keeps its data in PREFECT_HOME, and the password that it makes where you set none.
    Paths of the deployments are relative to this folder, which must hold `prefect.yaml`.

    Example: `reelcheck serve --port 4300`
    """
    from flows.serve import serve as serve_here

    serve_here(
        Path.cwd(),
        host=host,
        port=port,
        max_runs=max_runs,
        allow_hosts=tuple(allow_host or ()),
        on_ready=_tell_how_to_use,
    )


def _tell_how_to_use(address: str, login: ServerLogin) -> None:
    where = "the one that you have set" if login.path is None else f"the line in {login.path}"
    needed = f'  export PREFECT_API_AUTH_STRING="$(cat {shlex.quote(login.path or "")})"'
    lines = (
        f"ready: {address}  (Ctrl-C stops it; password: {where}). In another terminal:",
        f"  export PREFECT_API_URL={address}/api",
        *(() if login.is_known_to_prefect else (needed,)),
        "  prefect deployment run preprocess/default --watch",
        "  prefect deployment run score/default --watch",
        "  prefect deployment run retrain/nightly --watch",
    )
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@app.command()
def deploy(
    lost_worker: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="End what this worker, of this machine and dead, has left behind."
        ),
    ] = None,
) -> None:
    """Register work pool, deployments and schedules with the server of `PREFECT_API_URL`.

    `serve` does it itself; this is for a server that runs elsewhere. Paths of the deployments are
    relative to this folder, which must hold `prefect.yaml`.

    Example: `PREFECT_API_URL=http://127.0.0.1:4200/api reelcheck deploy`
    """
    from flows.serve import require_deployments_file, require_server_address

    require_deployments_file(Path.cwd())
    require_server_address()

    from flows.deployments import deploy as deploy_from
    from flows.deployments import end_lost_runs

    deploy_from(Path.cwd())
    console.print("deployed", highlight=False)
    if lost_worker and (num_lost := end_lost_runs(lost_worker)):
        console.print(f"marked as crashed: {num_lost} runs without a process", highlight=False)


@app.command()
def verify(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Stores, models, registries, evaluations or outputs of `score`, by path or URL.",
        ),
    ],
    *,
    sets_aside: Annotated[
        bool,
        typer.Option(
            "--set-aside",
            help="Rename damaged answers, and what counts a damaged shard as done, so that the "
            "next `score` or `preprocess` makes them again.",
        ),
    ] = False,
) -> None:
    """Check that every file is as it was written, and name each that is not: exit code 2.

    All of it is read, crops, weights and pictures, too.

    Example: `reelcheck verify store/ model/ scores/`
    """
    for path in paths:
        require_source(path)
        if sets_aside and is_url(path):
            # What is damaged may be this machine's copy alone.
            raise SettingsError(
                f"--set-aside is for folders of this machine, not for {path}; fetch it first"
            )

    from storage.object_store.copies import open_for_reading
    from tasks.verification.verify import verify as run_task

    num_damages = 0
    for path in paths:
        with open_for_reading(path) as folder:
            num_checked, damages = run_task(folder, sets_aside=sets_aside)
        print_damages(path, damages, num_checked=num_checked)
        num_damages += len(damages)
    if num_damages:
        raise typer.Exit(2)
