"""What happens on the demo's page: a method for each event."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from urllib.parse import urlsplit

import gradio as gr

from plateblur.bounded import Workers
from plateblur.demo import api
from plateblur.demo.clips import blur_dropped_clip, done_html, explain_clip, failure_html
from plateblur.demo.events import event_value, options_of, session_of
from plateblur.demo.jobs import Jobs
from plateblur.demo.photos import (
    EXAMPLES,
    Limits,
    Opening,
    add_plate,
    blur_and_view,
    blur_dropped,
    blurred_name,
    data_url,
    explain,
    failed_photo,
    film_of,
    open_example,
    open_photo,
    remove_plate,
    search_again,
    uncorrect,
)
from plateblur.demo.review import Review, example_of
from plateblur.demo.uploads import NoRoomError, NotThereError, safe_name
from plateblur.demo.visits import DroppedPhoto, Visit, Visits, visitor_of
from plateblur.errors import PhotoTooLargeError, PlateblurError, WorkEndedError
from plateblur.types import BlurOptions, Method
from plateblur.web.fetcher import FetchError, PhotoFetcher

PROGRESS = gr.Progress()
LIMITS = Limits()
EXAMPLE_CLIP = EXAMPLES / "street.mp4"  # drawn by `docs.draw_pictures`
NOTHING_SENT = '"Drop a photo on the Blur tab to see the request here."'
FORGOTTEN = "There is no photo, or it has expired. Please drop it again."

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """The parts that the page's answers need.

    Every method but `leave` answers an event of the page. The values of the controls come last, as
    `settings`; what Gradio puts in by its type comes first. They can be anything, because events
    can be sent without the page.

    Attributes:
        workers: what decodes photos and finds their plates.
        clip_workers: the same for clips, which take longer.
        visits: what each open page holds.
        fetcher: what gets a photo whose URL is given.
        limits: what is accepted.
        examples: drawn scenes that a person may try.
        opening: the scene that the page opens with, if any.
        card: of the model, if it has one.
        jobs: those in work.
        review: where corrected photos are stored for retraining; None if they are not.
        endpoint: URL that requests are shown with.
        source_url: where the operator offers the source code; "" for the running code itself.
        live_workers: what blurs the frames of the live view; None for `workers`.
    """

    workers: Workers
    clip_workers: Workers
    visits: Visits
    fetcher: PhotoFetcher
    limits: Limits = LIMITS
    examples: tuple[Path, ...] = ()
    opening: Opening | None = None
    card: Mapping[str, Any] | None = None
    jobs: Jobs = field(default_factory=Jobs)
    review: Review | None = None
    endpoint: str = api.ENDPOINT
    source_url: str = ""
    live_workers: Workers | None = None

    def take(
        self,
        request: gr.Request,
        progress: gr.Progress = PROGRESS,
        uploads: list[str] | None = None,
        *settings: Any,
    ) -> list[Any]:
        """Find the plates of photos that were dropped, remove them from disk, show the first.

        `uploads` are tokens of `Uploads`.
        """
        options = options_of(*settings)
        tokens = list(uploads or [])
        taken: list[DroppedPhoto] = []
        for number, token in enumerate(tokens):
            progress((number, len(tokens)), desc=f"Photo {number + 1} of {len(tokens)}", unit="")
            if number < self.limits.photos:
                taken.append(self._open(request, token))
            else:
                self.visits.uploads.drop(visitor_of(session_of(request)), token)
        if len(tokens) > self.limits.photos:
            gr.Warning(f"Only the first {self.limits.photos} of {len(tokens)} photos were used.")
        visit = Visit(tuple(taken))
        return [None, "", *self._show(request, visit, options)]

    def take_url(
        self,
        request: gr.Request,
        url: str,
        *settings: Any,
    ) -> list[Any]:
        """Show the photo behind a URL; nothing happens without one."""
        url = url.strip()
        options = options_of(*settings)
        if not url:
            return self._show(request, self._visit(request), options)
        try:
            name = safe_name(urlsplit(url).path)
            data = asyncio.run(self.fetcher.fetch(url))
        except ValueError:  # from urllib, for an invalid host in brackets
            photo = failed_photo("photo", "This is not a valid URL.")
        except FetchError as error:
            photo = failed_photo(name, str(error))
        else:
            photo = replace(self._opened(request, name, data), url=url)
        return self._show(request, Visit((photo,)), options)

    def take_example(
        self,
        request: gr.Request,
        event: gr.EventData,
        *settings: Any,
    ) -> list[Any]:
        """Show the drawn scene that was picked, like a dropped photo."""
        options = options_of(*settings)
        number = event_value(event, "number")
        if type(number) is not int or not 0 <= number < len(self.examples):
            raise gr.Error("Scene not found.", print_exception=False)
        path = self.examples[number]
        try:
            photo = self._do(request, open_example, path, self.limits)
        except (PlateblurError, OSError) as error:
            raise gr.Error("This scene can't be shown.", print_exception=False) from error
        return self._show(request, Visit((photo,)), options)

    def blur_again(
        self,
        request: gr.Request,
        *settings: Any,
    ) -> list[Any]:
        """Blur the photo on show with other settings."""
        options = options_of(*settings)
        return self._show(request, self._visit(request), options)

    def pick(
        self,
        request: gr.Request,
        event: gr.EventData,
        *settings: Any,
    ) -> list[Any]:
        """Show another of the photos that were dropped."""
        number = event_value(event, "number")
        visit = self.visits.get(session_of(request))
        if type(number) is int and 0 <= number < len(visit.photos):
            visit = replace(visit, shown=number)
        options = options_of(*settings)
        return self._show(request, visit, options)

    def add_plate(
        self,
        request: gr.Request,
        event: gr.EventData,
        *settings: Any,
    ) -> list[Any]:
        """Hide one more plate, which a person drew a box around."""
        xyxy = event_value(event, "xyxy")
        options = options_of(*settings)
        return self._correct(request, event, options, lambda photo: add_plate(photo, xyxy))

    def remove_plate(
        self,
        request: gr.Request,
        event: gr.EventData,
        *settings: Any,
    ) -> list[Any]:
        """Show again what a person says is no plate."""
        xyxy = event_value(event, "xyxy")
        options = options_of(*settings)
        return self._correct(request, event, options, lambda photo: remove_plate(photo, xyxy))

    def uncorrect(
        self,
        request: gr.Request,
        event: gr.EventData,
        *settings: Any,
    ) -> list[Any]:
        """Go back to the plates that the detector found."""
        options = options_of(*settings)
        return self._correct(request, event, options, uncorrect)

    def zip_all(
        self,
        request: gr.Request,
        progress: gr.Progress = PROGRESS,
        *settings: Any,
    ) -> str:
        """Blur all photos as corrected, and return the path of a zip with them."""
        session = session_of(request)
        options = options_of(*settings)
        photos = self.visits.get(session).photos
        if not photos:
            raise gr.Error(FORGOTTEN, print_exception=False)
        path = self.visits.new_path(session, "zip", "blurred-photos.zip")
        failures: list[str] = []
        names: set[str] = set()
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for number, dropped in enumerate(photos):
                progress((number, len(photos)), desc=f"Photo {number + 1} of {len(photos)}")
                try:
                    if dropped.failure:
                        failures.append(f"{dropped.name}: {dropped.failure}")
                        continue
                    photo = self._searched(request, dropped, options)
                    blurred = self._do(request, blur_dropped, photo, options, self.limits)
                except PlateblurError as error:
                    failures.append(f"{dropped.name}: {explain(error, self.limits)}")
                    continue
                name = unused_name(blurred_name(photo.name, blurred), names)
                archive.writestr(name, blurred.data)
            if failures:
                archive.writestr("NOT-BLURRED.txt", "\n".join(failures) + "\n")
        if failures:
            left_out = f"{len(failures)} of {len(photos)} photos could not be blurred"
            gr.Warning(f"{left_out} and are not in the zip file.")
        return str(path)

    def keep(self, request: gr.Request, agreed: bool, *settings: Any) -> Any:
        """Save the photo on show for retraining if its sender agreed, and clear the tick box."""
        photo = self._sent(request)
        min_confidence = options_of(*settings).min_confidence
        if self.review is None or agreed is not True:
            raise gr.Error("Please tick the box to agree first.", print_exception=False)
        if photo is None:
            raise gr.Error(FORGOTTEN, print_exception=False)
        if photo.is_example:
            drawn = "This scene is drawn. Drop a photo of your own to help."
            raise gr.Error(drawn, print_exception=False)
        try:
            example = self._do(request, example_of, photo, min_confidence)
            visitor = visitor_of(session_of(request))
            self.review.save(example, visitor=visitor, now=datetime.now(UTC))
        except (PlateblurError, OSError) as error:
            raise gr.Error("The photo could not be saved.", print_exception=False) from error
        gr.Info(f"Saved as {example.name}. To have it removed, contact us with this name.")
        return False

    def take_clip(
        self,
        request: gr.Request,
        progress: gr.Progress = PROGRESS,
        upload: list[str] | None = None,
        method: Method = "veil",
        margin: float = 0.0,
        min_confidence: float = 1.0,
    ) -> list[Any]:
        """Remove a clip that was dropped from disk, blur it, and offer what became of it.

        `upload` is a list of one token of `Uploads`.
        """
        options = options_of(method, margin, min_confidence, False, "strip")
        visitor = visitor_of(session_of(request))
        token = upload[0] if upload else ""
        try:
            data = self.visits.uploads.take(visitor, token, max_bytes=self.limits.clip_bytes)
        except NotThereError:
            incomplete = "The upload was incomplete. Please drop the clip again."
            return [None, *self._no_clip(request, incomplete)]
        except NoRoomError:
            most = self.limits.clip_bytes / 1024**2
            return [None, *self._no_clip(request, f"This clip is larger than {most:.0f} MB.")]
        name = PurePath(token).stem or "clip"
        return [None, *self._blur_clip(request, progress, name, data, options)]

    def take_example_clip(
        self,
        request: gr.Request,
        progress: gr.Progress = PROGRESS,
        method: Method = "veil",
        margin: float = 0.0,
        min_confidence: float = 1.0,
    ) -> list[Any]:
        """Blur the drawn clip that comes with the page, like a dropped one."""
        options = options_of(method, margin, min_confidence, False, "strip")
        data = EXAMPLE_CLIP.read_bytes()
        outcome, view, download = self._blur_clip(
            request, progress, EXAMPLE_CLIP.stem, data, options
        )
        if view is not None:
            view["before"] = data_url(data, "video/mp4")  # of a dropped one the browser has it
        return [outcome, view, download]

    def _no_clip(self, request: gr.Request, reason: str) -> list[Any]:
        """Return what the page shows where a clip was not blurred, in place of an earlier one."""
        self.visits.drop_file(session_of(request), "clip")
        return [failure_html(reason), None, gr.update(value=None, visible=False)]

    def _blur_clip(
        self,
        request: gr.Request,
        progress: gr.Progress,
        name: str,
        data: bytes,
        options: BlurOptions,
    ) -> list[Any]:
        """Blur a clip; return what came of it, what the page plays, and the download."""
        session = session_of(request)
        self.visits.drop_file(session, "clip")

        def show_share(share: float) -> None:
            progress(share, desc="Blurring the clip")

        self.jobs.end(session, "clip")
        with (
            self.jobs.working(session, "clip") as ended,
            # Created here, because a worker that is ended leaves its files behind.
            TemporaryDirectory(prefix="clip-", dir=self.visits.folder.parent) as work,
        ):
            try:
                blurred, done = self.clip_workers.do(
                    blur_dropped_clip, data, options, Path(work), ended=ended, progress=show_share
                )
            except WorkEndedError:
                return self._no_clip(request, "Cancelled. The clip has been deleted.")
            except PlateblurError as error:
                return self._no_clip(request, explain_clip(error))
        target = self.visits.new_path(session, "clip", f"{name}-blurred.mp4")
        target.write_bytes(blurred)
        label = f"Download {target.name} ({size_text(len(blurred))})"
        return [
            done_html(done),
            {"after": str(target)},
            gr.update(label=label, value=str(target), visible=True),
        ]

    def end_clip(self, request: gr.Request) -> None:
        """End the work on a clip."""
        self.jobs.end(session_of(request), "clip")

    def api_texts(self, crops: str, request: gr.Request) -> list[str]:
        """Return the documented request and response for the photo on show, to be read."""
        photo = self._sent(request)
        if photo is None:
            return [NOTHING_SENT, NOTHING_SENT]
        answer = self._answer(request, photo, crops=crops == "YES")
        asked = api.request_body(photo, crops=crops == "YES")
        return [api.on_screen(asked), api.on_screen(answer)]

    def snippets(self, crops: str, endpoint: str) -> list[str]:
        """Return code that sends a photo, in each language."""
        return [
            api.snippet(language, endpoint=endpoint, crops=crops == "YES")
            for _, language, _ in api.LANGUAGES
        ]

    def whole_request(self, crops: str, request: gr.Request) -> str:
        """Return the documented request for the photo on show, to be copied."""
        photo = self._sent(request)
        if photo is None:
            raise gr.Error(FORGOTTEN, print_exception=False)
        return api.request_body(photo, crops=crops == "YES").decode()

    def whole_response(self, crops: str, request: gr.Request) -> str:
        """Return the documented response for the photo on show, to be copied."""
        photo = self._sent(request)
        if photo is None:
            raise gr.Error(FORGOTTEN, print_exception=False)
        return self._answer(request, photo, crops=crops == "YES").decode()

    def leave(self, request: gr.Request) -> None:
        """Let what the page held be forgotten soon."""
        self.jobs.end(session_of(request))
        self.visits.leave(session_of(request))

    def close(self) -> None:
        """End all work; nothing is blurred any more."""
        self.workers.close()
        self.clip_workers.close()
        if self.live_workers is not None:
            self.live_workers.close()

    def _sent(self, request: gr.Request) -> DroppedPhoto | None:
        photo = self.visits.get(session_of(request)).photo
        return None if photo is None or photo.failure else photo

    def _answer(self, request: gr.Request, photo: DroppedPhoto, *, crops: bool) -> bytes:
        now = datetime.now(UTC)
        try:
            return self._do(request, api.response_body, photo, crops, now, self.limits)
        except PlateblurError:
            return api.failure_body("2001")

    def _open(self, request: gr.Request, token: str) -> DroppedPhoto:
        name = PurePath(token).name
        try:
            data = self.visits.uploads.take(
                visitor_of(session_of(request)), token, max_bytes=self.limits.photo_bytes
            )
        except NotThereError:
            return failed_photo(name, "The upload was incomplete. Please drop it again.")
        except NoRoomError as error:
            too_large = PhotoTooLargeError(str(error))
            return failed_photo(name, explain(too_large, self.limits))
        return self._opened(request, name, data)

    def _opened(self, request: gr.Request, name: str, data: bytes) -> DroppedPhoto:
        try:
            return self._do(request, open_photo, name, data, self.limits)
        except PlateblurError as error:
            return failed_photo(name, explain(error, self.limits))

    def _do(self, request: gr.Request, job: Callable[..., T], *arguments: object) -> T:
        """Return what a job on a photo returns; it ends with its page.

        Raises:
            PlateblurError: as of the job, or see `Workers.do`.
        """
        with self.jobs.working(session_of(request), "photo") as ended:
            return self.workers.do(job, *arguments, ended=ended)

    def _visit(self, request: gr.Request) -> Visit:
        """Return what the page of a request shows: at first the opening scene."""
        visit = self.visits.get(session_of(request))
        if visit.photo is None and self.opening is not None:
            return Visit((self.opening.photo,))
        return visit

    def _correct(
        self,
        request: gr.Request,
        event: gr.EventData,
        options: BlurOptions,
        correction: Callable[[DroppedPhoto], DroppedPhoto],
    ) -> list[Any]:
        visit = self._visit(request)
        if visit.photo is not None:
            if (
                event_value(event, "name") != visit.photo.name
            ):  # the photo on the screen was forgotten
                raise gr.Error(FORGOTTEN, print_exception=False)
            photos = list(visit.photos)
            try:
                photos[visit.shown] = correction(visit.photo)
            except ValueError as error:
                raise gr.Error(f"{error}.".capitalize(), print_exception=False) from error
            visit = replace(visit, photos=tuple(photos))
        return self._show(request, visit, options)

    def _searched(
        self, request: gr.Request, photo: DroppedPhoto, options: BlurOptions
    ) -> DroppedPhoto:
        """Return the photo with its plates looked for as hard as `options` say."""
        if photo.failure or photo.effort == options.effort:
            return photo
        return self._do(request, search_again, photo, options.effort, self.limits)

    def _show(self, request: gr.Request, visit: Visit, options: BlurOptions) -> list[Any]:
        """Store `visit`, and return the new state of viewer, filmstrip and download buttons."""
        session = session_of(request)
        self.visits.put(session, visit)
        self.visits.drop_file(session, "zip")
        photo = visit.photo
        download = gr.update(value=None, visible=False)
        if photo is None:
            view: dict[str, Any] | None = None
        elif photo.failure:
            view = {"name": photo.name, "failure": photo.failure}
            self.visits.drop_file(session, "photo")
        else:
            try:
                photo = self._searched(request, photo, options)
                blurred, view = self._do(request, blur_and_view, photo, options, self.limits)
            except PlateblurError as error:
                view = {"name": photo.name, "failure": explain(error, self.limits)}
                self.visits.drop_file(session, "photo")
            else:
                photos = (*visit.photos[: visit.shown], photo, *visit.photos[visit.shown + 1 :])
                visit = replace(visit, photos=photos)
                self.visits.put(session, visit)
                name = blurred_name(photo.name, blurred)
                path = self.visits.new_path(session, "photo", name)
                path.write_bytes(blurred.data)
                download = gr.update(
                    label=f"Download {name} ({size_text(len(blurred.data))})",
                    value=str(path),
                    visible=True,
                )
        film = film_of(visit, min_confidence=options.min_confidence)
        zipper = gr.update(
            value=f"Download all {len(visit.photos)} as a zip", visible=film is not None
        )
        return [view, film, download, zipper]


def size_text(size_bytes: int) -> str:
    """Return a size for people: "0.8 MB"."""
    if size_bytes < 100_000:
        return f"{size_bytes / 1000:.0f} kB"
    return f"{size_bytes / 1e6:.1f} MB"


def unused_name(name: str, used: set[str]) -> str:
    """Return `name`, with a number if it is in `used` already, and add it there."""
    path = PurePath(name)
    number = 1
    while name.lower() in used:
        number += 1
        name = f"{path.stem}-{number}{path.suffix}"
    used.add(name.lower())
    return name
