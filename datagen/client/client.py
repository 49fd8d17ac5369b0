"""`Client`: one server, a namespace for each kind of thing."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from datagen.client.address import find_address
from datagen.client.datasets import Datasets
from datagen.client.exports import Exports
from datagen.client.figures import FigureSets
from datagen.client.jobs import Jobs
from datagen.client.keys import Keys
from datagen.client.models import Models
from datagen.client.pipelines import Pipelines, Runs
from datagen.client.reports import Reports
from datagen.client.transport import Transport
from datagen.client.webhooks import Webhooks
from datagen.schemas import Me, SignInLink
from datagen.settings import load_settings


class Client:
    """A connection to a datagen server.

    Without arguments it finds the server and the key by itself: `DATAGEN_URL` and
    `DATAGEN_API_KEY`, else the stack that `datagen up` runs on the state folder.

    Example:
        >>> with Client() as dg:  # doctest: +SKIP
        ...     job = dg.jobs.create("mnist", {"3": 500, "8": 200}, seed=7)
        ...     job = dg.jobs.wait(job.id)
        ...     export = dg.exports.wait(dg.exports.create(job.id, "imagefolder").id)
        ...     dg.exports.download(export.id, "digits")

    Args:
        url: the server, such as `http://127.0.0.1:8000`.
        api_key: the key, `dg_…`.
        home: the state folder to look in; `DATAGEN_HOME` if None.
        timeout: seconds that one request may take.

    Raises:
        InvalidRequest: the URL or the key cannot be one.
        ServerUnreachable: no server is named, and none runs on the home.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        home: Path | str | None = None,
        timeout: float = 30.0,
    ) -> None:
        overrides: dict[str, Any] = {} if home is None else {"home": Path(home)}
        address = find_address(load_settings(**overrides), url, api_key)
        self._transport = Transport(address, timeout)
        self._transport.client = self
        self.url = address.url
        self.jobs = Jobs(self._transport)
        self.exports = Exports(self._transport)
        self.datasets = Datasets(self._transport)
        self.models = Models(self._transport)
        self.figures = FigureSets(self._transport)
        self.reports = Reports(self._transport)
        self.pipelines = Pipelines(self._transport)
        self.runs = Runs(self._transport)
        self.keys = Keys(self._transport)
        self.webhooks = Webhooks(self._transport)

    def me(self) -> Me:
        """Who your key belongs to, how far it reaches, and what is used of the quota."""
        return self._transport.get("/v1/me", Me)

    def sign_in_link(self) -> SignInLink:
        """A link that signs a browser in to the web page once, as the holder of your key."""
        return self._transport.post("/v1/me/sign-in-links", SignInLink)

    def close(self) -> None:
        """Close the connections; a `with` block does it too."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
