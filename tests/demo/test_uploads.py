"""Uploads: whose they are, what is read, and how much may wait."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from plateblur.demo.uploads import (
    MoreThanAnnouncedError,
    NoRoomError,
    NotThereError,
    Room,
    Uploads,
    safe_name,
)
from tests.demo.fakes import uploaded
from tests.demo.test_visits import Clock


def added(uploads: Uploads, data: bytes = b"photo", visitor: str = "me") -> str:
    return uploaded(uploads, visitor, "car.jpg", data)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


def test_an_upload_is_taken_once_and_gone_from_disk(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    token = added(uploads)

    assert uploads.take("me", token, max_bytes=5) == b"photo"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotThereError):
        uploads.take("me", token, max_bytes=5)


def test_another_visitor_can_neither_take_nor_drop_it(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    token = added(uploads)

    with pytest.raises(NotThereError):
        uploads.take("another", token, max_bytes=5)
    uploads.drop("another", token)

    assert uploads.take("me", token, max_bytes=5) == b"photo"


@pytest.mark.parametrize(
    "token",
    ["/etc/passwd", "../secret", "", ".", "/dev/zero", "x\0y", "me/car.jpg", "a" * 5000],
)
def test_what_is_no_token_opens_nothing(tmp_path: Path, token: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    uploads = Uploads(tmp_path / "uploads")
    added(uploads)

    with pytest.raises(NotThereError):
        uploads.take("me", token, max_bytes=100)


@pytest.mark.parametrize("kind", ["link", "fifo", "device", "socket", "folder", "gone"])
def test_only_a_regular_file_is_read_and_nothing_is_waited_for(tmp_path: Path, kind: str) -> None:
    uploads = Uploads(tmp_path / "uploads")
    path = tmp_path / "uploads" / (token := added(uploads))
    path.unlink()
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    if kind == "link":
        path.symlink_to(secret)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listening:
            os.chdir(path.parent)  # because the address of a socket is short
            listening.bind(path.name)
            os.chdir("/")

    with pytest.raises(NotThereError):
        uploads.take("me", token, max_bytes=100)

    assert secret.read_bytes() == b"secret"
    assert files_in(tmp_path) == [secret]


def test_an_upload_that_is_too_long_is_removed_unread(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    token = added(uploads)

    with pytest.raises(NoRoomError, match="at most 4 bytes, got 5"):
        uploads.take("me", token, max_bytes=4)

    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("room", "visitor", "address", "fits"),
    [
        (Room(visitor_bytes=100), "me", "192.0.2.1", False),
        (Room(visitor_bytes=110), "me", "192.0.2.1", True),
        (Room(visitor_bytes=100), "another", "192.0.2.1", True),
        (Room(address_bytes=100), "another", "192.0.2.1", False),
        (Room(address_bytes=100), "another", "192.0.2.2", True),
        (Room(total_bytes=100), "another", "192.0.2.2", False),
        (Room(visitor_files=2), "me", "192.0.2.1", False),
        (Room(visitor_files=2), "another", "192.0.2.1", True),
        (Room(total_files=2), "another", "192.0.2.2", False),
    ],
)
def test_room_is_given_before_anything_is_written(
    tmp_path: Path, room: Room, visitor: str, address: str, fits: bool
) -> None:
    uploads = Uploads(tmp_path / "uploads", room=room)
    added(uploads, bytes(40))

    try:
        with (
            uploads.receiving("me", "192.0.2.1", size_bytes=60),
            uploads.receiving(visitor, address, size_bytes=10),
        ):
            did_fit = True
    except NoRoomError:
        did_fit = False

    assert did_fit is fits
    with Uploads(tmp_path).receiving("me", "192.0.2.1", size_bytes=60):
        pass  # room that was held is free again


def test_a_disk_that_is_almost_full_takes_nothing(tmp_path: Path) -> None:
    with pytest.raises(NoRoomError, match="almost full"):
        added(Uploads(tmp_path, room=Room(free_bytes=2**60)))

    assert files_in(tmp_path) == []


def test_uploads_that_nobody_takes_go_in_time(tmp_path: Path) -> None:
    clock = Clock()
    uploads = Uploads(tmp_path, keep_s=100, clock=clock)
    old = added(uploads)
    clock.now_s += 60
    young = added(uploads)

    clock.now_s += 40
    uploads.sweep()

    assert files_in(tmp_path) == [tmp_path / young]
    with pytest.raises(NotThereError):
        uploads.take("me", old, max_bytes=5)


@pytest.mark.parametrize("much", ["bytes", "files", "breaks off"])
def test_an_upload_that_is_not_what_it_said_leaves_nothing(tmp_path: Path, much: str) -> None:
    uploads = Uploads(tmp_path, room=Room(visitor_bytes=10))

    with (  # noqa: PT012
        pytest.raises(OSError if much == "breaks off" else MoreThanAnnouncedError),
        uploads.receiving("me", "192.0.2.1", size_bytes=10) as arriving,
    ):
        arriving.begin("a.jpg")
        arriving.write(bytes(8))
        if much == "bytes":
            arriving.write(bytes(3))
        elif much == "files":
            arriving.begin("b.jpg")
        raise OSError("the connection broke")

    assert list(tmp_path.iterdir()) == []
    with uploads.receiving("me", "192.0.2.1", size_bytes=10):
        pass


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("car.jpg", "car.jpg"),
        ("C:\\photos\\my car.JPG", "my car.JPG"),
        ("../../etc/passwd", "passwd"),
        ("a\0b\n.jpg", "ab.jpg"),
        ("", "photo"),
        ("..", "photo"),
        (".jpg", "jpg"),
        ("x" * 5000 + ".heic", "x" * 76 + ".heic"),
        ("\u5b57" * 300 + ".jpg", "\u5b57" * 77 + ".jpg"),
        ("a." + "b" * 300, "a." + "b" * 78),
        ('<b>"car".png', "bcar.png"),
    ],
)
def test_names_are_fit_for_any_file_system(given: str, name: str) -> None:
    assert safe_name(given) == name
    assert len(safe_name(given).encode()) <= 255
