"""The report of an audit, as a page and as a PDF with the same lines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from importlib.resources import as_file, files
from pathlib import Path

from fpdf import FPDF
from fpdf.enums import XPos, YPos
from fpdf.fonts import FontFace, TTFFont
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from plateblur.runs.audit import Audit, Clips
from plateblur.runs.progress import number

# Latin, Greek and Cyrillic; the fonts built into PDF readers lack e.g. Romanian letters.
_FONT = files("fontpkg_noto_sans") / "files" / "NotoSans[wdth,wght].ttf"
_PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
)
MOST_NAMES = 50  # of outputs that are listed; the log of reviews has all
SOFT, LINE, SHEET = (82, 96, 116), (213, 220, 230), (245, 247, 250)
LIMITS = (
    "The claim is about plates that the people named above could read on their screens in the "
    "blurred photos. It says nothing about other personal data, such as faces, lettering or what "
    "the files say about place and time.",
    "It holds for the photos as they were written when the sample was drawn and looked at, and "
    "only if the sample was looked at whole and by people who look closely. It is an upper bound "
    "on how many photos have a readable plate, and does not say which.",
    "Photos that failed have no output and are not part of it. Photos that were not in the sample "
    "may have readable plates; those that were found are listed as corrected.",
)


CLIP_LIMITS = (
    "The run also has clips. The sample is of photos, so the claim says nothing about clips: how "
    "many of them were looked at is listed above.",
)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report: a title, sentences, and names with their values."""

    title: str
    paragraphs: tuple[str, ...] = ()
    rows: tuple[tuple[str, str], ...] = ()


def claim_of(audit: Audit) -> str:
    """Return what follows from the sample, in two or three sentences."""
    sample, misses = audit.sample, len(audit.misses)
    confidence = _percent(sample.confidence)
    photos = f"{sample.population:,}"
    if audit.left:
        return (
            f"Not finished: {audit.looked_at:,} of {len(sample.outputs):,} photos of the sample "
            "have been looked at, so nothing is claimed yet."
        )
    found = "none has" if misses == 0 else f"{misses:,} {'has' if misses == 1 else 'have'}"
    looked_at = f"{audit.looked_at:,} photos that were drawn at random and looked at"
    seen = f"Of {looked_at}, {found} a readable plate."
    bound = (
        f"So with {confidence} confidence, at most {audit.most:,} of all {photos} photos have one "
        f"({_percent(audit.most / sample.population)})."
    )
    wanted = _percent(sample.share)
    if audit.holds:
        return f"{seen} {bound} That is fewer than {wanted}, as was to be shown."
    return f"{seen} {bound} It was to be shown that fewer than {wanted} do, and that is not shown."


def sections_of(audit: Audit, *, now: datetime) -> tuple[Section, ...]:
    """Return the report below its claim.

    Args:
        audit: what was done.
        now: when the report is written.
    """
    sample = audit.sample
    runs = tuple(
        (
            f"Run of {_when(run['started'])}",
            "; ".join(
                [
                    number(count, "photo"),
                    run["software"],
                    *(f"{name}: {value}" for name, value in run["settings"].items()),
                ]
            ),
        )
        for run, count in audit.runs
    )
    names = audit.misses[:MOST_NAMES]
    more = len(audit.misses) - len(names)
    misses = "none" if not names else ", ".join(names) + (f" and {more:,} more" if more else "")
    checked = ", ".join(
        f"{name} ({number(count, 'photo')})" for name, count in audit.reviewers.items()
    )
    return (
        Section("What was run", rows=(("Output folder", audit.run), *runs)),
        Section(
            "What was found",
            rows=(
                ("Photos blurred", f"{audit.photos:,}"),
                ("Plates hidden", f"{audit.plates:,}"),
                ("Photos without a plate", f"{audit.without_plates:,}"),
                ("Photos that failed", f"{audit.failed:,} (no output was written)"),
                ("Photos looked at, of all", f"{audit.reviewed:,}"),
                ("Photos corrected, of all", f"{audit.corrected:,}"),
                ("Corrected, not written yet", f"{audit.unwritten:,}"),
                *_clip_rows(audit.clips),
            ),
        ),
        Section(
            "What was checked",
            rows=(
                ("Sample", f"{len(sample.outputs):,} of {sample.population:,} photos"),
                ("Drawn", f"{_when(sample.at)}, at random without replacement, seed {sample.seed}"),
                ("Looked at", f"{audit.looked_at:,}"),
                ("By", checked or "nobody yet"),
                (
                    "First and last",
                    " and ".join(_when(at) for at in audit.times if at) or "not yet",
                ),
                ("With a readable plate", f"{len(audit.misses):,}: {misses}" if names else "none"),
            ),
        ),
        Section(
            "How the bound is computed",
            (
                "The bound is one-sided and exact for photos drawn without replacement from a "
                "finite number (hypergeometric distribution; the argument of Clopper and Pearson, "
                "1934, as given for finite populations by Wendell and Schmee, 1996). It is the "
                "largest number of photos with a readable plate at which a sample with as few of "
                f"them would not be rarer than {_percent(1 - Fraction(str(sample.confidence)))}.",
            ),
        ),
        Section("Limits", LIMITS + (CLIP_LIMITS if audit.clips.done else ())),
        Section(
            "Records",
            rows=(
                ("Report written", _when(now.isoformat())),
                ("Manifest, SHA-256", audit.manifest_sha256),
                ("Reviews, SHA-256", audit.log_sha256),
            ),
        ),
    )


def _clip_rows(clips: Clips) -> tuple[tuple[str, str], ...]:
    """Return what is known of the clips; nothing where there are none."""
    if not clips.done and not clips.failed:
        return ()
    return (
        ("Clips blurred", f"{clips.done:,}, not part of the claim"),
        ("Clips that failed", f"{clips.failed:,} (no output was written)"),
        ("Plates hidden in clips", f"{clips.plates:,}"),
        ("Clips looked at", f"{clips.reviewed:,} of {clips.done:,}"),
        ("Clips corrected", f"{clips.corrected:,}, {clips.unwritten:,} of them not written yet"),
    )


def audit_html(audit: Audit, *, now: datetime) -> str:
    """Return the report as a page without scripts; all values are escaped."""
    return _PAGES.get_template("audit.html").render(
        title=_title(audit), claim=claim_of(audit), sections=sections_of(audit, now=now)
    )


def audit_pdf(audit: Audit, *, now: datetime) -> bytes:
    """Return the report as a PDF of A4 pages.

    Letters other than Latin, Greek and Cyrillic become U+FFFD; the page shows them.
    """
    pdf = FPDF(format="A4")
    pdf.set_creation_date(now)
    pdf.set_title(_title(audit))
    pdf.set_lang("en")
    with as_file(_FONT) as path:
        pdf.add_font("Noto Sans", fname=path)
        pdf.add_font("Noto Sans", style="B", fname=path, variations={"wght": 650.0})
    font = pdf.fonts["noto sans"]
    if not isinstance(font, TTFFont):
        raise TypeError(f"expected a TrueType font, got {type(font)}")
    letters = frozenset(font.cmap)
    pdf.set_margin(18)
    pdf.set_auto_page_break(auto=True, margin=18)
    pdf.add_page()

    def put(text: str, *, size_pt: float = 10, style: str = "", gap_mm: float = 2) -> None:
        pdf.set_font("Noto Sans", style, size_pt)
        drawable = "".join(char if ord(char) in letters else "\ufffd" for char in text)
        pdf.multi_cell(0, size_pt / 2, drawable, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        pdf.ln(gap_mm)

    put(_title(audit), size_pt=18, style="B", gap_mm=3)
    pdf.set_fill_color(*SHEET)
    pdf.set_draw_color(*LINE)
    pdf.set_font("Noto Sans", size=11)
    pdf.multi_cell(
        0, 6.5, claim_of(audit), border=1, fill=True, align="L", padding=4,
        new_x=XPos.LMARGIN, new_y=YPos.NEXT,
    )  # fmt: skip
    pdf.ln(3)
    for section in sections_of(audit, now=now):
        if pdf.will_page_break(30):
            pdf.add_page()
        pdf.ln(3)
        put(section.title, size_pt=12.5, style="B")
        for paragraph in section.paragraphs:
            put(paragraph)
        if section.rows:
            pdf.set_font("Noto Sans", size=9)
            with pdf.table(
                col_widths=(3, 7),
                text_align="LEFT",
                first_row_as_headings=False,
                borders_layout="HORIZONTAL_LINES",
                line_height=5,
                padding=(1.2, 2, 1.2, 0),
            ) as table:
                for name, value in section.rows:
                    row = table.row()
                    row.cell(name, style=FontFace(color=SOFT))
                    row.cell("".join(c if ord(c) in letters else "\ufffd" for c in value))
    return bytes(pdf.output())


def _title(audit: Audit) -> str:
    return f"Audit of {audit.run}"


def _percent(share: float | Fraction) -> str:
    return f"{float(share) * 100:.3g}\N{NO-BREAK SPACE}%"


def _when(at: str) -> str:
    return f"{datetime.fromisoformat(at):%Y-%m-%d %H:%M} UTC"
