"""HTTP: the documented endpoint, `/v1` and the pages; meets the rest in `create_app`."""

from plateblur.web.app import create_app
from plateblur.web.settings import Settings, SettingsError

__all__ = ["Settings", "SettingsError", "create_app"]
