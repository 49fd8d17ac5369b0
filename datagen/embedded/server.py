"""The API's process in the stack: `python -P -m datagen.embedded.server --host HOST --fd N`."""

from __future__ import annotations

import argparse
import socket

from datagen.api.app import create_app
from datagen.api.logs import configure_logs
from datagen.api.serving import run
from datagen.settings import load_settings

# Ctrl-C must end the stack within seconds, whatever a client still reads.
DRAIN_SECONDS = 3


def main() -> None:
    """Serve on the listening socket that the supervisor has opened, until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--fd", type=int, required=True)
    options = parser.parse_args()
    configure_logs()
    app = create_app(load_settings(), host=options.host)
    run(app, socket.socket(fileno=options.fd), DRAIN_SECONDS)


if __name__ == "__main__":
    main()
