"""`python -m sfd_sweep`: the command line, where its script is not on the path."""

from sfd_sweep.cli import main

main()
