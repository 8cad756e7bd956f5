"""A Ray head's dashboard as far as jobs go, in a thread of this process: what it is told, and what it answers."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from ray._private.authentication_test_utils import reset_auth_token_state

TOKEN = "t" * 64


@dataclass
class Dashboard:
    """The jobs it has; a job's log comes in pieces, and what it says of itself then is its last state."""

    address: str = ""
    token: str | None = None
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, list[str]] = field(default_factory=dict)
    becomes: dict[str, dict[str, Any]] = field(default_factory=dict)
    breaks: int = 0
    "How many times a log's connection breaks off after its first piece."
    refuses: str = ""
    "Why it takes no folders."
    submitted: list[dict[str, Any]] = field(default_factory=list)
    packages: dict[str, bytes] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)

    def add(self, name: str, now: str, log: tuple[str, ...] = (), start: int = 1, **becomes: Any) -> None:
        """A job: its status now, its log, and what of it changes once the log was read."""
        self.jobs[name] = {
            "type": "SUBMISSION",
            "submission_id": name,
            "status": now,
            "entrypoint": f"command of {name}",
            "start_time": start * 1000,
            "driver_exit_code": None,
        }
        self.logs[name] = list(log)
        self.becomes[name] = becomes

    def application(self) -> web.Application:
        """The routes that the SDK asks for."""
        app = web.Application(middlewares=[self._admit], client_max_size=2**30)
        app.add_routes(
            [
                web.get("/api/version", self._version),
                web.get("/api/packages/gcs/{name}", self._has),
                web.put("/api/packages/gcs/{name}", self._take),
                web.post("/api/jobs/", self._submit),
                web.get("/api/jobs/", self._list),
                web.get("/api/jobs/{id}", self._info),
                web.post("/api/jobs/{id}/stop", self._stop),
                web.get("/api/jobs/{id}/logs/tail", self._tail),
            ]
        )
        return app

    @web.middleware
    async def _admit(self, request: web.Request, handler: Any) -> web.StreamResponse:
        given = request.headers.get("Authorization")
        if self.token is not None and given is None:
            return web.Response(status=401, text="Unauthorized: Missing authentication token")
        if self.token is not None and given != f"Bearer {self.token}":
            return web.Response(status=403, text="Forbidden: Invalid authentication token")
        if "id" in request.match_info and request.match_info["id"] not in self.jobs:
            return web.Response(status=404, text=f"Job {request.match_info['id']} does not exist")
        return await handler(request)  # type: ignore[no-any-return]

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": ""})

    async def _has(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.match_info["name"] in self.packages else 404)

    async def _take(self, request: web.Request) -> web.Response:
        if self.refuses:
            return web.Response(status=500, text=self.refuses)
        self.packages[request.match_info["name"]] = await request.read()
        return web.Response()

    async def _submit(self, request: web.Request) -> web.Response:
        self.submitted.append(await request.json())
        name = f"raysubmit_{len(self.submitted)}"
        if name not in self.jobs:
            self.add(name, "RUNNING", ("working\n",), status="SUCCEEDED", driver_exit_code=0)
        return web.json_response({"job_id": name, "submission_id": name})

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response(list(self.jobs.values()))

    async def _info(self, request: web.Request) -> web.Response:
        return web.json_response(self.jobs[request.match_info["id"]])

    async def _stop(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        self.stopped.append(name)
        self.jobs[name] |= {"status": "STOPPED"}
        return web.json_response({"stopped": True})

    async def _tail(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["id"]
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for piece in self.logs[name]:
            await socket.send_str(piece)
            if self.breaks:
                self.breaks -= 1
                assert request.transport is not None
                await asyncio.sleep(0.05)
                request.transport.abort()
                return socket
        self.jobs[name] |= self.becomes[name]
        return socket


@contextmanager
def serving(dashboard: Dashboard) -> Iterator[Dashboard]:
    """The dashboard on a free port of the loopback address, and no token in Ray's memory from a cluster before."""
    reset_auth_token_state()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> web.AppRunner:
        runner = web.AppRunner(dashboard.application())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        dashboard.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), loop).result(60)
    try:
        yield dashboard
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()
