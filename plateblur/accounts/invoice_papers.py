"""Invoices and credit notes as printable pages and as PDFs, with the same lines. No store."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import as_file, files
from pathlib import Path

from fpdf import FPDF
from fpdf.enums import Align, TextMode, XPos, YPos
from fpdf.fonts import TTFFont
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from segno import QRCode
from segno.helpers import make_epc_qr
from stdnum import iban as ibans

from plateblur.accounts.credit_notes import IssuedCreditNote
from plateblur.accounts.fields import countries
from plateblur.accounts.invoices import IssuedInvoice
from plateblur.accounts.types import PlanKind

Paper = IssuedInvoice | IssuedCreditNote
BLUE, GREY, LINE = (29, 78, 216), (82, 96, 116), (213, 220, 230)  # as on the pages
LINE_MM_PER_PT = 0.5
CODE_MM = 32  # Source: ours; banking apps read it from a screen and from paper.
QUIET_ZONE = 4  # modules. Source: ISO/IEC 18004.
LONGEST_PAYEE = 70  # characters. Source: EPC069-12.
UTF_8 = 1  # the encoding that every banking app must read
REFERENCE = "Payment reference"
CODE_HINT = "Scan the code with your banking app."
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
class _Sheet:
    """What a paper says, in the order of reading.

    Attributes:
        title: "Invoice" or "Credit note".
        number: of the paper.
        facts: names and values beside the title.
        seller: lines.
        buyer: lines.
        currency: of all amounts.
        lines: item and amount.
        total: the last amount, with its name.
        notes: sentences that the law wants.
        how_to_pay: lines, or "".
        transfer: names and values for a bank transfer.
        code: the transfer for banking apps, or None.
    """

    title: str
    number: str
    facts: tuple[tuple[str, str], ...]
    seller: str
    buyer: str
    currency: str
    lines: tuple[tuple[str, str], ...]
    total: tuple[str, str]
    notes: tuple[str, ...]
    how_to_pay: str = ""
    transfer: tuple[tuple[str, str], ...] = ()
    code: QRCode | None = None


def paper_html(paper: Paper, *, stylesheet: str, logo: str) -> str:
    """Return an invoice or credit note as a page without scripts; all values are escaped.

    Args:
        paper: as issued.
        stylesheet: URL of its style sheet.
        logo: URL of the picture beside the name.
    """
    return _PAGES.get_template("invoice.html").render(
        paper=_sheet(paper),
        code=transfer_svg(paper) if isinstance(paper, IssuedInvoice) else "",
        code_hint=CODE_HINT,
        stylesheet=stylesheet,
        logo=logo,
    )


def transfer_of(invoice: IssuedInvoice) -> tuple[tuple[str, str], ...]:
    """Return what a payer copies: names and values, the reference last; empty once it is paid."""
    if not invoice.is_open:
        return ()
    seller = invoice.seller
    lines = []
    if seller.get("iban"):
        lines += [("Bank transfer to", seller["name"]), ("IBAN", ibans.format(seller["iban"]))]
        lines += [("BIC", seller["bic"])] if seller.get("bic") else []
    amount = f"{_money(invoice.total_cents)} {invoice.currency}"
    return (*lines, ("Amount", amount), (REFERENCE, invoice.number))


def transfer_svg(invoice: IssuedInvoice) -> Markup:
    """Return `transfer_code` as an SVG for a page, "" where there is none."""
    code = transfer_code(invoice)
    drawn = code.svg_inline(omitsize=True, border=QUIET_ZONE, light="#fff") if code else ""
    return Markup(drawn)  # noqa: S704 - paths of numbers


def transfer_code(invoice: IssuedInvoice) -> QRCode | None:
    """Return the QR code with which a banking app fills in the transfer of an unpaid invoice.

    Source: EPC069-12 ("GiroCode"), which knows transfers in euros alone.

    Returns:
        None for another currency, without an IBAN, and where nothing is to be paid.
    """
    iban = invoice.seller.get("iban", "")
    if not (invoice.is_open and iban and invoice.currency == "EUR"):
        return None
    return make_epc_qr(
        name=invoice.seller["name"][:LONGEST_PAYEE],
        iban=iban,
        amount=Decimal(invoice.total_cents) / 100,
        text=invoice.number,
        bic=invoice.seller.get("bic") or None,
        encoding=UTF_8,
    )


def paper_pdf(paper: Paper) -> bytes:
    """Return an invoice or credit note as a PDF of A4 pages.

    Letters other than Latin, Greek and Cyrillic become U+FFFD; the page shows them.
    """
    sheet = _sheet(paper)
    pdf = FPDF(format="A4")
    pdf.set_creation_date(paper.issued_at)
    pdf.set_title(f"{sheet.title} {sheet.number}")
    pdf.set_lang("en")
    with as_file(_FONT) as path:
        # Its bold face would have to be computed, which takes minutes; `put` draws thicker letters.
        pdf.add_font("Noto Sans", fname=path)
    font = pdf.fonts["noto sans"]
    if not isinstance(font, TTFFont):
        raise TypeError(f"expected a TrueType font, got {type(font)}")
    letters = frozenset(font.cmap)
    pdf.set_margin(18)
    pdf.add_page()

    def put(text: str, *, size_pt: int = 10, bold: bool = False, width: float = 0) -> None:
        pdf.set_font("Noto Sans", size=size_pt)
        pdf.text_mode = TextMode.FILL_STROKE if bold else TextMode.FILL
        pdf.set_line_width(size_pt / 160)
        pdf.multi_cell(
            width,
            size_pt * LINE_MM_PER_PT,
            _drawable(text, letters),
            new_x=XPos.LEFT,
            new_y=YPos.NEXT,
            align="L",
        )
        pdf.text_mode = TextMode.FILL

    _logo(pdf)
    pdf.set_xy(33, 18)
    put("PlateBlur", size_pt=14, bold=True)
    pdf.set_xy(pdf.l_margin, 38)
    put(f"{sheet.title} {sheet.number}", size_pt=20, bold=True)
    pdf.ln(3)
    for name, value in sheet.facts:
        top = pdf.get_y()
        pdf.set_text_color(*GREY)
        put(name, width=45)
        bottom = pdf.get_y()
        pdf.set_xy(pdf.l_margin + 45, top)
        pdf.set_text_color(0)
        put(value)
        pdf.set_xy(pdf.l_margin, max(bottom, pdf.get_y()))
    pdf.ln(7)
    top, lowest = pdf.get_y(), 0.0
    for column, (title, side) in enumerate((("From", sheet.seller), ("To", sheet.buyer))):
        pdf.set_xy(pdf.l_margin + column * pdf.epw / 2, top)
        pdf.set_text_color(*GREY)
        put(title, size_pt=9, width=pdf.epw / 2 - 5)
        pdf.set_text_color(0)
        put(side, width=pdf.epw / 2 - 5)
        lowest = max(lowest, pdf.get_y())
    pdf.set_xy(pdf.l_margin, lowest + 8)
    _amounts(pdf, sheet, letters)
    pdf.set_draw_color(0)
    pdf.ln(7)
    for text in sheet.notes:
        put(text)
        pdf.ln(2)
    if sheet.transfer:
        height = CODE_MM if sheet.code else 0
        if pdf.will_page_break(height + 10):
            pdf.add_page()
        pdf.ln(4)
        put("How to pay", bold=True)
        top, left = pdf.get_y() + 1, pdf.l_margin
        if sheet.code:
            _code(pdf, sheet.code, x=left, y=top)
            left += CODE_MM + 6
        pdf.set_xy(left, top)
        put(sheet.how_to_pay)
        for name, value in sheet.transfer:
            pdf.set_x(left)
            put(f"{name}: {value}", bold=name == REFERENCE)
        if sheet.code:
            pdf.set_x(left)
            put(CODE_HINT, size_pt=9)
    return bytes(pdf.output())


def _code(pdf: FPDF, code: QRCode, *, x: float, y: float) -> None:
    """Draw a QR code as wide as `CODE_MM`, one rectangle for each run of dark modules."""
    pdf.set_fill_color(0)
    modules = [bytes(row) for row in code.matrix]
    side = CODE_MM / len(modules)
    for row, line in enumerate(modules):
        for run in re.finditer(b"\x01+", line):
            pdf.rect(x + run.start() * side, y + row * side, len(run[0]) * side, side, style="F")
    pdf.set_fill_color(255)


def _logo(pdf: FPDF) -> None:
    """Draw the logo: a plate whose letters are hidden, on a blue tile."""
    pdf.set_fill_color(*BLUE)
    pdf.rect(18, 16, 12, 12, style="F", round_corners=True, corner_radius=2.6)
    pdf.set_fill_color(255)
    pdf.rect(19.5, 20.1, 9, 3.8, style="F", round_corners=True, corner_radius=0.8)
    pdf.set_fill_color(147, 197, 253)
    pdf.rect(20.5, 21.1, 7, 1.8, style="F", round_corners=True, corner_radius=0.8)
    pdf.set_fill_color(255)  # The ground of the table.


def _amounts(pdf: FPDF, sheet: _Sheet, letters: frozenset[int]) -> None:
    pdf.set_draw_color(*LINE)
    pdf.set_line_width(0.3)
    rows = (("Item", sheet.currency), *sheet.lines, sheet.total)
    with pdf.table(
        col_widths=(3, 1),
        text_align=(Align.L, Align.R),
        first_row_as_headings=False,
        borders_layout="HORIZONTAL_LINES",
        line_height=8,
    ) as table:
        for number, line in enumerate(rows):
            is_total = number == len(rows) - 1
            pdf.set_font("Noto Sans", size=13 if is_total else 10)
            row = table.row()
            for cell in line:
                row.cell(_drawable(cell, letters))


def _sheet(paper: Paper) -> _Sheet:
    return _of_invoice(paper) if isinstance(paper, IssuedInvoice) else _of_credit_note(paper)


def _of_invoice(invoice: IssuedInvoice) -> _Sheet:
    item = _ITEMS[invoice.kind]
    period = ("Period", "one month" if invoice.kind is PlanKind.MONTHLY else "twelve months")
    if invoice.starts_at and invoice.ends_at:
        dates = f"{invoice.starts_at:%Y-%m-%d %H:%M} to {invoice.ends_at:%Y-%m-%d %H:%M} UTC"
        period = ("Period", dates)
    due = invoice.terms.get("due_on", "")
    facts = [("Issued on", f"{invoice.issued_at:%Y-%m-%d}"), period]
    if invoice.cancelled_at:
        facts.append(("Status", f"cancelled on {invoice.cancelled_at:%Y-%m-%d}"))
    elif invoice.paid_at:
        facts.append(("Status", f"paid on {invoice.paid_at:%Y-%m-%d}"))
    else:
        facts.append(("Status", "unpaid"))
        facts += [("Due on", due)] if due else []
    return _Sheet(
        title="Invoice",
        number=invoice.number,
        facts=tuple(facts),
        seller=_side(invoice.seller),
        buyer=_side(invoice.buyer),
        currency=invoice.currency,
        lines=(
            (item, _money(invoice.net_cents)),
            ("Net", _money(invoice.net_cents)),
            (f"VAT {_rate(invoice)}", _money(invoice.vat_cents)),
        ),
        total=("Total due" if invoice.is_open else "Total", _money(invoice.total_cents)),
        notes=tuple(filter(None, (invoice.vat_note, invoice.local_vat))),
        how_to_pay=invoice.seller.get("how_to_pay", "") if invoice.is_open else "",
        transfer=transfer_of(invoice),
        code=transfer_code(invoice),
    )


def _of_credit_note(note: IssuedCreditNote) -> _Sheet:
    invoice = note.invoice
    refund = "nothing was paid"
    if note.refund_due:
        refund = f"paid back on {note.refunded_at:%Y-%m-%d}" if note.refunded_at else "on its way"
    return _Sheet(
        title="Credit note",
        number=note.number,
        facts=(
            ("Issued on", f"{note.issued_at:%Y-%m-%d}"),
            ("For invoice", f"{invoice.number} of {invoice.issued_at:%Y-%m-%d}"),
            ("Reason", note.reason),
            ("Refund", refund),
        ),
        seller=_side(invoice.seller),
        buyer=_side(invoice.buyer),
        currency=invoice.currency,
        lines=(
            (_ITEMS[invoice.kind], f"-{_money(note.net_cents)}"),
            ("Net", f"-{_money(note.net_cents)}"),
            (f"VAT {_rate(invoice)}", f"-{_money(note.vat_cents)}"),
        ),
        total=("Total", f"-{_money(note.total_cents)}"),
        notes=tuple(filter(None, (invoice.vat_note,))),
    )


def _rate(invoice: IssuedInvoice) -> str:
    return f"{invoice.vat_rate_bps / 100:g} %"


def _side(side: dict[str, str]) -> str:
    """Return a party's lines; the country with its name, unless the address ends with it."""
    vat_id, code = side.get("vat_id", ""), side.get("country", "")
    country, address = dict(countries()).get(code, code), side.get("postal_address", "")
    lines = [
        side.get("name", ""),
        address,
        "" if address.casefold().endswith(country.casefold()) else country,
        f"VAT {vat_id}" if vat_id else "",
        side.get("register", ""),
        side.get("email", ""),
        side.get("phone", ""),
    ]
    return "\n".join(filter(None, lines))


def _money(cents: int) -> str:
    return f"{cents // 100:,}.{cents % 100:02d}"


def _drawable(text: str, letters: frozenset[int]) -> str:
    """Replace letters that the font lacks by U+FFFD, so that nothing disappears unnoticed."""
    text = unicodedata.normalize("NFC", text)
    return "".join(char if ord(char) in letters or char == "\n" else "\ufffd" for char in text)
