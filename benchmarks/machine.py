"""What a benchmark ran on, in the same words in every file of figures."""

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
