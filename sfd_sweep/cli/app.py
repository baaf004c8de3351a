"""All commands, and the one place where errors become words and an exit code."""

import sys
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from sfd_sweep.cli import looking, models, running
from sfd_sweep.errors import UserError

app = typer.Typer(
    name="sfd-sweep",
    help="Search for the settings that make a diffusion model forget a class, and keep everything else.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RUNNING = "Sweeps"
LOOKING = "Results"
MODELS = "Models"

app.command(rich_help_panel=RUNNING)(running.run)
app.command(rich_help_panel=RUNNING)(running.resume)
app.command(rich_help_panel=RUNNING)(running.schema)
app.command("list", rich_help_panel=LOOKING)(looking.list_)
app.command(rich_help_panel=LOOKING)(looking.show)
app.command(rich_help_panel=LOOKING)(looking.pareto)
app.command(rich_help_panel=LOOKING)(looking.ui)
app.command(rich_help_panel=LOOKING)(models.export)
app.command(rich_help_panel=MODELS)(models.sample)
app.command(rich_help_panel=MODELS)(models.evaluate)
app.command(rich_help_panel=MODELS)(models.pretrain)
app.command(rich_help_panel=MODELS)(models.distill)
app.command(rich_help_panel=MODELS)(models.train_classifier)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and leave the process with its exit code.

    0 is success, 1 a sweep that failed, 2 a request that cannot be met, 130 an interruption.
    """
    try:
        code = app(args=arguments, standalone_mode=False)
    except UserError as error:
        _leave(str(error), error.exit_code)
    except typer.Abort:
        _leave("interrupted", 130)
    except TyperException as error:
        _leave(error.format_message(), 2)
    sys.exit(code if isinstance(code, int) else 0)


def _leave(message: str, code: int) -> None:
    line = " ".join(message.split())
    print(f"sfd-sweep: error: {line}", file=sys.stderr)
    sys.exit(code)
