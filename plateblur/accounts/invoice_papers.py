"""An invoice as a printable page and as a PDF, with the same lines. No store."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from fpdf import FPDF
from fpdf.enums import XPos, YPos
from fpdf.fonts import TTFFont
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from plateblur.accounts.invoices import IssuedInvoice
from plateblur.accounts.types import PlanKind

_ITEMS = {
    PlanKind.MONTHLY: "PlateBlur monthly plan (one month)",
    PlanKind.YEARLY: "PlateBlur yearly plan (twelve months)",
}
# Latin, Greek and Cyrillic; the fonts built into PDF readers lack e.g. Romanian letters.
_FONT = files("fontpkg_noto_sans") / "files" / "NotoSans[wdth,wght].ttf"
_PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
)


@dataclass(frozen=True, slots=True)
class _Paper:
    number: str
    issued_on: str
    status: str
    seller: str
    buyer: str
    currency: str
    lines: tuple[tuple[str, str], ...]
    vat_note: str
    how_to_pay: str


def invoice_html(invoice: IssuedInvoice, *, stylesheet: str) -> str:
    """Return the invoice as a page without scripts; all values are escaped.

    Args:
        invoice: as issued.
        stylesheet: URL of its style sheet.
    """
    template = _PAGES.get_template("invoice.html")
    return template.render(paper=_paper(invoice), stylesheet=stylesheet)


def invoice_pdf(invoice: IssuedInvoice) -> bytes:
    """Return the invoice as a PDF of A4 pages.

    Letters other than Latin, Greek and Cyrillic become U+FFFD; the page shows them.
    """
    paper = _paper(invoice)
    pdf = FPDF(format="A4")
    pdf.set_creation_date(invoice.issued_at)
    pdf.set_title(f"Invoice {paper.number}")
    pdf.set_lang("en")
    with as_file(_FONT) as path:
        pdf.add_font("Noto Sans", fname=path)
    font = pdf.fonts["noto sans"]
    if not isinstance(font, TTFFont):
        raise TypeError(f"expected a TrueType font, got {type(font)}")
    letters = frozenset(font.cmap)
    pdf.set_margin(15)
    pdf.add_page()

    def put(text: str, size_pt: int = 10, gap_mm: int = 0) -> None:
        pdf.set_font("Noto Sans", size=size_pt)
        pdf.multi_cell(
            0, text=_drawable(text, letters), new_x=XPos.LMARGIN, new_y=YPos.NEXT, align="L"
        )
        pdf.ln(gap_mm)

    put(f"Invoice {paper.number}", size_pt=18, gap_mm=2)
    put(f"Issued {paper.issued_on}. {paper.status}", gap_mm=6)
    for title, side in (("Seller", paper.seller), ("Buyer", paper.buyer)):
        put(title, size_pt=8)
        put(side, gap_mm=4)
    pdf.set_font("Noto Sans", size=10)
    with pdf.table(
        col_widths=(3, 1), text_align=("LEFT", "RIGHT"), first_row_as_headings=False
    ) as table:
        for line in (("Item", paper.currency), *paper.lines):
            row = table.row()
            for cell in line:
                row.cell(_drawable(cell, letters))
    pdf.ln(6)
    for text in filter(None, (paper.vat_note, paper.how_to_pay)):
        put(text, gap_mm=4)
    return bytes(pdf.output())


def _paper(invoice: IssuedInvoice) -> _Paper:
    rate = f"{invoice.vat_rate_bps / 100:g} %"
    period = ""
    if invoice.starts_at and invoice.ends_at:
        period = f", {invoice.starts_at:%Y-%m-%d %H:%M} to {invoice.ends_at:%Y-%m-%d %H:%M} UTC"
    return _Paper(
        number=invoice.number,
        issued_on=f"{invoice.issued_at:%Y-%m-%d}",
        status=f"Paid on {invoice.paid_at:%Y-%m-%d}." if invoice.paid_at else "Unpaid.",
        seller=_side(invoice.seller),
        buyer=_side(invoice.buyer),
        currency=invoice.currency,
        lines=(
            (f"{_ITEMS[invoice.kind]}{period}", _money(invoice.net_cents)),
            (f"VAT {rate}", _money(invoice.vat_cents)),
            ("Total", _money(invoice.total_cents)),
        ),
        vat_note=invoice.vat_note,
        how_to_pay="" if invoice.paid_at else invoice.seller.get("how_to_pay", ""),
    )


def _side(side: dict[str, str]) -> str:
    vat_id = side.get("vat_id", "")
    lines = [
        side.get("name", ""),
        side.get("postal_address", ""),
        side.get("country", ""),
        f"VAT {vat_id}" if vat_id else "",
    ]
    return "\n".join(filter(None, lines))


def _money(cents: int) -> str:
    return f"{cents // 100:,}.{cents % 100:02d}"


def _drawable(text: str, letters: frozenset[int]) -> str:
    """Replace letters that the font lacks by U+FFFD, so that nothing disappears unnoticed."""
    text = unicodedata.normalize("NFC", text)
    return "".join(char if ord(char) in letters or char == "\n" else "\ufffd" for char in text)
