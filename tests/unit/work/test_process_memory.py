from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Blocks that the C library keeps when they are freed, below one that is still in use.
PROGRAM = """
import numpy, psutil
from datagen.model.decoding import keep_freed_memory
from datagen.work.process_memory import return_freed_memory

keep_freed_memory()
blocks = [numpy.ones(1 << 20, numpy.uint8) for _ in range(256)]
last = blocks.pop()
blocks.clear()
before = psutil.Process().memory_info().rss
return_freed_memory()
print(before - psutil.Process().memory_info().rss, last[0])
"""


@pytest.mark.parametrize(
    "least", [(150 << 20) if platform.libc_ver()[0] == "glibc" else -(1 << 20)]
)
def test_memory_that_was_freed_is_returned_to_the_system(least):
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(ran.stdout.split()[0]) > least
