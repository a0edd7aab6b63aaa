"""Notes every attempt of this process to reach another machine.

Python runs a `sitecustomize` that it finds at its start, so a test that puts this folder on
PYTHONPATH also watches the processes that the tested one starts. Each attempt is refused, as
without a network, and written as a line into the file that OUTBOUND_LOG names.
"""

import os
import sys
from collections.abc import Mapping

LOG = os.environ.get("OUTBOUND_LOG", "")  # noqa: TID251 - set by the test
HERE = {"127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "", None}  # noqa: S104 - compared only
LOOK_UPS = {"socket.getaddrinfo", "socket.gethostbyname"}
SENDS = {"socket.connect", "socket.sendto", "socket.sendmsg"}
DOWNLOADERS = {"curl", "wget"}


def watch(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse what leads off this machine; an audit hook, see PEP 578.

    Raises:
        OSError: it does.
    """
    target: object
    if event in LOOK_UPS:
        target = arguments[0]
    elif event in SENDS:
        address = arguments[1]
        if not isinstance(address, tuple):  # a Unix socket, or one that is connected already
            return
        target = address[0]
    elif event == "subprocess.Popen":
        target = os.path.basename(os.fsdecode(str(arguments[0])))  # noqa: PTH119 - nothing heavy
        if target not in DOWNLOADERS:
            return
    else:
        return
    if isinstance(target, bytes):
        target = target.decode("ascii", "replace")
    if target in HERE:
        return
    with open(LOG, "a", encoding="utf-8") as log:  # noqa: PTH123
        log.write(f"{event} {target}\n")
    raise OSError("refused by the test: no network here")


def install(environment: Mapping[str, str]) -> None:
    """Watch this process, where a test asks for it."""
    if environment.get("OUTBOUND_LOG"):
        sys.addaudithook(watch)


install(os.environ)  # noqa: TID251 - set by the test
