"""The console: the pages on which people manage their account, and the operator everybody's.

A place where parts are joined, as `serving.py` is: its pages need many functions of accounts/ and
the middleware, templates and settings of web/. Were it in web/, web/ would have to know the whole
of accounts/; so it stands beside both, knows no photos and writes no SQL.
"""

from plateblur.console.console import add_console, check_console_settings

__all__ = ["add_console", "check_console_settings"]
