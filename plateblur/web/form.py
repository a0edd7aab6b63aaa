"""A form with one photo, taken apart in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from fastapi import Request
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from plateblur.web.failures import Failure
from plateblur.web.spool import Spool

MAX_FIELDS = 16  # Twice the number of fields that exist.
MAX_FILES = 100  # One is taken; up to here, a request with more gets a message that says so.
MAX_FIELD_BYTES = 8 * 1024  # The longest is a URL.


class _InMemoryParser(MultiPartParser):
    """Starlette's parser, which never writes a photo to the disk here."""

    spool_max_size = 2**40


async def parse_form(request: Request, body: Spool, *, photo: str) -> tuple[dict[str, str], bytes]:
    """Return the fields of a form, and its one file.

    Args:
        request: with the form's headers.
        body: of it.
        photo: the name of the field with the file.

    Raises:
        Failure: 1014, no form, several files, or a field that is there twice.
    """

    async def pieces() -> AsyncGenerator[bytes, None]:
        for piece in body.pieces():
            yield piece
            await asyncio.sleep(0)  # Others have their turn meanwhile.

    try:
        parser = _InMemoryParser(
            request.headers,
            pieces(),
            max_files=MAX_FILES,
            max_fields=MAX_FIELDS,
            max_part_size=MAX_FIELD_BYTES,
        )
        form = await parser.parse()
    except (MultiPartException, FormParserError, LookupError, UnicodeDecodeError) as error:
        raise Failure("1014", "The form is not valid multipart/form-data.") from error
    fields: dict[str, str] = {}
    data = b""
    files = [name for name, value in form.multi_items() if isinstance(value, UploadFile)]
    try:
        if len(files) > 1:
            raise Failure(
                "1014",
                f"The form has {len(files)} files. Send one photo per request, in the field "
                f"{photo}.",
            )
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name != photo:
                    raise Failure("1014", f"The photo's form field must be named {photo}.")
                data = await value.read()
            elif name == photo or name in fields:
                raise Failure("1014", "A form field is there twice, or the photo is no file.")
            else:
                fields[name] = value
    finally:
        await form.close()
    return fields, data
