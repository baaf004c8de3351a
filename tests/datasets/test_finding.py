"""Finding what a source is, before anything is read."""

import subprocess
import sys
from pathlib import Path

import pytest
from photographs import photographs

from sfd_sweep.datasets.finding import find_images
from sfd_sweep.errors import UserError


def test_a_description_has_the_files_and_their_size(tmp_path: Path) -> None:
    file = photographs(tmp_path, count=200) / "train-00000-of-00001.parquet"
    megabytes = file.stat().st_size / 1e6
    assert find_images(str(tmp_path)).describe() == f"Parquet, 1 file(s), {megabytes:.1f} MB: {file}"
    assert find_images(f"{tmp_path}:all").describe().startswith("Parquet, 2 file(s), ")


def test_shipped_images_are_described_in_words() -> None:
    assert find_images("builtin:digits").describe() == "1,797 handwritten digits of 8×8 pixels, from scikit-learn"


def test_a_home_folder_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    photographs(tmp_path / "images", count=4)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_images("~/images:test").describe().endswith("test-00000-of-00001.parquet")


def test_a_path_may_have_a_colon(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "images:2024", count=4)
    assert len(find_images(str(folder)).files) == 1
    assert find_images(f"{folder}:test").files[0].name.startswith("test")


def test_nothing_there_is_answered_with_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"there is nothing at {tmp_path}/x; give builtin:digits, Parquet files .* hub"):
        find_images(f"{tmp_path}/x").describe()


def test_a_place_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "inner" / "deeper").mkdir(parents=True)
    for place in (tmp_path, tmp_path / "README.md", f"{tmp_path}:test"):
        with pytest.raises(UserError, match="no images at .*, or not in a known form"):
            find_images(str(place)).describe()


def test_finding_images_loads_no_torch(tmp_path: Path) -> None:
    photographs(tmp_path, count=4)
    code = (
        f"import sys; from sfd_sweep.datasets.finding import find_images; find_images({str(tmp_path)!r}).describe(); "
        "print([name for name in ('torch', 'sklearn', 'huggingface_hub', 'pandas') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"
