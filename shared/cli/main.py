"""`fovea`: the loop from a terminal."""

import typer

from shared.cli import batches, data, local, loop, models, search, simulate, strategy

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Active learning for object detection: find the images worth labelling.",
)
for module in (local, data, loop, models, batches, search, simulate, strategy):
    module.register(app)


if __name__ == "__main__":
    app()
