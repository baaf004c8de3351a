"""A driver in its own process: a sweep with the stub runtime and the real recorder, whose slots start together.

Arguments: address, storage, MLflow's URI, seconds to an evaluation, overrides.
"""

import sys
import time
from pathlib import Path

from stub_runtime import StubBuild, StubRuntime, make_space, notes

from sfd_sweep.cli.display import Lines
from sfd_sweep.config import SearchSpace
from sfd_sweep.execution.run import run
from sfd_sweep.storage.folder import Folder


class BuildTogether(StubBuild):
    def __call__(self, space: SearchSpace, sweep: Folder) -> StubRuntime:
        runtime = super().__call__(space, sweep)
        while sum(note["what"] == "built" for note in notes(Path(sweep.path))) < space.resources.slots:
            time.sleep(0.1)
        return runtime


address, storage, uri, seconds, *overrides = sys.argv[1:]
space = make_space(Path(storage), f"tracking.uri={uri}", *overrides)
outcome = run(space, address=address, build=BuildTogether(seconds=float(seconds)), observer=Lines())
print(outcome.counts)
