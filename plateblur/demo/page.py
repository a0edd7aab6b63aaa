"""What happens when a person does something on the demo's page: a method for each."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlsplit

import gradio as gr

from plateblur.demo import api, camera
from plateblur.demo.clips import (
    ClipEndedError,
    Clips,
    blur_dropped_clip,
    explain_clip,
    told_done,
    told_failure,
)
from plateblur.demo.photos import (
    Limits,
    add_plate,
    blur_dropped,
    blurred_name,
    explain,
    failed_photo,
    open_photo,
    remove_plate,
    search_again,
    uncorrect,
    view_of,
)
from plateblur.demo.review import Review
from plateblur.demo.sketches import picture_sketch
from plateblur.demo.visits import DroppedPhoto, Visit, Visits, take_upload
from plateblur.errors import PlateblurError
from plateblur.guidance import GUIDANCE_RATIO, advice
from plateblur.pipeline import DEFAULTS
from plateblur.types import BlurOptions, Detector, Effort, MetadataPolicy, Method
from plateblur.web.fetcher import FetchError, PhotoFetcher

PROGRESS = gr.Progress()
LIMITS = Limits()
NO_URL = "NO"  # Source: the documented page; no URL is given.
NOTHING_SENT = '"Drop a photo on the Blur tab, and see here what is sent."'
FORGOTTEN = "There is no blurred photo here, or it is no longer held. Please drop it again."


@dataclass(frozen=True, slots=True)
class Page:
    """The parts that the page's answers need.

    Every method but `leave` answers an event of the page. The values of the controls come last, as
    `settings`; what Gradio puts in by its type comes first.

    Attributes:
        detector: what finds the plates.
        visits: what each open page holds.
        fetcher: what gets a photo whose URL is given.
        limits: what is taken.
        examples: drawn scenes that a person may try.
        card: of the model, if it has one.
        clips: those in work.
        review: where corrected photos are kept for retraining; None where they are not.
        endpoint: address that requests are shown with.
    """

    detector: Detector
    visits: Visits
    fetcher: PhotoFetcher
    limits: Limits = LIMITS
    examples: tuple[Path, ...] = ()
    card: Mapping[str, Any] | None = None
    clips: Clips = field(default_factory=Clips)
    review: Review | None = None
    endpoint: str = api.ENDPOINT

    def take(
        self,
        request: gr.Request,
        progress: gr.Progress = PROGRESS,
        uploads: list[str] | None = None,
        *settings: Any,
    ) -> list[Any]:
        """Find the plates of photos that were dropped, remove them from disk, show the first."""
        paths = [Path(upload) for upload in uploads or []]
        taken: list[DroppedPhoto] = []
        for number, path in enumerate(paths):
            progress((number, len(paths)), desc=f"Photo {number + 1} of {len(paths)}", unit="")
            if number < self.limits.photos:
                taken.append(self._open(path))
            else:
                path.unlink(missing_ok=True)
        if len(paths) > self.limits.photos:
            gr.Warning(f"Only the first {self.limits.photos} of {len(paths)} photos were taken.")
        visit = Visit(tuple(taken))
        options = options_of(*settings)
        return [None, NO_URL, *self._show(request, visit, options)]

    def take_url(
        self,
        request: gr.Request,
        url: str,
        *settings: Any,
    ) -> list[Any]:
        """Show the photo behind a URL; nothing happens where it is "NO"."""
        url = url.strip()
        options = options_of(*settings)
        if url.upper() in ("", NO_URL):
            return self._show(request, self.visits.get(session_of(request)), options)
        name = PurePath(urlsplit(url).path).name or "photo"
        try:
            data = asyncio.run(self.fetcher.fetch(url))
        except FetchError as error:
            photo = failed_photo(name, str(error))
        else:
            photo = replace(open_photo(name, data, self.detector, self.limits), url=url)
        return self._show(request, Visit((photo,)), options)

    def take_example(
        self,
        request: gr.Request,
        event: gr.EventData,
        *settings: Any,
    ) -> list[Any]:
        """Show the drawn scene that was picked, as if it had been dropped."""
        path = self.examples[int(event._data["number"])]
        photo = open_photo(path.name, path.read_bytes(), self.detector, self.limits)
        options = options_of(*settings)
        return self._show(request, Visit((photo,)), options)

    def blur_again(
        self,
        request: gr.Request,
        *settings: Any,
    ) -> list[Any]:
        """Blur the photo on show with other settings."""
        options = options_of(*settings)
        return self._show(request, self.visits.get(session_of(request)), options)

    def pick(
        self,
        request: gr.Request,
        number: int | None,
        *settings: Any,
    ) -> list[Any]:
        """Show another of the photos that were dropped."""
        visit = self.visits.get(session_of(request))
        if number is not None and 0 <= number < len(visit.photos):
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
        xyxy = event._data["xyxy"]
        options = options_of(*settings)
        return self._correct(request, options, lambda photo: add_plate(photo, xyxy))

    def remove_plate(
        self,
        request: gr.Request,
        event: gr.EventData,
        *settings: Any,
    ) -> list[Any]:
        """Show again what a person says is no plate."""
        xyxy = event._data["xyxy"]
        options = options_of(*settings)
        return self._correct(request, options, lambda photo: remove_plate(photo, xyxy))

    def uncorrect(
        self,
        request: gr.Request,
        *settings: Any,
    ) -> list[Any]:
        """Go back to the plates that the detector found."""
        options = options_of(*settings)
        return self._correct(request, options, uncorrect)

    def zip_all(
        self,
        request: gr.Request,
        progress: gr.Progress = PROGRESS,
        *settings: Any,
    ) -> Any:
        """Blur all photos as corrected, and offer them as one zip."""
        session = session_of(request)
        photos = self.visits.get(session).photos
        if not photos:
            raise gr.Error(FORGOTTEN, print_exception=False)
        options = options_of(*settings)
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
                    photo = self._searched(dropped, options)
                    blurred = blur_dropped(photo, options, self.limits)
                except PlateblurError as error:
                    failures.append(f"{dropped.name}: {explain(error, self.limits)}")
                    continue
                name = unused_name(blurred_name(photo.name, blurred), names)
                archive.writestr(name, blurred.data)
            if failures:
                archive.writestr("NOT-BLURRED.txt", "\n".join(failures) + "\n")
        if failures:
            gr.Warning(f"{len(failures)} of {len(photos)} could not be blurred and are left out.")
        return gr.update(value=str(path), visible=True)

    def keep(self, request: gr.Request, agreed: bool, *settings: Any) -> Any:
        """Save the photo on show for retraining if its sender agreed, and ask anew for the next."""
        photo = self._sent(request)
        if self.review is None or not agreed:
            raise gr.Error("Please tick that you agree first.", print_exception=False)
        if photo is None:
            raise gr.Error(FORGOTTEN, print_exception=False)
        try:
            name = self.review.save(
                photo, min_confidence=options_of(*settings).min_confidence, now=datetime.now(UTC)
            )
        except (PlateblurError, OSError) as error:
            raise gr.Error("The photo could not be saved.", print_exception=False) from error
        gr.Info(f"Saved as {name}. To have it removed, tell whoever runs this page that name.")
        return False

    def take_clip(
        self,
        request: gr.Request,
        progress: gr.Progress = PROGRESS,
        upload: str | None = None,
        method: Method = "veil",
        margin: float = 0.0,
        min_confidence: float = 1.0,
    ) -> list[Any]:
        """Remove a clip that was dropped from disk, blur it, and offer what became of it."""
        session = session_of(request)
        self.visits.drop_file(session, "clip")
        nothing = [gr.update(value=None, visible=False), gr.update(value=None, visible=False)]
        path = Path(upload or "")
        options = BlurOptions(method=method, margin=margin, min_confidence=min_confidence)
        try:
            data = take_upload(path)
        except OSError:
            return [
                None,
                told_failure("The clip did not arrive whole. Please drop it again."),
                *nothing,
            ]
        if len(data) > self.limits.clip_bytes:
            most = self.limits.clip_bytes / 1024**2
            return [None, told_failure(f"This clip is larger than {most:.0f} MB."), *nothing]

        def told(share: float) -> None:
            progress(share, desc="Blurring the clip")

        with self.clips.working(session) as ended:
            try:
                blurred, done = blur_dropped_clip(
                    data, self.detector, options, ended=ended, progress=told
                )
            except ClipEndedError:
                return [None, told_failure("Cancelled. Nothing of the clip is kept."), *nothing]
            except PlateblurError as error:
                return [None, told_failure(explain_clip(error)), *nothing]
        target = self.visits.new_path(session, "clip", f"{path.stem or 'clip'}-blurred.mp4")
        target.write_bytes(blurred)
        label = f"Download {target.name} ({size_text(len(blurred))})"
        return [
            None,
            told_done(done),
            gr.update(value=str(target), visible=True),
            gr.update(label=label, value=str(target), visible=True),
        ]

    def end_clip(self, request: gr.Request) -> None:
        """End the work on a clip."""
        self.clips.end(session_of(request))

    def api_texts(self, crops: str, request: gr.Request) -> list[str]:
        """Return the documented request and response for the photo on show, to be read."""
        photo = self._sent(request)
        if photo is None:
            return [NOTHING_SENT, NOTHING_SENT]
        answer = self._answer(photo, crops=crops == "YES")
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
        return self._answer(photo, crops=crops == "YES").decode()

    def leave(self, request: gr.Request) -> None:
        """Let what the page held be forgotten soon."""
        self.clips.end(session_of(request))
        self.visits.leave(session_of(request))

    def _sent(self, request: gr.Request) -> DroppedPhoto | None:
        photo = self.visits.get(session_of(request)).photo
        return None if photo is None or photo.failure else photo

    def _answer(self, photo: DroppedPhoto, *, crops: bool) -> bytes:
        return api.response_body(photo, crops=crops, created=datetime.now(UTC), limits=self.limits)

    def _open(self, path: Path) -> DroppedPhoto:
        try:
            data = take_upload(path)
        except OSError:
            return failed_photo(path.name, "The upload did not arrive whole. Please drop it again.")
        return open_photo(path.name, data, self.detector, self.limits)

    def _correct(
        self,
        request: gr.Request,
        options: BlurOptions,
        correction: Callable[[DroppedPhoto], DroppedPhoto],
    ) -> list[Any]:
        visit = self.visits.get(session_of(request))
        if visit.photo is not None:
            photos = list(visit.photos)
            photos[visit.shown] = correction(visit.photo)
            visit = replace(visit, photos=tuple(photos))
        return self._show(request, visit, options)

    def _searched(self, photo: DroppedPhoto, options: BlurOptions) -> DroppedPhoto:
        return search_again(photo, self.detector, self.limits, effort=options.effort)

    def _show(self, request: gr.Request, visit: Visit, options: BlurOptions) -> list[Any]:
        """Hold `visit`, and return what the viewer, picker and download buttons are to be."""
        session = session_of(request)
        self.visits.put(session, visit)
        self.visits.drop_file(session, "zip")
        photo = visit.photo
        several = len(visit.photos) > 1
        download = gr.update(value=None, visible=False)
        if photo is None:
            view: dict[str, Any] | None = None
        elif photo.failure:
            view = {"name": photo.name, "failure": photo.failure}
            self.visits.drop_file(session, "photo")
        else:
            try:
                photo = self._searched(photo, options)
                blurred = blur_dropped(photo, options, self.limits)
            except PlateblurError as error:
                view = {"name": photo.name, "failure": explain(error, self.limits)}
                self.visits.drop_file(session, "photo")
            else:
                photos = (*visit.photos[: visit.shown], photo, *visit.photos[visit.shown + 1 :])
                self.visits.put(session, replace(visit, photos=photos))
                view = view_of(photo, blurred, self.limits)
                name = blurred_name(photo.name, blurred)
                path = self.visits.new_path(session, "photo", name)
                path.write_bytes(blurred.data)
                download = gr.update(
                    label=f"Download {name} ({size_text(len(blurred.data))})",
                    value=str(path),
                    visible=True,
                )
        choices = [
            (f"{number + 1}. {each.name}" + (" (not blurred)" if each.failure else ""), number)
            for number, each in enumerate(visit.photos)
        ]
        picker = gr.update(choices=choices, value=visit.shown if photo else None, visible=several)
        zipper = gr.update(value=f"Make a zip of all {len(choices)}", visible=several)
        return [view, picker, download, zipper, gr.update(value=None, visible=False)]


def options_of(
    method: Method,
    margin: float,
    min_confidence: float,
    draw_boxes: bool,
    metadata: MetadataPolicy,
    effort: Effort = DEFAULTS.effort,
) -> BlurOptions:
    """Return the controls' values as what the blur takes."""
    return BlurOptions(
        method=method,
        margin=margin,
        min_confidence=min_confidence,
        draw_boxes=draw_boxes,
        metadata=metadata,
        effort=effort,
    )


def camera_answer(
    plate: str, sensor: str, focal_mm: float, distance_m: float, tilt_deg: float, height_px: int
) -> str:
    """Return HTML that says how large a plate is in the picture, and up to where it is enough.

    Args:
        plate: one of `camera.PLATES_MM`.
        sensor: one of `camera.SENSORS_MM`.
        focal_mm: focal length.
        distance_m: from the lens to the plate.
        tilt_deg: how far the camera looks down on the plate.
        height_px: height of the picture.
    """
    lens = {
        "plate_mm": camera.PLATES_MM[plate],
        "sensor_mm": camera.SENSORS_MM[sensor],
        "focal_mm": focal_mm,
        "tilt_deg": tilt_deg,
    }
    share = camera.plate_share(distance_m=distance_m, **lens)
    farthest_m = camera.farthest_m(GUIDANCE_RATIO, **lens)
    return (
        f"<p>The plate is <strong>{share * height_px:.0f} px</strong> of {height_px} high: "
        f"<strong>{advice(share)}</strong>. With this lens 1:15 reaches to "
        f"<strong>{farthest_m:.1f} m</strong>.</p>{picture_sketch(share, GUIDANCE_RATIO)}"
    )


def session_of(request: gr.Request) -> str:
    """Return what tells open pages apart."""
    return request.session_hash or ""


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
