"""What a job is made of: the files of a form, the entries of a ZIP, or URLs, one after the other.

A form is read from the spool piece by piece, so that one file of it is in memory at a time.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Any

from pydantic import ValidationError
from python_multipart import FormParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, parse_options_header

from plateblur.accounts.job_types import NewItem
from plateblur.formats import SERVED, SERVED_NAMES, is_clip, sniff
from plateblur.web.body import parse_json_object
from plateblur.web.failures import Failure
from plateblur.web.job_schemas import CLIP_TYPE, JobOptions, JobRequest
from plateblur.web.spool import Spool

PHOTO_FIELDS = ("photo", "photos", "file", "files", "zip", "clip", "clips")
HEAD_BYTES = 512  # tell a clip
MAX_NAME_CHARS = 255
MAX_FIELDS = 32
MAX_FIELD_BYTES = 8 * 1024
ZIP_GROWTH = 2  # A ZIP of photos unpacks to about its own size.
ZIP_SLACK_BYTES = 8 * 1024**2  # Of what is no photo: unpacked in a moment.
MAX_ZIP_ENTRIES = 10_000  # Read as a list; a job has far fewer photos.
# Source: APPNOTE.TXT, 4.3.16 and 4.3.15: the end of a ZIP, and what stands before it in a ZIP64.
ZIP_END, ZIP_END_BYTES, ZIP64_LOCATOR, ZIP64_LOCATOR_BYTES = b"PK\5\6", 22, b"PK\6\7", 20
ZIP_START = b"PK\3\4"
ENCRYPTED = 1
SYSTEM_NAMES = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")

Add = Callable[[NewItem], None]


@dataclass(frozen=True, slots=True)
class MostBytes:
    """How large each may be.

    Attributes:
        photo: bytes.
        clip: bytes; 0 where clips aren't accepted.
    """

    photo: int
    clip: int = 0


@dataclass
class Received:
    """What a request said beside its photos."""

    options: JobOptions
    photos: int = 0


def receive_json(body: Spool, add: Add) -> Received:
    """Add the URLs in a JSON body.

    Raises:
        Failure: 1014.
    """
    asked = _validated(JobRequest, parse_json_object(body.read()), strict=True)
    for url in asked.photo_urls:
        add(NewItem(_name(url), url=url))
    options = JobOptions(**asked.model_dump(exclude={"photo_urls"}))
    return Received(options, len(asked.photo_urls))


def receive_form(body: Spool, content_type: str, add: Add, *, most: MostBytes) -> Received:
    """Add the photos and clips in a form, and those in its ZIPs.

    Args:
        body: of the request.
        content_type: with the form's boundary.
        add: keeps one photo.
        most: of one photo or clip.

    Raises:
        Failure: 1014, no form, an unknown field, or a file that is no photo, clip or ZIP.
    """
    _, parameters = parse_options_header(content_type)
    reader = _FormReader(add, most)
    try:
        parser = FormParser(
            "multipart/form-data",
            reader.on_field,
            reader.on_file,
            boundary=parameters.get(b"boundary", b""),
            config={
                "MAX_MEMORY_FILE_SIZE": float("inf"),  # Never a file of the parser's own.
                "MAX_FIELD_SIZE": MAX_FIELD_BYTES,
            },
        )
        for piece in body.pieces():
            parser.write(piece)
        parser.finalize()
    except (FormParserError, UnicodeDecodeError, ValueError) as error:
        raise Failure("1014", "The form is not valid multipart/form-data.") from error
    fields: dict[str, Any] = dict(reader.fields)
    options = _validated(JobOptions, fields, strict=False)
    return Received(options, reader.photos)


@dataclass
class _FormReader:
    add: Add
    most: MostBytes
    fields: dict[str, str] = field(default_factory=dict)
    photos: int = 0

    def on_field(self, one: Field) -> None:
        name, value = (one.field_name or b"").decode(), (one.value or b"").decode()
        if name == "photo_url":
            self._keep(NewItem(_name(value), url=value))
        elif name in self.fields or len(self.fields) >= MAX_FIELDS:
            raise Failure("1014", "A form field is there twice, or there are too many.")
        else:
            self.fields[name] = value

    def on_file(self, one: File) -> None:
        try:
            if (one.field_name or b"").decode() not in PHOTO_FIELDS:
                raise Failure(
                    "1014", "The form field of photos, clips and ZIPs must be named photo."
                )
            name = _name((one.file_name or b"").decode("utf-8", "replace"))
            file = one.file_object
            file.seek(0)
            head = file.read(len(ZIP_START))
            if head in (ZIP_START, ZIP_END):
                for item in zip_items(file, most=self.most):
                    self._keep(item)
                return
            file.seek(0)
            item = _item(name, file.read(), most=self.most)
            if item.error is not None:
                raise Failure(
                    "1014",
                    f"File {self.photos + 1} can't be used: {item.error}",
                    status=HTTPStatus.UNPROCESSABLE_ENTITY,
                )
            self._keep(item)
        finally:
            one.close()

    def _keep(self, item: NewItem) -> None:
        self.add(item)
        self.photos += 1


def zip_items(file: Any, *, most: MostBytes) -> Iterator[NewItem]:
    """Yield the entries of a ZIP; one that is no photo or clip has an error instead.

    Folders, and what systems put into ZIPs beside people's files, are no entries.

    Args:
        file: of the ZIP, seekable.
        most: of one photo or clip.

    Raises:
        Failure: 1014, no ZIP, or too many entries.
    """
    unpacked, most_unpacked = 0, ZIP_GROWTH * _refuse_many_entries(file) + ZIP_SLACK_BYTES
    try:
        with zipfile.ZipFile(file) as opened:
            for entry in opened.infolist():
                parts = PurePosixPath(entry.filename).parts
                if entry.is_dir() or not parts or any(name in parts for name in SYSTEM_NAMES):
                    continue
                unpacked += min(entry.file_size, max(most.photo, most.clip))
                if unpacked > most_unpacked:
                    raise Failure(
                        "1014",
                        "The ZIP unpacks to far more than its size. Photos don't.",
                        status=HTTPStatus.UNPROCESSABLE_ENTITY,
                    )
                yield _zip_item(opened, entry, most)
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
        raise Failure(
            "1014", "The ZIP is damaged.", status=HTTPStatus.UNPROCESSABLE_ENTITY
        ) from error


def _zip_item(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, most: MostBytes) -> NewItem:
    name = _name(entry.filename)
    if entry.flag_bits & ENCRYPTED:
        return NewItem(name, photo=b"", error="The entry is encrypted.")
    # Others may take far more memory to unpack.
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return NewItem(name, photo=b"", error="The entry must be stored or deflated.")
    try:
        with opened.open(entry) as unpacking:
            is_long_enough = entry.file_size <= most.photo or is_clip(unpacking.read(HEAD_BYTES))
        if not is_long_enough:
            return NewItem(name, photo=b"", error=_too_long("photo", most.photo))
        if entry.file_size > max(most.photo, most.clip):
            return NewItem(name, photo=b"", error=_too_long("clip", most.clip))
        data = opened.read(entry)  # Never more than the size that was checked.
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError):
        return NewItem(name, photo=b"", error="The entry is damaged.")
    except Exception as error:
        if type(error).__name__ != "error":  # zlib's has no other name.
            raise
        return NewItem(name, photo=b"", error="The entry is damaged.")
    return _item(name, data, most=most)


def _refuse_many_entries(file: Any) -> int:
    """Return the size of a ZIP; count its entries first, as `zipfile` makes an object of each."""
    refused = Failure("1014", "The ZIP is damaged.", status=HTTPStatus.UNPROCESSABLE_ENTITY)
    file.seek(0, io.SEEK_END)
    size = file.tell()
    file.seek(max(0, size - ZIP_END_BYTES - 65_535 - ZIP64_LOCATOR_BYTES))
    tail = file.read()
    file.seek(0)
    at = len(tail) - ZIP_END_BYTES
    if at < 0:
        raise refused
    if not (tail[at:].startswith(ZIP_END) and tail.endswith(b"\0\0")):
        at = tail.rfind(ZIP_END)
    if at < 0 or at + ZIP_END_BYTES > len(tail):
        raise refused
    entries, directory_bytes = struct.unpack_from("<HL", tail, at + 10)
    if tail[max(0, at - ZIP64_LOCATOR_BYTES) : at].startswith(ZIP64_LOCATOR):
        raise Failure("1014", "ZIP64 is not supported.", status=HTTPStatus.UNPROCESSABLE_ENTITY)
    # An entry of the directory has at least 46 bytes, whatever number the end tells.
    if entries > MAX_ZIP_ENTRIES or directory_bytes > MAX_ZIP_ENTRIES * 512:
        raise Failure(
            "1014",
            f"The ZIP has more than {MAX_ZIP_ENTRIES} entries.",
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
        )
    return int(size)


def _item(name: str, data: bytes, *, most: MostBytes) -> NewItem:
    """Return the photo or clip in `data`; one that can't be used has an error instead."""
    if most.clip and is_clip(data):
        if len(data) > most.clip:
            return NewItem(name, photo=b"", error=_too_long("clip", most.clip))
        return NewItem(name, photo=data, media_type=CLIP_TYPE)
    if len(data) > most.photo:
        return NewItem(name, photo=b"", error=_too_long("photo", most.photo))
    format_ = sniff(data)
    if format_ is None or format_.name not in SERVED:
        clip = " or a clip" if most.clip else ""
        return NewItem(name, photo=b"", error=f"the bytes are no {SERVED_NAMES} photo{clip}.")
    return NewItem(name, photo=data)


def _too_long(what: str, most_bytes: int) -> str:
    return f"a {what} may have {most_bytes // 1024**2} MB."


def _name(text: str) -> str:
    """Return the last part of a path or URL, without characters that can't be shown."""
    last = text.replace("\\", "/").rstrip("/").rpartition("/")[2] if "://" not in text else text
    return "".join(one for one in last if one.isprintable())[:MAX_NAME_CHARS]


def _validated(model: Any, fields: dict[str, Any], *, strict: bool) -> Any:
    try:
        if strict:
            return model.model_validate(fields, strict=True)
        return model.model_validate_strings(fields)
    except ValidationError as error:
        # Only names of our own fields and pydantic's messages; nothing that was sent.
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        known = [one for one in faults if one["loc"] and one["loc"][0] in model.model_fields]
        causes = [f"{one['loc'][0]}: {one['msg']}." for one in known[:10]]
        unknown = len({one["loc"][0] for one in faults} - {one["loc"][0] for one in known})
        causes += [f"{unknown} unknown field{'s' * (unknown > 1)}."] if unknown else []
        raise Failure("1014", " ".join(causes), status=HTTPStatus.UNPROCESSABLE_ENTITY) from error
