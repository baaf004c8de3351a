"""Environment of a sweep: installed packages, versions and the revision of the code."""

import platform
import subprocess
from importlib.metadata import distributions, version
from pathlib import Path

PACKAGE = Path(__file__).parent.parent


def package_lock() -> str:
    """Return the installed distributions as sorted lines `name==version`."""
    lines = {f"{found.name}=={found.version}" for found in distributions()}
    return "\n".join(sorted(lines, key=str.lower)) + "\n"


def version_tags() -> dict[str, str]:
    """Return tags with the main versions, and with the revision if the code is a Git checkout."""
    tags = {f"version.{name}": version(name) for name in ("sfd-sweep", "torch", "ray", "optuna", "diffusers")}
    if revision := _git("rev-parse", "HEAD"):
        tags["mlflow.source.git.commit"] = revision
        tags["version.changed"] = "true" if _git("status", "--porcelain", "--", ".") else "false"
    return tags | {"version.python": platform.python_version()}


def _git(*arguments: str) -> str:
    """Return Git's output for the package's folder; empty without a checkout or without Git."""
    try:
        command = ["git", "-C", str(PACKAGE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return ""
