"""What a benchmark ran on, in the same words in every file of figures, and what it took."""

from __future__ import annotations

import os
import platform
from pathlib import Path

INSTRUCTIONS = ("avx2", "avx512_bf16", "avx512_vnni", "amx_bf16")
"""Those that a detector or a training step is several times faster with."""


def machine() -> str:
    """Return cores, processor and the instructions that matter here."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    known = {key.strip(): value.strip() for key, _, value in (one.partition(":") for one in lines)}
    name = known.get("model name") or platform.processor() or platform.machine()
    flags = known.get("flags", "").split()
    return ", ".join([f"{os.cpu_count()} cores", name, *(f for f in INSTRUCTIONS if f in flags)])


def tree_of(root: int) -> tuple[float, float]:
    """Return memory in megabytes and processor time of a process and all below it."""
    parents: dict[int, int] = {}
    costs: dict[int, tuple[float, float]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        pid = int(entry.name)
        parents[pid] = int(fields[1])
        ticks = sum(map(int, fields[11:15]))  # its own and of those below it that have ended
        rss_bytes = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
        costs[pid] = rss_bytes / 1e6, ticks / os.sysconf("SC_CLK_TCK")
    tree, found = {root}, 0
    while found < len(tree):
        found = len(tree)
        tree |= {pid for pid, parent in parents.items() if parent in tree}
    known = [costs[pid] for pid in tree if pid in costs]
    return sum(mb for mb, _ in known), sum(s for _, s in known)
