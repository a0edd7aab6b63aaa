"""The console: pages for managing an account, and all accounts for the operator.

It joins two parts: its pages need many functions of accounts/, and the middleware, templates and
settings of web/. Inside web/, it would make web/ depend on all of accounts/. So it is a package of
its own, without photos and without SQL.
"""

from plateblur.console.console import add_console, check_console_settings

__all__ = ["add_console", "check_console_settings"]
