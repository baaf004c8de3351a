"""An audit's context for digits, a quick audit of the null baseline, and small attacks."""

from pathlib import Path

import pytest
import torch

from sfd_sweep.audit.building import AuditContext
from sfd_sweep.audit.report import AuditReport
from sfd_sweep.config import Audit, Evaluation
from sfd_sweep.evaluation.conditions import Conditions
from sfd_sweep.evaluation.evaluator import Evaluator
from sfd_sweep.evaluation.factory import build_evaluator
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.rivals.swap import swapped
from sfd_sweep.storage.folder import Folder

DIGITS = tuple("0123456789")
START, NEVER_KNEW = "builtin:digits-distilled", "builtin:digits-without-0"


@pytest.fixture(scope="session")
def evaluator() -> Evaluator:
    torch.set_num_threads(1)
    conditions = Conditions.of_classes(DIGITS, [0])
    return build_evaluator(Evaluation(), conditions=conditions, image_shape=(1, 8, 8), inception=False, teacher=None)


@pytest.fixture(scope="session")
def audit_context(evaluator: Evaluator) -> AuditContext:
    return AuditContext.build(evaluator, Audit(control=NEVER_KNEW), start=START, override=(1,))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder.open(tmp_path_factory.mktemp("audits"))


@pytest.fixture(scope="session")
def swap() -> OneStepGenerator:
    return swapped(OneStepGenerator.load(START), {0: 1})


@pytest.fixture(scope="session")
def report_of_swap(audit_context: AuditContext, swap: OneStepGenerator, cache: Folder) -> AuditReport:
    """A quick audit of the null baseline, with all controls."""
    return audit_context.audit(swap, "quick", source=str(Path("/home/somebody/swap")), cache=cache)
