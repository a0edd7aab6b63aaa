"""What a process of the demo leaves on disk, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from plateblur.demo.folder import DemoFolder, remove_leftovers

HOLD = """
import sys, time
from pathlib import Path
from plateblur.demo.folder import DemoFolder
folder = DemoFolder()
Path(folder.name, "photo").write_bytes(b"photo")
print(folder.name, flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    command = [sys.executable, "-c", HOLD]
    environment = {"TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as other:
        assert other.stdout is not None
        folder = Path(other.stdout.readline().strip())
        with DemoFolder():
            assert (folder / "photo").exists()
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert (folder / "photo").exists()

    with DemoFolder() as own:
        assert not folder.exists()
        assert list(tmp_path.glob("plateblur-demo-*")) == [Path(own)]
        assert Path(own).stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.glob("plateblur-demo-*")) == []


def test_a_link_or_a_young_folder_without_a_lock_is_left_alone(tmp_path: Path) -> None:
    aim = tmp_path / "elsewhere"
    (aim / "kept").mkdir(parents=True)
    (tmp_path / "plateblur-demo-link").symlink_to(aim)
    (tmp_path / "plateblur-demo-young").mkdir()
    old = tmp_path / "plateblur-demo-old"
    old.mkdir()
    os.utime(old, (1, 1))

    assert remove_leftovers(tmp_path) == [old]
    assert (aim / "kept").exists()
    assert (tmp_path / "plateblur-demo-young").exists()
