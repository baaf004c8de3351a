"""All commands, and the one place where errors become words and an exit code."""

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from sfd_sweep.cli import distilling, doctor, importing, models, pretraining, results, sweeps, training
from sfd_sweep.errors import UserError

app = typer.Typer(
    name="sfd-sweep",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help and errors: half the time of the boxed ones
)


@app.callback(invoke_without_command=True)
def sfd_sweep(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """Search for the settings that make a diffusion model forget a class, and keep everything else."""
    if version:
        from sfd_sweep import __version__

        print(f"sfd-sweep {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


app.command()(sweeps.run)
app.command()(sweeps.resume)
app.command()(doctor.doctor)
app.command()(sweeps.schema)
app.command("list")(results.list_sweeps)
app.command()(results.show)
app.command()(results.pareto)
app.command()(results.ui)
app.command()(models.export)
app.command()(models.sample)
app.command()(models.evaluate)
app.command()(pretraining.pretrain)
app.command()(distilling.distill)
app.command()(training.train_classifier)
app.command()(importing.import_checkpoint)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and leave the process with its exit code.

    0 is success, 1 a sweep that failed, 2 a request that cannot be met, 130 an interruption.

    Args:
        arguments: of the command line; None: those of the process.
    """
    try:
        code = app(args=arguments, prog_name="sfd-sweep", standalone_mode=False)
    except UserError as error:
        _leave(str(error), error.exit_code)
    except TyperException as error:
        _leave(error.format_message(), 2)
    sys.exit(code)


def _leave(message: str, code: int) -> NoReturn:
    print(f"sfd-sweep: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
