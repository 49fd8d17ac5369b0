"""An example of every command, as its help shows it; the tests read each one's arguments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_JOB = "0190b3f2-6f1e-7c31-9d5e-2f6a4c8e1b07"

EXAMPLES = {
    "demo": "datagen demo --out digits --per-label 50",
    "up": "datagen up --port 9000 --workers 4",
    "sign-in": "datagen sign-in",
    "generate": "datagen generate --labels 3=500,8=200 --seed 7 --out digits --format imagefolder",
    "train": "datagen train defects --dataset defects --preset base --time-budget 30m",
    "report": f"datagen report {_JOB} --quick --out report",
    "verify": "datagen verify digits",
    "doctor": "datagen doctor --json",
    "backup": "datagen backup /backups/monday",
    "restore": "datagen restore /backups/monday",
    "api": "datagen api --host 0.0.0.0 --port 8000",
    "worker": "datagen worker --queues bulk,interactive --workers 2",
    "beat": "datagen beat",
    "job list": "datagen job list --state running --model mnist",
    "job show": f"datagen job show {_JOB} --json",
    "job watch": f"datagen job watch {_JOB}",
    "job cancel": f"datagen job cancel {_JOB}",
    "job retry": f"datagen job retry {_JOB} --detach",
    "job extend": f"datagen job extend {_JOB} --labels 3=100",
    "job remove": f"datagen job remove {_JOB} --force",
    "dataset add": "datagen dataset add defects photos/ --size 32 --pad --license cc-by-4.0",
    "dataset list": "datagen dataset list --limit 10",
    "dataset show": "datagen dataset show defects --picture balance.png",
    "dataset remove": "datagen dataset remove defects@1",
    "export create": "datagen export create --dataset defects --format parquet --out defects-set",
    "export formats": "datagen export formats",
    "export list": f"datagen export list --job {_JOB}",
    "export show": f"datagen export show {_JOB}",
    "export download": f"datagen export download {_JOB} --out digits",
    "export link": f"datagen export link {_JOB} --archive tar --expires 12h",
    "export cancel": f"datagen export cancel {_JOB}",
    "export remove": f"datagen export remove {_JOB}",
    "model preview": "datagen model preview mnist --labels 3=8,8=8 --out preview.png",
    "model list": "datagen model list",
    "model show": "datagen model show mnist --json",
    "model cancel": "datagen model cancel defects",
    "model compare": "datagen model compare defects@1 defects@2",
    "model export": "datagen model export defects --out defects.zip",
    "model import": "datagen model import defects defects.zip",
    "model share": "datagen model share defects",
    "model remove": "datagen model remove defects@1",
    "model report": "datagen model report defects --out pictures",
    "key create": "datagen key create --owner team-a --scopes read,write --expires 90d "
    "--quota-images 1000000",
    "key list": "datagen key list --owner team-a",
    "key revoke": "datagen key revoke 3fa9c1d20b7e",
    "key rotate": "datagen key rotate 3fa9c1d20b7e --grace 1h",
    "pipeline apply": "datagen pipeline apply nightly.yaml",
    "pipeline validate": "datagen pipeline validate nightly.yaml",
    "pipeline list": "datagen pipeline list",
    "pipeline show": "datagen pipeline show nightly",
    "pipeline run": "datagen pipeline run nightly --wait --json",
    "pipeline pause": "datagen pipeline pause nightly",
    "pipeline resume": "datagen pipeline resume nightly",
    "pipeline next": "datagen pipeline next nightly",
    "pipeline history": "datagen pipeline history nightly --state failed",
    "pipeline logs": f"datagen pipeline logs {_JOB}",
    "pipeline cancel": f"datagen pipeline cancel {_JOB}",
    "pipeline delete": "datagen pipeline delete nightly",
    "pipeline schema": "datagen pipeline schema",
    "webhook create": "datagen webhook create https://ci.example/datagen --events job.failed",
    "webhook list": "datagen webhook list",
    "webhook test": f"datagen webhook test {_JOB}",
    "webhook rotate": f"datagen webhook rotate {_JOB}",
    "webhook deliveries": f"datagen webhook deliveries {_JOB} --limit 5",
    "webhook remove": f"datagen webhook remove {_JOB}",
    "config show": "datagen config show",
    "config set": "datagen config set lab --url https://datagen.lab.example --api-key dg_…",
    "config list": "datagen config list",
    "config remove": "datagen config remove lab",
    "db upgrade": "datagen db upgrade",
    "db check": f"datagen db check --job {_JOB}",
    "db rebuild": "datagen db rebuild",
}


def attach(commands: Iterable[Any], group: str = "") -> None:
    """Put each command's example below its help. Raises KeyError where one has none."""
    for command in commands:
        command.epilog = f"Example: {EXAMPLES[f'{group} {command.name}'.strip()]}"
