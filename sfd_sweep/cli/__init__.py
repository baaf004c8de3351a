"""The command line: words, tables and exit codes. What they speak of is done in the rooms below."""

from sfd_sweep.cli.app import main

__all__ = ["main"]
