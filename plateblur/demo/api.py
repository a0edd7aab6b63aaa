"""The documented endpoint's request and response for the photo on show."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any, Literal

import orjson

from plateblur.demo.photos import Limits, blur_dropped
from plateblur.demo.visits import DroppedPhoto
from plateblur.errors import PlateblurError
from plateblur.types import BlurOptions, Detector
from plateblur.web.body import MAX_BODY_BYTES
from plateblur.web.failures import DOCUMENTED_PATH, SENTENCES
from plateblur.web.schemas import RETURNED_ABOVE, documented_answer
from plateblur.web.settings import LOCAL_URL

SHOWN_CHARS = 24  # of a long base64 string, at each end
ENDPOINT = LOCAL_URL + DOCUMENTED_PATH

LANGUAGES: tuple[tuple[str, str, Literal["shell", "python", "cpp"]], ...] = (
    ("curl", "shell", "shell"),
    ("Python", "python", "python"),
    ("C#", "csharp", "cpp"),
)
"""Title of each snippet, its key, and whose colours the page gives it; Gradio has none for C#."""

SNIPPETS = {
    "shell": r"""photo=$(base64 < photo.jpg | tr -d '\n')
printf '{"base64_Photo_String": "%s", "photo_url": "NO", "boundingBoxCrop": "CROPS"}' "$photo" |
  curl --user 'you@example.com:your password or key' \
    --header 'Content-Type: application/json' --data-binary @- ENDPOINT
""",
    "python": """import base64
import json
import urllib.request
from pathlib import Path

body = {
    "base64_Photo_String": base64.b64encode(Path("photo.jpg").read_bytes()).decode(),
    "photo_url": "NO",
    "boundingBoxCrop": "CROPS",
}
who = base64.b64encode(b"you@example.com:your password or key").decode()
request = urllib.request.Request(
    "ENDPOINT",
    data=json.dumps(body).encode(),
    headers={"Authorization": f"Basic {who}", "Content-Type": "application/json"},
)
with urllib.request.urlopen(request, timeout=60) as response:
    answer = json.load(response)
if isinstance(answer, list):  # an error comes with status 200, as a list of one
    raise SystemExit(f"{answer[0]['cd']}: {answer[0]['description']}")
for prediction in answer["predictions"]:
    print(prediction["probability"], prediction["boundingBox"])
Path("photo-blurred.jpg").write_bytes(base64.b64decode(answer["final_photo"]))
""",
    "csharp": """using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json;

using var client = new HttpClient { Timeout = TimeSpan.FromSeconds(60) };
var who = Convert.ToBase64String(Encoding.UTF8.GetBytes("you@example.com:your password or key"));
client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Basic", who);
var body = new Dictionary<string, string>
{
    ["base64_Photo_String"] = Convert.ToBase64String(await File.ReadAllBytesAsync("photo.jpg")),
    ["photo_url"] = "NO",
    ["boundingBoxCrop"] = "CROPS",
};
using var response = await client.PostAsJsonAsync("ENDPOINT", body);
using var answer = JsonDocument.Parse(await response.Content.ReadAsStringAsync());
var root = answer.RootElement;
if (root.ValueKind == JsonValueKind.Array) // an error comes as an array of one
{
    Console.Error.WriteLine(root[0].GetRawText());
    return 1;
}
foreach (var prediction in root.GetProperty("predictions").EnumerateArray())
    Console.WriteLine(prediction.GetProperty("boundingBox").GetRawText());
var blurred = root.GetProperty("final_photo").GetBytesFromBase64();
await File.WriteAllBytesAsync("photo-blurred.jpg", blurred);
return 0;
""",
}


def snippet(language: str, *, endpoint: str, crops: bool) -> str:
    """Return code that sends `photo.jpg` to `endpoint` and keeps the answer.

    Args:
        language: "shell", "python" or "csharp".
        endpoint: address of the documented endpoint.
        crops: whether cut-outs of the plates are asked for.
    """
    # A quote or a line break would end the string that contains the address.
    address = "".join(c for c in endpoint.strip() if c.isprintable() and c not in "'\"\\ $`{}")
    code = SNIPPETS[language].replace("CROPS", "YES" if crops else "NO")
    return code.replace("ENDPOINT", address or ENDPOINT)


def request_body(photo: DroppedPhoto, *, crops: bool) -> bytes:
    """Return the documented request for `photo`."""
    return orjson.dumps(
        {
            "base64_Photo_String": "NO" if photo.url else base64.b64encode(photo.data).decode(),
            "photo_url": photo.url or "NO",
            "boundingBoxCrop": "YES" if crops else "NO",
        }
    )


def response_body(
    detector: Detector, photo: DroppedPhoto, crops: bool, created: datetime, limits: Limits
) -> bytes:
    """Return what the endpoint answers: its own defaults, and no corrections by hand.

    Args:
        detector: not used again, because the photo has its detections.
        photo: as it was dropped.
        crops: whether cut-outs of the plates are asked for.
        created: moment of the request, UTC.
        limits: those that the photo was taken with.
    """
    if len(request_body(photo, crops=crops)) > MAX_BODY_BYTES:
        return failure_body("1013")
    options = BlurOptions(min_confidence=RETURNED_ABOVE, draw_boxes=True, crops=crops)
    as_found = DroppedPhoto(photo.name, photo.data, photo.found, photo.found)
    try:
        blurred = blur_dropped(detector, as_found, options, limits)
    except PlateblurError:
        return failure_body("2001")
    return documented_answer(blurred, created=created, crops=crops)


def on_screen(body: bytes) -> str:
    """Return JSON indented, long strings shortened in the middle."""
    return json.dumps(_shortened(orjson.loads(body)), indent=2)


def failure_body(cd: str) -> bytes:
    """Return the endpoint's error response."""
    return orjson.dumps([{"cd": cd, "description": SENTENCES[cd]}])


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_shortened(each) for each in value]
    if isinstance(value, str) and len(value) > 4 * SHOWN_CHARS:
        return f"{value[:SHOWN_CHARS]}...{len(value)} characters...{value[-SHOWN_CHARS:]}"
    return value
