"""Files of a run: never over a photo that was given, never over each other."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from plateblur.runs.files import Outputs, is_part


def test_of_two_threads_that_write_one_file_one_is_refused(tmp_path: Path) -> None:
    outputs = Outputs([])
    barrier = threading.Barrier(4)
    refused: list[str] = []

    def write(number: int) -> None:
        barrier.wait()
        try:
            outputs.write(tmp_path / "a.jpg", bytes([number]) * 100_000)
        except FileExistsError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3
    assert all("another photo of this run" in reason for reason in refused)
    assert len(set((tmp_path / "a.jpg").read_bytes())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


def test_a_file_that_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    outputs = Outputs([])
    target = tmp_path / "a.jpg"
    outputs.check(target)
    target.write_bytes(b"someone else's")
    with pytest.raises(FileExistsError, match="--overwrite replaces it"):
        outputs.write(target, b"ours")
    assert target.read_bytes() == b"someone else's"
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


def test_two_names_of_one_file_are_one_output_even_when_overwriting(tmp_path: Path) -> None:
    """As on a disk where `A.jpg` and `a.jpg` are the same; a link stands in for it."""
    outputs = Outputs([], overwrite=True)
    outputs.write(tmp_path / "a.jpg", b"first")
    (tmp_path / "A.jpg").hardlink_to(tmp_path / "a.jpg")
    with pytest.raises(FileExistsError, match="another photo of this run"):
        outputs.write(tmp_path / "A.jpg", b"second")
    assert (tmp_path / "a.jpg").read_bytes() == b"first"


@pytest.mark.parametrize(
    ("name", "part"),
    [(".plateblur-x.part", True), (".plateblur-x.jpg", False), ("plateblur-x.part", False)],
)
def test_an_unfinished_file_is_known_by_its_name(name: str, part: bool) -> None:
    assert is_part(Path(name)) == part
