"""What the settings make of mail and seller."""

from __future__ import annotations

from pathlib import Path

import pytest

from plateblur.accounts.fields import countries
from plateblur.accounts.mail import Email
from plateblur.console import check_console_settings
from plateblur.console.parts import mailer_of, seller_of
from plateblur.web import Settings

PRODUCTION = Settings(mode="production", secret_key="0f" * 32, public_url="https://p.example")


def test_a_service_that_is_tried_out_has_a_sample_seller_and_production_has_none() -> None:
    sample = seller_of(Settings())
    assert sample is not None
    assert "Sample" in sample.name
    assert seller_of(PRODUCTION) is None


def test_the_seller_is_read_with_its_lines() -> None:
    seller = seller_of(
        Settings(seller_name="Plate SRL", seller_address="Str. 1\\nBrașov", seller_country="RO")
    )
    assert seller is not None
    assert (seller.postal_address, seller.vat_id) == ("Str. 1\nBrașov", "")


@pytest.mark.parametrize(
    "settings",
    [
        Settings(smtp_host="mail", smtp_security="none", smtp_password="x"),
        Settings(seller_name="A", seller_country="RO", seller_vat_id="DE1"),
    ],
    ids=["password in clear", "another country's VAT number"],
)
def test_settings_that_cannot_work_are_refused(settings: Settings) -> None:
    with pytest.raises(ValueError, match=r"expected|needs"):
        check_console_settings(settings)


def test_letters_go_to_the_outbox_of_the_data_folder(tmp_path: Path) -> None:
    mailer = mailer_of(Settings(data_dir=tmp_path, mail_from="Us <us@plates.io>"))
    path = mailer.send(Email("ana@plates.io", "Hello", "Text"))
    assert path is not None
    assert path.parent == tmp_path / "outbox"
    assert b"From: Us <us@plates.io>" in path.read_bytes()


def test_countries_have_iso_codes_and_names() -> None:
    named = dict(countries())
    assert (named["RO"], named["DE"]) == ("Romania", "Germany")
    assert all(len(code) == 2 for code in named)
    assert len(named) > 240
