"""Two owners who have one of everything, and the callers by whom they ask."""

from __future__ import annotations

import io
import re
import zipfile
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from PIL import Image
from running import ended_of

from campaign.requests import Ref

SCOPES = ("write", "admin", "read")
# Small enough that a campaign's jobs are done by one worker beside it.
QUOTAS = {"quota_images": 5000, "quota_jobs": 40, "quota_uploads": 20, "quota_bytes": 200_000_000}
NOBODYS = "00000000-0000-7000-8000-00000000000f"
HOOK = "https://receiver.invalid/hook"
_LOCATION = re.compile(r"/v1/(\w+)/([^/]+)")


@dataclass(frozen=True)
class Caller:
    """Somebody who asks: which owner, how far the key reaches, and by what it is shown."""

    world: World
    scope: str
    headers: dict[str, str]

    @property
    def is_session(self) -> bool:
        """Whether a browser's cookie says who asks."""
        return "Cookie" in self.headers

    def __str__(self) -> str:
        shown = "session" if self.is_session else "key"
        return f"{self.world.name}, {self.scope}, {shown}"


@dataclass(eq=False)
class World:
    """What an owner has: ids by kind, names, and what nobody else may ever see."""

    name: str
    ids: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    names: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    kept: frozenset[str] = frozenset()
    webhook_of: dict[str, str] = field(default_factory=dict)
    markers: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)

    def take(self, kind: str, thing: str) -> str:
        """Note something that the owner has from now on; its id."""
        self.ids[kind].append(thing)
        (self.keys if kind == "keys" else self.markers).add(thing)
        return thing

    def drop(self, kind: str, thing: str) -> None:
        """Note that something is gone; it stays the owner's secret."""
        if thing in self.ids[kind]:
            self.ids[kind].remove(thing)

    def keep(self) -> None:
        """What there is by now is never removed by the owner itself."""
        self.kept = frozenset(one for ids in self.ids.values() for one in ids)

    def find(self, ref: Ref, *, ending: bool = False) -> str:
        """An id or a name; of what may go, where the request would end it."""
        there = self.ids[ref.kind]
        made = [one for one in there if one not in self.kept]
        found = [one for one in there if one in self.kept] + made[-10:]
        if ending:
            found = made[-20:]
        elif ref.by_name and self.names[ref.kind]:
            found = self.names[ref.kind]
        return found[ref.number % len(found)] if found else NOBODYS


def archive_of_pictures() -> bytes:
    """A zip of ten classes, in the shape that the bundled model knows."""
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        for number in range(30):
            pixels = np.full((28, 28), 8 * number, np.uint8)
            pixels[number % 7 :, 5] = 255
            picture = io.BytesIO()
            Image.fromarray(pixels).save(picture, "PNG")
            archive.writestr(f"{number % 10}/{number}.png", picture.getvalue())
    return zipped.getvalue()


class WorldBuilder:
    """Makes owners, their callers and their things over HTTP, by an administrator's key."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self._root = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60.0, trust_env=False
        )

        self.files = {
            "create_dataset": archive_of_pictures(),
            "import_model": self._root.get("/v1/models/mnist/export").content,
        }

    def close(self) -> None:
        """Let go of the connections."""
        self._root.close()

    def build(self, name: str) -> tuple[World, list[Caller]]:
        """An owner with one of everything, and six callers: each scope, by key and by session."""
        world = World(name)
        callers = [caller for scope in SCOPES for caller in self._callers(world, scope)]
        writer = next(one for one in callers if one.scope == "write" and not one.is_session)
        with httpx.Client(
            base_url=self.url, headers=writer.headers, timeout=60.0, trust_env=False
        ) as http:
            self._fill(world, http)
        spare = self._made(self._root, "/v1/keys", {"owner": name, "scopes": ["read"]})
        world.take("keys", spare["id"])
        world.markers.add(spare["key"].rpartition("_")[2])
        world.ids["owner"].append(name)
        world.keep()
        return world, callers

    def _callers(self, world: World, scope: str) -> list[Caller]:
        made = self._made(
            self._root, "/v1/keys", {"owner": world.name, "scopes": [scope], **QUOTAS}
        )
        world.keys.add(made["id"])
        world.markers.add(made["key"].rpartition("_")[2])
        by_key = {"Authorization": f"Bearer {made['key']}"}
        link = httpx.post(f"{self.url}/v1/me/sign-in-links", headers=by_key, trust_env=False).json()
        token = link["url"].rpartition("/")[2]
        signed_in = httpx.get(f"{self.url}/sign-in/{token}", trust_env=False)
        cookie = signed_in.cookies["datagen_session"]
        world.markers |= {token, cookie}
        by_session = {"Cookie": f"datagen_session={cookie}"}
        return [Caller(world, scope, by_key), Caller(world, scope, by_session)]

    @staticmethod
    def _made(http: httpx.Client, path: str, body: Any) -> Any:
        answer = http.post(path, json=body)
        assert answer.status_code in {200, 201, 202}, (path, answer.text)
        return answer.json()

    def _fill(self, world: World, http: httpx.Client) -> None:
        name = world.name
        wanted = {
            "model": "mnist",
            "labels": {"3": 3, "7": 2},
            "metadata": {"ticket": f"{name}-vis-17"},
        }
        job = world.take("jobs", self._made(http, "/v1/jobs", wanted)["id"])
        world.markers.add(f"{name}-vis-17")
        long = self._made(http, "/v1/jobs", {"model": "mnist", "all": 20})["id"]
        ended = http.post(f"/v1/jobs/{world.take('jobs', long)}/cancel")
        assert ended.status_code == 200, ended.text
        self._take_files(world, http)
        ended_of(http, f"/v1/jobs/{job}")
        wanted = {"job": job, "format": "parquet"}
        export = world.take("exports", self._made(http, "/v1/exports", wanted)["id"])
        ended_of(http, f"/v1/exports/{export}")
        report = self._made(http, "/v1/reports", {"job": job, "quick": True})
        http.post(f"/v1/reports/{world.take('reports', report['id'])}/cancel")
        self._take_pipeline(world, http)
        hook = http.post("/v1/webhooks", json={"url": f"{HOOK}/{name}", "events": ["job.failed"]})
        if hook.status_code == 201:
            made = hook.json()
            world.take("webhooks", made["id"])
            world.markers |= {made["secret"], f"{HOOK}/{name}"}
            delivery = self._made(http, f"/v1/webhooks/{made['id']}/test", None)
            world.webhook_of[world.take("deliveries", delivery["id"])] = made["id"]

    def _take_files(self, world: World, http: httpx.Client) -> None:
        files, query = self.files, {"name": f"{world.name}-photos"}
        dataset = http.post("/v1/datasets", params=query, content=files["create_dataset"])
        assert dataset.status_code == 201, dataset.text
        world.take("datasets", dataset.json()["id"])
        query = {"name": f"{world.name}-net"}
        model = http.post("/v1/models/import", params=query, content=files["import_model"])
        assert model.status_code == 201, model.text
        world.take("models", model.json()["id"])
        world.names |= {"datasets": [f"{world.name}-photos"], "models": [f"{world.name}-net"]}
        world.markers |= {f"{world.name}-photos", f"{world.name}-net"}

    def _take_pipeline(self, world: World, http: httpx.Client) -> None:
        recipe = {
            "name": f"{world.name}-nightly",
            "source": {"dataset": f"{world.name}-photos"},
            "model": "mnist",
            "plan": {"labels": {"3": 1}},
        }
        world.take("pipelines", self._made(http, "/v1/pipelines", recipe)["id"])
        world.names["pipelines"] = [recipe["name"]]
        world.markers.add(recipe["name"])
        run = self._made(http, f"/v1/pipelines/{recipe['name']}/runs", None)
        http.post(f"/v1/runs/{world.take('runs', run['id'])}/cancel")


def located(location: str) -> tuple[str, str] | None:
    """Kind and id of what a `Location` names."""
    found = _LOCATION.fullmatch(location)
    return (found[1], found[2]) if found else None
