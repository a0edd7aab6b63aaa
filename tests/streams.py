"""Both ends of live streams on this machine: FFmpeg's, a small RTSP server, a small HTTP server."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.ports import free_port

WAIT_S = 60.0  # for what takes a second on a quiet machine


@contextmanager
def ffmpeg(*arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run FFmpeg; it is asked to finish at the end, and waited for."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(10)
            process.kill()


def listens(port: int) -> None:
    """Wait until something listens on `port`, without connecting to it."""
    wanted = f":{port:04X} "
    ends_s = time.monotonic() + WAIT_S
    while time.monotonic() < ends_s:
        rows = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()
        if any(wanted in row and row.split()[3] == "0A" for row in rows):  # Source: TCP_LISTEN
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on {port}")


@contextmanager
def http(*bodies: bytes, kind: str = "video/MP2T", is_live: bool = True) -> Iterator[str]:
    """Serve `bodies`, one for each request and the last again and again; yield the address.

    Args:
        bodies: what is answered.
        kind: media type.
        is_live: say no length, as streams don't.
    """
    served = iter(range(10_000))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = bodies[min(next(served), len(bodies) - 1)]
            self.send_response(200)
            self.send_header("Content-Type", kind)
            if not is_live:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/live"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def rtsp(clip: Path, *, password: str = "") -> Iterator[str]:
    """Serve the pictures of `clip`, H.264, again and again over RTSP (TCP); yield the address.

    FFmpeg sends RTP; this hands its packets on to one client at a time. Source: RFC 2326, 10.12.

    Args:
        clip: what is shown.
        password: asked for (Basic) where it isn't empty.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client, suppress(OSError, ConnectionError, StopIteration):
                    _answer(client, clip, password, done)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        who = f"camera:{password}@" if password else ""
        try:
            yield f"rtsp://{who}127.0.0.1:{port}/stream"
        finally:
            done.set()
            server.shutdown(socket.SHUT_RDWR)
    thread.join(WAIT_S)


def _answer(client: socket.socket, clip: Path, password: str, done: threading.Event) -> None:
    udp = free_port()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtp,
        ffmpeg(
            *("-re", "-stream_loop", "-1", "-i", clip, "-an", "-c", "copy", "-f", "rtp"),
            *("-sdp_file", clip.with_suffix(".sdp"), f"rtp://127.0.0.1:{udp}"),
        ) as sender,
    ):
        rtp.bind(("127.0.0.1", udp))
        rtp.settimeout(WAIT_S)
        rtp.recv(2048)  # the description is there when the first packet is
        description = clip.with_suffix(".sdp").read_text(encoding="utf-8")
        description = description[description.index("v=0") :].replace(f"video {udp}", "video 0")
        try:
            reader = client.makefile("rb")
            while True:
                head = _head(reader)
                method, number = head[0].split()[0], _field(head, "CSeq")
                if password and method != "OPTIONS" and not _field(head, "Authorization"):
                    extra = 'WWW-Authenticate: Basic realm="camera"\r\n'
                    client.sendall(f"RTSP/1.0 401 No\r\nCSeq: {number}\r\n{extra}\r\n".encode())
                    continue
                extra, body = "Session: 1\r\n", ""
                if method == "DESCRIBE":
                    body = description
                    extra += f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
                elif method == "SETUP":
                    extra += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
                answer = f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{extra}\r\n{body}"
                client.sendall(answer.encode())
                if method == "PLAY":
                    break
            while not done.is_set():
                packet = rtp.recv(2048)
                client.sendall(b"$\0" + len(packet).to_bytes(2) + packet)
        finally:
            sender.kill()


def _head(reader: object) -> list[str]:
    lines: list[str] = []
    while line := reader.readline().decode().strip():  # type: ignore[attr-defined]
        lines.append(line)
    if not lines:
        raise ConnectionError
    return lines


def _field(head: list[str], name: str) -> str:
    found = [line.partition(":")[2].strip() for line in head if line.startswith(f"{name}:")]
    return found[0] if found else ""
