"""The application: its commands, and the conversion of errors to messages and exit codes."""

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from sfd_sweep.cli import audits, comparing, models, results, steering, sweeps, training
from sfd_sweep.errors import UserError

app = typer.Typer(
    name="sfd-sweep",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help starts twice as fast
)


@app.callback(invoke_without_command=True)
def sfd_sweep(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """Search the hyperparameters of Score Forgetting Distillation."""
    if version:
        from sfd_sweep import __version__

        print(f"sfd-sweep {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


app.command()(sweeps.init)
app.command()(sweeps.run)
app.command()(sweeps.resume)
app.command()(steering.add)
app.command()(steering.stop)
app.command()(steering.retry)
app.command()(steering.watch)
app.command()(steering.logs)
app.command()(steering.delete)
app.command()(sweeps.doctor)
app.command()(sweeps.schema)
app.command("list")(results.list_sweeps)
app.command()(results.show)
app.command()(results.pareto)
app.command()(comparing.compare)
app.command()(results.report)
app.command()(results.ui)
app.command()(results.export)
app.command()(models.sample)
app.command()(models.evaluate)
app.command()(audits.audit)
app.command()(audits.verify)
app.command()(training.pretrain)
app.command()(training.distill)
app.command()(training.train_classifier)
app.command()(models.import_checkpoint)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit.

    The exit code is 0 for success, 1 for a failed sweep or a folder that is not what it claims, 2 for invalid input,
    and 130 for an interruption.

    Args:
        arguments: Command-line arguments; None: those of the process.
    """
    try:
        code = app(args=arguments, prog_name="sfd-sweep", standalone_mode=False)
    except UserError as error:
        _exit(str(error), error.exit_code)
    except TyperException as error:
        _exit(error.format_message(), 2)
    sys.exit(code)


def _exit(message: str, code: int) -> NoReturn:
    print(f"sfd-sweep: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
