"""The command line: options, tables, and exit codes."""

from sfd_sweep.cli.app import main

__all__ = ["main"]
