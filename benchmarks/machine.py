"""What a benchmark was measured on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def machine(cores: int, device: torch.device | None = None) -> str:
    """What it was measured on: so many cores, or a GPU."""
    import torch  # noqa: PLC0415 - who only times others does without

    python = platform.python_version()
    if device is not None and device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, Python {python}, torch {torch.__version__}"
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    kind = torch.backends.cpu.get_cpu_capability()
    return f"{cores} cores, {name} ({kind}), Python {python}, torch {torch.__version__}"
