"""The application that the commands belong to."""

import typer

app = typer.Typer(
    help="Batch deepfake detection for video: preprocess, train, evaluate and score.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
