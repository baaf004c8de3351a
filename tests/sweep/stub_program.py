"""The program itself, with the stub lab in its slots: `python stub_program.py run FILE`, and so on.

The environment's STUB is a JSON object with the stub's attributes.
"""

import json
import os

from stub_lab import StubBuild

from sfd_sweep.cli import main
from sfd_sweep.sweep import run as running

if __name__ == "__main__":
    build = StubBuild(**json.loads(os.environ.get("STUB", "{}")))
    for entrance in (running.run, running.resume):
        assert entrance.__kwdefaults__
        entrance.__kwdefaults__["build"] = build
    main()
