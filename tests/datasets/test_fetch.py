from __future__ import annotations

import io
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from plateblur.sets import fetch, layout

ServeFiles = Callable[[Path], str]
ServeGit = Callable[[Path], tuple[str, str]]


def packed(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return path
    with tarfile.open(path, "w:xz") as archive_tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive_tar.addfile(info, io.BytesIO(data))
    return path


def test_a_download_is_checked_and_then_kept(tmp_path: Path, serve_files: ServeFiles) -> None:
    (tmp_path / "served").mkdir()
    served = tmp_path / "served" / "set.zip"
    served.write_bytes(b"photos")
    url, sha256 = f"{serve_files(served.parent)}/set.zip", fetch.sha256_of(served)
    assert fetch.download(url, sha256=sha256, to=tmp_path / "kept").read_bytes() == b"photos"
    served.unlink()
    assert fetch.download(url, sha256=sha256, to=tmp_path / "kept").read_bytes() == b"photos"


def test_a_download_with_another_hash_is_thrown_away(
    tmp_path: Path, serve_files: ServeFiles
) -> None:
    (tmp_path / "set.zip").write_bytes(b"something else")
    url = f"{serve_files(tmp_path)}/set.zip"
    with pytest.raises(layout.DatasetError, match=r"expected sha256 0000.* got another file"):
        fetch.download(url, sha256="0" * 64, to=tmp_path / "kept")
    assert not (tmp_path / "kept" / "set.zip").exists()


def test_a_download_that_is_not_there_is_an_error(tmp_path: Path, serve_files: ServeFiles) -> None:
    url = f"{serve_files(tmp_path)}/set.zip"
    with pytest.raises(layout.DatasetError, match="could not be downloaded: 404"):
        fetch.download(url, sha256="0" * 64, to=tmp_path / "kept")


def test_a_server_that_is_not_there_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(layout.DatasetError, match="could not be downloaded"):
        fetch.download("http://127.0.0.1:9/set.zip", sha256="0" * 64, to=tmp_path)


@pytest.mark.parametrize("name", ["set.zip", "set.tar.xz"])
def test_an_archive_is_unpacked_once(name: str, tmp_path: Path) -> None:
    archive = packed(tmp_path / name, {"photos/a.jpg": b"a"})
    to = fetch.unpack(archive, to=tmp_path / "set")
    assert (to / "photos" / "a.jpg").read_bytes() == b"a"
    (to / "photos" / "a.jpg").write_bytes(b"mine")
    fetch.unpack(archive, to=to)
    assert (to / "photos" / "a.jpg").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["set.zip", "set.tar.xz"])
@pytest.mark.parametrize("damage", ["cut", "turned", "empty"])
def test_a_damaged_archive_is_an_error(name: str, damage: str, tmp_path: Path) -> None:
    archive = packed(tmp_path / name, {"photos/a.jpg": bytes(range(256)) * 40})
    data = bytearray(archive.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 8] = bytes(255 - byte for byte in data[middle : middle + 8])
    archive.write_bytes(
        {"cut": archive.read_bytes()[: len(data) // 2], "turned": bytes(data), "empty": b""}[damage]
    )
    with pytest.raises(layout.DatasetError, match="expected a whole zip or tar archive"):
        fetch.unpack(archive, to=tmp_path / "set")


@pytest.mark.parametrize("name", ["set.zip", "set.tar.xz"])
def test_nothing_is_unpacked_outside_the_folder(name: str, tmp_path: Path) -> None:
    archive = packed(tmp_path / name, {"../outside.txt": b"mine now"})
    if name == "set.tar.xz":
        with pytest.raises(layout.DatasetError, match="outside"):
            fetch.unpack(archive, to=tmp_path / "set")
    else:
        fetch.unpack(archive, to=tmp_path / "set")
    assert not (tmp_path / "outside.txt").exists()


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert fetch.locate(tmp_path, sha256=None, to=tmp_path / "set") == tmp_path


def test_an_archive_is_located_by_its_hash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = packed(tmp_path / "set.zip", {"a.jpg": b"a"})
    sha256 = fetch.sha256_of(archive)
    assert (fetch.locate(archive, sha256=sha256, to=tmp_path / "set") / "a.jpg").is_file()
    assert f"sha256 {sha256} as expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("set.zip", "expected sha256 0{64}, got (?!0{64})[0-9a-f]{64}"),
        ("other.zip", "found nothing"),
    ],
    ids=["another", "absent"],
)
def test_an_archive_that_is_another_or_absent_is_an_error(
    name: str, message: str, tmp_path: Path
) -> None:
    packed(tmp_path / "set.zip", {"a.jpg": b"a"})
    with pytest.raises(layout.DatasetError, match=message):
        fetch.locate(tmp_path / name, sha256="0" * 64, to=tmp_path / "set")


@pytest.fixture
def repository(tmp_path: Path, serve_git: ServeGit) -> tuple[str, str]:
    root = tmp_path / "repository"
    root.mkdir()
    (root / "a.txt").write_text("a")
    return serve_git(root)


def test_a_commit_is_fetched_and_then_kept(repository: tuple[str, str], tmp_path: Path) -> None:
    address, commit = repository
    assert (fetch.checkout(address, commit=commit, to=tmp_path / "set") / "a.txt").is_file()
    assert fetch.checkout("http://127.0.0.1:9/gone", commit=commit, to=tmp_path / "set").is_dir()


def test_a_commit_that_is_not_there_is_an_error(
    repository: tuple[str, str], tmp_path: Path
) -> None:
    with pytest.raises(layout.DatasetError, match=r"git .*fetch"):
        fetch.checkout(repository[0], commit="0" * 39 + "1", to=tmp_path / "set")


def test_a_checkout_that_was_changed_is_an_error(
    repository: tuple[str, str], tmp_path: Path
) -> None:
    address, commit = repository
    fetch.checkout(address, commit=commit, to=tmp_path / "set")
    (tmp_path / "set" / "a.txt").write_text("b")
    with pytest.raises(layout.DatasetError, match=f"expected the files of {commit}, 1 are not"):
        fetch.checkout(address, commit=commit, to=tmp_path / "set")


def test_a_checkout_of_another_commit_is_an_error(
    repository: tuple[str, str], tmp_path: Path
) -> None:
    address, commit = repository
    to = fetch.checkout(address, commit=commit, to=tmp_path / "set")
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(
        ["git", "-C", str(to), *identity, "commit", "--quiet", "--allow-empty", "-m", "more"],
        check=True,
    )
    with pytest.raises(layout.DatasetError, match=f"expected commit {commit}, got"):
        fetch.checkout(address, commit=commit, to=to)
