"""What the documentation shows is run as it stands, in the order in which it is read."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from pathlib import Path
from typing import Any

import pytest
from documents import Block, blocks, run_block

pytestmark = pytest.mark.xdist_group("stack")


def run(block: Block, stack: Any, folder: Path, **names: str) -> str:
    """Run a block in a folder, on the stack; what it prints."""
    return run_block(block, stack.url, stack.home, folder, names)


def test_readme_from_its_ten_lines_to_training_code(stack: Any, tmp_path: Path) -> None:
    python, loading = blocks("README.md", "python")
    assert "3 500" in run(python, stack, tmp_path)
    assert (tmp_path / "digits" / "manifest.json").is_file()
    _, once, service = blocks("README.md", "sh")[:3]
    run(once, stack, tmp_path)
    assert (tmp_path / "more-digits" / "train" / "3").is_dir()
    # The stack is up already, and 1,000 of every digit take longer than they show.
    lines = service.text.replace("--per-label 1000", "--per-label 20").splitlines()[1:]
    detached, listed, watched, exported = lines
    assert (detached.split()[1], listed.split()[1:3]) == ("generate", ["job", "list"])
    run(Block("README.md", service.line, "sh", f"{detached}\n{listed}"), stack, tmp_path)
    job = stack.http.get("/v1/jobs?limit=1").json()["items"][0]["id"]
    rest = Block("README.md", service.line, "sh", f"{watched}\n{exported}")
    run(rest, stack, tmp_path, JOB=job)
    run(loading, stack, tmp_path)


def test_guide_to_the_api(stack: Any, tmp_path: Path) -> None:
    head, job, upload, python, awaited, told = blocks("docs/api.md")
    printed = run(Block("docs/api.md", job.line, "sh", head.text + job.text), stack, tmp_path)
    assert "data: {" in printed
    assert (tmp_path / "first.png").read_bytes()[:4] == b"\x89PNG"
    # The block above leaves its header behind, and both are one session of a shell.
    lines = head.text + job.text.splitlines()[0] + "\n" + upload.text
    printed = run(Block("docs/api.md", upload.line, "sh", lines), stack, tmp_path)
    inspected, created = printed.replace("}{", "}\n{").splitlines()[-2:]
    assert '"source":"imagefolder"' in inspected
    assert '"id"' not in inspected
    assert stack.http.get("/v1/datasets/pets").json()["id"] in created
    run(python, stack, tmp_path)
    assert (tmp_path / "out" / "manifest.json").is_file()
    assert "succeeded [0, 1, 2]" in run(awaited, stack, tmp_path)
    found: dict[str, Any] = {}
    exec(compile(told.text, str(told), "exec"), found)  # noqa: S102 - the guide's own lines
    secret, moment, body = b"s" * 32, str(int(time.time())), b'{"event": "ping"}'
    signed = hmac.new(secret, b"id." + moment.encode() + b"." + body, hashlib.sha256).digest()
    headers = {
        "webhook-id": "id", "webhook-timestamp": moment,
        "webhook-signature": f"v1,xx v1,{base64.b64encode(signed).decode()}",
    }  # fmt: skip
    shown = "whsec_" + base64.b64encode(secret).decode()
    assert found["is_ours"](shown, headers, body)
    assert not found["is_ours"](shown, headers, body + b" ")
    assert not found["is_ours"](shown, headers | {"webhook-timestamp": "1"}, body)
