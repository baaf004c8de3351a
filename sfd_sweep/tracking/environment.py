"""What a sweep ran on: installed packages, versions and the code's revision."""

import platform
import subprocess
from importlib.metadata import distributions, version
from pathlib import Path

PACKAGE = Path(__file__).parent.parent


def package_lock() -> str:
    """Every installed distribution as `name==version`, a line each, sorted."""
    lines = {f"{found.name}=={found.version}" for found in distributions()}
    return "\n".join(sorted(lines, key=str.lower)) + "\n"


def version_tags() -> dict[str, str]:
    """Tags with the versions that matter, and the revision if the code is a Git checkout."""
    tags = {f"version.{name}": version(name) for name in ("sfd-sweep", "torch", "ray", "optuna", "diffusers")}
    revision = _git("rev-parse", "HEAD")
    if revision:
        tags["mlflow.source.git.commit"] = revision
        tags["version.changed"] = "true" if _git("status", "--porcelain", "--", ".") else "false"
    return tags | {"version.python": platform.python_version()}


def _git(*arguments: str) -> str:
    """What Git says of the package's folder; nothing if that is no checkout or there is no Git."""
    try:
        done = subprocess.run(["git", "-C", str(PACKAGE), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
