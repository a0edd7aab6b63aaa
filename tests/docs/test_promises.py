"""What README and docs promise, held against the code and its behaviour."""

from __future__ import annotations

import base64
import importlib
import io
import json
import logging
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image as PillowImage
from PIL import features

from plateblur import BlurOptions, blur_photo
from plateblur.demo.uploads import Uploads
from plateblur.demo.visits import KEEP_S
from plateblur.photo import LOSSY_QUALITY, decode, encode
from plateblur.tracks import GAP_S, TRACK_FLOOR
from plateblur.types import COUNT_FLOOR, MetadataPolicy
from plateblur.web.schemas import RETURNED_ABOVE
from plateblur.web.settings import Settings
from tests.fakes import FixedDetector
from tests.web.fakes import make_stand, photo_bytes

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CARD = json.loads((ROOT / "plateblur" / "models" / "plates.json").read_text())


def text_of(name: str) -> str:
    """Return a page as one line, so that a promise may be broken over two."""
    return " ".join((ROOT / name).read_text().split())


# Thresholds


def test_the_page_on_thresholds_gives_the_values_of_the_code() -> None:
    page = text_of("docs/howto/threshold.md")
    default = BlurOptions().min_confidence
    assert f"| library, `plateblur blur`, demo, `/v1` | {default:.2f} |" in page
    assert f"| documented endpoint, `/plateblurer.aspx` | above {RETURNED_ABOVE:.2f} |" in page
    assert f"is followed down to {TRACK_FLOOR:g} |" in page
    assert f"the smallest value is {COUNT_FLOOR:g}" in page
    assert f"**{default:.2f} was chosen by false boxes, not for the lowest miss rate.**" in page


def test_the_endpoints_start_at_the_confidences_that_the_pages_give() -> None:
    page = text_of("docs/reference/endpoint.md")
    assert f"blurs every plate above a confidence of {RETURNED_ABOVE:.2f}" in page
    assert f"`/v1` blurs from {BlurOptions().min_confidence:g}" in page
    assert f"a confidence of {COUNT_FLOOR:g} or more" in page


@pytest.mark.anyio
async def test_the_two_endpoints_blur_from_different_confidences() -> None:
    stand = make_stand()
    photo = base64.b64encode(photo_bytes("JPEG")).decode()
    for path, field in (("/plateblurer.aspx", "base64_Photo_String"), ("/v1/blur", "photo")):
        answer = await stand.post({field: photo}, path=path)
        assert answer.status_code == 200, answer.text
    assert [options.min_confidence for options in stand.blur.asked] == [0.20, 0.45]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_no_page_says_that_the_default_was_chosen_for_few_misses() -> None:
    claim = re.compile(r"chosen for (a|the) (low|lowest) miss", re.IGNORECASE)
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        assert not claim.search(" ".join(page.read_text().split())), page.name


# Misses


MISSES = re.compile(
    r"no detector finds every plate|not all of them[.:] check photos before you publish",
    re.IGNORECASE,
)


@pytest.mark.parametrize(
    ("page", "opening_ends"),
    [("README.md", "**Four methods.**"), ("docs/index.md", "| you want to |")],
)
def test_a_front_page_says_in_its_opening_that_plates_are_missed(
    page: str, opening_ends: str
) -> None:
    opening, ends, _ = text_of(page).partition(opening_ends)
    assert ends
    assert MISSES.search(opening)
    assert re.search(r"check (photos before you publish|what you publish)", opening, re.IGNORECASE)


@pytest.mark.anyio
async def test_the_front_page_of_the_service_says_in_its_opening_that_plates_are_missed() -> None:
    page = (await make_stand().client.get("/")).text
    hero = re.search(r'<section class="hero">(.*?)</section>', page, re.DOTALL)
    assert hero is not None
    assert MISSES.search(" ".join(hero[1].split()))


NOTHING_MISSED = re.compile(
    r"without (any )?readable plates"
    r"|(?<!no detector )(?<!no threshold )\b(finds?|hides?|blurs?|detects?) (all|every) plates?\b"
    r"(?! (above|from|that))"
    r"|(?<!not )\b(all|every) plates? (is|are) (found|hidden|blurred|detected)",
    re.IGNORECASE,
)


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("your photos without readable plates", True), ("It hides all plates.", True),
        ("blurs every plate in a photo", True), ("No detector finds every plate", False),
        ("blurs every plate above a confidence of 0.20", False),
        ("Every plate is blurred", True), ("Not every plate is found", False),
    ],
)  # fmt: skip
def test_a_claim_that_nothing_is_missed_is_recognised(text: str, claims: bool) -> None:
    assert bool(NOTHING_MISSED.search(text)) is claims


def test_no_page_claims_that_nothing_is_missed() -> None:
    pages = [ROOT / "README.md", ROOT / "pyproject.toml", *DOCS.rglob("*.md")]
    for folder in ("web", "console", "demo"):
        pages += (ROOT / "plateblur" / folder).rglob("*.html")
    assert [
        (page.name, found[0])
        for page in pages
        if (found := NOTHING_MISSED.search(" ".join(page.read_text().split())))
    ] == []


# Figures and labels


def test_the_model_card_counts_corrections_as_the_file_does() -> None:
    corrected = json.loads((DOCS / "label-corrections.json").read_text())["test"]
    plates = CARD["figures"]["overall"]["plates"]
    claim = f"{corrected['add']} of {plates} plates were added and {corrected['move']} labels moved"
    assert claim in text_of("docs/model-card.md")
    assert plates - CARD["figures"]["labels_as_they_are"]["overall"]["plates"] == corrected["add"]


@pytest.mark.parametrize("page", ["README.md", "docs/model-card.md"])
def test_figures_show_both_labels_and_who_drew_the_corrected_ones(page: str) -> None:
    text = text_of(page)
    assert "corrected labels: plates" in text
    assert "original labels: plates" in text
    assert "drawn by a vision model on enlarged photos under rulers, not by people" in text


def test_no_page_says_that_people_drew_the_corrections() -> None:
    claim = re.compile(r"(drawn|redrawn|drew)[^.|]{0,40} by (people|a person)", re.IGNORECASE)
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        found = claim.search(" ".join(page.read_text().split()))
        assert found is None or "not by people" in found[0], page.name


def test_being_ahead_is_claimed_of_each_kind_of_labels_on_its_own() -> None:
    generate = importlib.import_module("docs.generate")
    best = dict.fromkeys(generate.FIGURES, 0.9) | {"false_boxes_per_photo": 0.1}
    rival = dict.fromkeys(generate.FIGURES, 0.8) | {"false_boxes_per_photo": 0.05}
    told = generate._ahead("original", {"rival": rival, "PlateBlur": best})
    assert told == ("With original labels PlateBlur is ahead in every row but false boxes a photo.")
    rival["false_boxes_per_photo"] = 0.2
    assert generate._ahead("corrected", {"rival": rival, "PlateBlur": best}).endswith("every row.")
    pages = [" ".join(page.read_text().split()) for page in DOCS.rglob("*.md")]
    assert not [page for page in pages if "ahead in every row" in page]


def test_the_share_of_photos_without_a_clear_licence_is_that_of_the_card() -> None:
    (share,) = re.findall(r"\((\d+)%\)", CARD["training_photos"])
    claim = "Most of its training photos come from sets without a clear licence"
    assert (claim in text_of("README.md")) == (int(share) > 50)
    opening = (DOCS / "model-card.md").read_text().splitlines()[:4]
    assert "<!-- generated: licences -->" in opening


def test_the_gate_is_not_said_to_choose_on_val() -> None:
    for name in ("docs/training-log.md", "docs/model-card.md"):
        page = text_of(name)
        assert "Test is for reporting: choices were made on val" not in page
        assert "compares candidate and shipped model on test" in page
    promote = (ROOT / "training" / "promote.py").read_text()
    assert 'split="test"' in promote  # else the pages could say something better


# Data sets


def test_the_recipes_that_the_readme_counts_are_there() -> None:
    table = re.findall(r"^\| \[(\w+)\]\(\w+\.md\)", (ROOT / "datasets/README.md").read_text(), re.M)
    public = [name for name in table if name not in ("folder", "synthetic")]
    assert len(public) == 6
    assert "recipes for six public data sets" in text_of("README.md")
    assert [name for name in table if not (ROOT / "datasets" / f"{name}.py").is_file()] == []


def test_each_set_of_the_shipped_model_has_a_recipe_or_a_reason() -> None:
    rows = re.findall(
        r"^\| ([\w-]+) \| (?:yes|no).*\| (.+) \|$", (DOCS / "howto/reproduce.md").read_text(), re.M
    )
    ways = dict(rows)
    assert {one["set"] for one in CARD["data_sets"]} <= set(ways)
    for name, way in ways.items():
        recipe = re.search(r"`datasets/(\w+)\.py", way)
        assert way.startswith("no recipe of its own") or recipe, name
        assert recipe is None or (ROOT / "datasets" / f"{recipe[1]}.py").is_file()
    assert any(way.startswith("no recipe") for way in ways.values())


def test_sets_that_are_split_by_photo_are_named() -> None:
    readme = (ROOT / "datasets" / "README.md").read_text()
    assert re.search(r"\| \[openlpr\].*\| photo \|$", readme, re.M)
    assert "one vehicle may be in train and test" in " ".join(readme.split())
    assert "Not every set is split by vehicle." in text_of("docs/model-card.md")


# What a photo loses


PLATELESS = FixedDetector()
LONG = "a long comment " * 400


def photo_with_metadata() -> bytes:
    """Return a JPEG with GPS, a maker note, a description, a long comment and a resolution."""
    exif = PillowImage.Exif()
    exif[0x010E] = "a street"
    exif.get_ifd(0x8769)[0x927C] = b"maker note"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (44.0, 26.0, 0.0)
    out = io.BytesIO()
    grey = PillowImage.new("RGB", (64, 48), (90, 90, 90))
    grey.save(out, "JPEG", exif=exif, comment=LONG, dpi=(300, 300))
    return out.getvalue()


@pytest.mark.parametrize(
    ("policy", "gps", "description"),
    [("strip", False, False), ("safe", False, False), ("keep", True, True)],
)
def test_what_each_policy_keeps_and_keep_loses(
    policy: MetadataPolicy, gps: bool, description: bool
) -> None:
    before = PillowImage.open(io.BytesIO(photo_with_metadata()))
    assert before.getexif().get_ifd(0x8769)[0x927C] == b"maker note"
    assert len(before.info["comment"]) == len(LONG) > 4096
    assert before.info["dpi"] == (300, 300)
    blurred = blur_photo(photo_with_metadata(), PLATELESS, BlurOptions(metadata=policy))
    after = PillowImage.open(io.BytesIO(blurred.data))
    exif = after.getexif()
    assert bool(exif.get_ifd(0x8825)) == gps
    assert (exif.get(0x010E) == "a street") == description
    assert 0x927C not in exif.get_ifd(0x8769)
    assert "comment" not in after.info
    assert after.info["dpi"] == (300, 300)


def test_a_page_says_what_keep_loses() -> None:
    for name in ("README.md", "docs/explanation/limits.md"):
        page = text_of(name)
        for lost in ("maker notes", "4,096 characters"):
            assert lost in page, (name, lost)
    assert "`strip` and `safe` remove GPS; `keep` keeps it" in text_of(
        "docs/explanation/privacy.md"
    )


def test_sixteen_bits_a_channel_become_eight() -> None:
    deep = np.linspace(0, 65535, 64 * 48, dtype=np.uint16).reshape(48, 64)
    out = io.BytesIO()
    PillowImage.fromarray(deep).save(out, "PNG")
    assert PillowImage.open(io.BytesIO(out.getvalue())).mode == "I;16"
    blurred = blur_photo(out.getvalue(), PLATELESS, BlurOptions(metadata="keep"))
    assert PillowImage.open(io.BytesIO(blurred.data)).mode in ("L", "RGB")
    assert "16 bits a channel become 8" in text_of("docs/explanation/limits.md")


@pytest.mark.skipif(not features.check("webp"), reason="Pillow without WebP")
def test_lossy_formats_are_written_at_the_quality_that_the_pages_give() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)

    def written(quality: int) -> bytes:
        out = io.BytesIO()
        PillowImage.fromarray(noise).save(out, "WEBP", quality=quality)
        return out.getvalue()

    photo = decode(written(40))
    again = io.BytesIO()
    PillowImage.fromarray(photo.pixels).save(again, "WEBP", quality=LOSSY_QUALITY)
    assert encode(photo, photo.pixels, metadata="strip") == again.getvalue()
    for name in ("README.md", "docs/explanation/limits.md", "docs/explanation/detection.md"):
        assert f"quality {LOSSY_QUALITY}" in text_of(name), name


def test_the_bound_on_gaps_is_that_of_the_tracks() -> None:
    for name in ("README.md", "docs/howto/clips.md", "docs/explanation/limits.md"):
        assert re.search(rf"gaps of up to {GAP_S:g} seconds", text_of(name), re.I), name


# What is kept


def test_the_pages_say_how_long_uploads_are_on_disk() -> None:
    waits_min = signature(Uploads).parameters["keep_s"].default / 60
    for name in ("README.md", "docs/explanation/privacy.md"):
        page = text_of(name)
        assert re.search(
            r"on (the server's )?disk until (its|their) turn comes[ (,]+"
            rf"{waits_min:g} minutes at most",
            page,
        ), name
        assert f"{KEEP_S / 60:g} minutes" in page


def test_the_periods_of_the_privacy_page_are_those_that_the_service_keeps() -> None:
    periods = pytest.importorskip("plateblur.accounts.periods")
    page = text_of("docs/explanation/privacy.md")
    for row in (
        f"| the hash that prevents a second trial | {periods.KEEP_TRIAL_HASH_YEARS} years |",
        f"| e-mails in the outbox | {periods.KEEP_OUTBOX.days} days |",
        f"nobody activated | {periods.KEEP_INACTIVE.days} days |",
        f"| incomplete sign-ups | {periods.KEEP_SIGN_UP.days} days |",
        f"daily totals stay with the account | {periods.KEEP_REQUESTS.days} days |",
        f"| counts of failed log-ins | {periods.KEEP_FAILED_LOGINS.seconds // 3600} hour |",
    ):
        assert row in page, row
    days = f"{periods.KEEP_SIGN_UP_COUNTS.days} day |"
    assert re.search(rf"\| counts of sign-ups by network\b[^|]* \| {re.escape(days)}", page)
    years = f"{periods.KEEP_INVOICE_YEARS} years, counted from the end of the year"
    assert re.search(rf"\| invoices\b[^|]* \| {years}", page)


@pytest.mark.anyio
async def test_a_request_logs_what_the_page_lists_and_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="plateblur")
    stand = make_stand()
    await stand.client.get("/healthz")
    (record,) = [one for one in caplog.records if one.getMessage() == "request"]
    listed = {
        "reference": "reference",
        "method": "method",
        "route": "route",
        "status": "status",
        "cd": "code",
        "account": "**account id**",
        "duration_ms": "duration",
        "body_bytes": "bytes received",
        "sent_bytes": "sent",
    }
    assert set(record.fields) == set(listed)  # type: ignore[attr-defined]
    (row,) = re.findall(r"\| each request \| (.+?) \|", text_of("docs/explanation/privacy.md"))
    for words in listed.values():
        assert words in row, words


# Messages and pages


def test_the_messages_under_troubleshooting_are_those_of_the_code() -> None:
    page = (DOCS / "howto" / "troubleshooting.md").read_text()
    table = page[page.index("## Command") : page.index("## Service")]
    quoted = re.findall(r"^\| `([^`]+)` \|", table, re.M)
    assert len(quoted) >= 5
    joined = re.compile(r'"\s*\n\s*f?"')
    code = "".join(joined.sub("", path.read_text()) for path in (ROOT / "plateblur").rglob("*.py"))
    for message in quoted:
        for part in re.split(r"\.\.\.|'cuda'|JPEG", message):  # what the code fills in
            assert part.strip() in code, message


def test_no_command_hides_from_being_run_by_its_indent() -> None:
    indented = re.compile(r"^[ \t]+```", re.MULTILINE)
    pages = [ROOT / "README.md", *DOCS.rglob("*.md")]
    assert [page.name for page in pages if indented.search(page.read_text())] == []


def test_each_page_is_in_the_navigation() -> None:
    def pages(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        parts = entry.values() if isinstance(entry, dict) else entry
        return [page for part in parts for page in pages(part)]

    class Loader(yaml.SafeLoader):
        """Reads over tags that only MkDocs knows."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python", lambda *_: None)
    nav = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)["nav"]  # noqa: S506
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert there - set(pages(nav)) == set()


def test_the_default_for_a_costly_photo_names_the_time_that_the_cost_page_gives() -> None:
    help_text = Settings.model_fields["photo_work_s"].description or ""
    (seconds,) = re.findall(r"HEIC of 12 megapixels takes (\d+)", help_text)
    page = text_of("docs/howto/hardware-and-cost.md")
    assert f"a HEIC photo of 12 megapixels takes about {seconds} seconds" in page


# Third parties


@pytest.mark.slow
def test_the_notices_are_those_of_the_lock() -> None:
    third_party = importlib.import_module("docs.third_party")
    try:
        text = third_party.notices()
    except PackageNotFoundError as error:
        pytest.skip(f"{error.name} isn't installed here")
    lock = dict(
        line.split(" ;")[0].strip().split("==")
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    packages = re.findall(r"^\| \[([\w.-]+) ([^\]]+)\]", text, re.M)
    assert len(packages) > 100
    if any(lock.get(name) != version(name) for name, _ in packages):
        pytest.skip("other versions are installed here than the lock names")
    assert third_party.OUT.read_text() == text, "run: python docs/third_party.py"
    assert {lock[name] == shown for name, shown in packages} == {True}


# Backup


BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_a_restored_backup_has_the_accounts_of_its_day(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")
    backup, restore = BLOCK.findall((DOCS / "howto" / "backup.md").read_text())[:2]
    (tmp_path / ".venv").symlink_to(sys.prefix)

    def shell(commands: str, given: str = "") -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=tmp_path,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    create = ".venv/bin/plateblur accounts create {} --password-stdin --activate"
    password = "correct horse battery staple 9\n"
    shell(create.format("before@example.com"), password)
    secret = (tmp_path / "data" / "secret.key").read_bytes()
    shell(backup)
    shell(create.format("after@example.com"), password)
    (tmp_path / "data" / "secret.key").write_text("00" * 32)
    listed = shell(restore)
    assert "before@example.com" in listed
    assert "after@example.com" not in listed
    assert (tmp_path / "data" / "secret.key").read_bytes() == secret
    for name in ("accounts.sqlite3", "secret.key"):
        assert (tmp_path / "backup" / name).stat().st_mode & 0o077 == 0
