"""Links made with FastAPI and httpx."""

import asyncio

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse

from links import arguments

client = httpx.AsyncClient(timeout=30)


def application(link):
    """The application of one link."""
    app = FastAPI()
    running = set()
    queue = asyncio.Queue()
    workers = []

    async def call(path):
        return await client.get(link.url(path), headers=link.host())

    async def call_late(path):
        await asyncio.sleep(link.late)
        await call(path)

    async def work():
        while True:
            await call(await queue.get())

    @app.get("/{path:path}")
    async def answer(request: Request):
        own, path = link.own(request.headers), request.url.path
        if link.next is None:
            return PlainTextResponse(own)
        if link.late is not None:
            task = asyncio.create_task(call_late(path))
            running.add(task)
            task.add_done_callback(running.discard)
            return PlainTextResponse(own)
        if link.worker:
            if not workers:
                workers.append(asyncio.create_task(work()))
            queue.put_nowait(path)
            return PlainTextResponse(own)
        answered = await call(path)
        return PlainTextResponse(f"{own} {answered.text}", answered.status_code)

    return app


async def main():
    """Serves all links until the process ends."""
    servers = []
    for link in arguments():
        host, port = link.listen
        config = uvicorn.Config(application(link), host=host, port=port, log_level="warning", access_log=False)
        servers.append(uvicorn.Server(config).serve())
    await asyncio.gather(*servers)


asyncio.run(main())
