"""The program itself, with the stub runtime in its slots: `python stub_program.py run FILE`, and so on.

The environment's STUB is a JSON object with the stub's attributes; `patience` is how long the recorder waits for a
store that is away.
"""

import json
import os
from pathlib import Path

from stub_runtime import StubBuild

from sfd_sweep.cli import main
from sfd_sweep.execution import run as running
from sfd_sweep.tracking import recorder

if __name__ == "__main__":
    attributes = json.loads(os.environ["STUB"])
    recorder.PATIENCE_SECONDS = attributes.pop("patience", recorder.PATIENCE_SECONDS)
    notes = attributes.pop("notes", None)
    build = StubBuild(**attributes, notes=notes and Path(notes))
    for entrance in (running.run, running.resume):
        assert entrance.__kwdefaults__
        entrance.__kwdefaults__["build"] = build
    main()
