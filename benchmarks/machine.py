"""What a benchmark was measured on."""

from __future__ import annotations

import platform
from pathlib import Path


def machine(cores: int) -> str:
    """What it was measured on."""
    import torch  # noqa: PLC0415 - who only times others does without

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    kind = torch.backends.cpu.get_cpu_capability()
    python = platform.python_version()
    return f"{cores} cores, {name} ({kind}), Python {python}, torch {torch.__version__}"
