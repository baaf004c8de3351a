"""Everything that a sweep leaves to look at, as files."""

from sfd_sweep.search.records import SweepRecord
from sfd_sweep.tracking.importance import importance_png
from sfd_sweep.tracking.interactive import front_html
from sfd_sweep.tracking.plots import front_png, hypervolume_png
from sfd_sweep.tracking.tables import trials_parquet


def sweep_files(record: SweepRecord) -> dict[str, bytes]:
    """Pictures, page and table of a sweep, by name of the file."""
    return {
        "front.png": front_png(record),
        "front.html": front_html(record).encode(),
        "hypervolume.png": hypervolume_png(record),
        "importance.png": importance_png(record),
        "trials.parquet": trials_parquet(record),
    }
