"""Links made with Flask and requests."""

import queue
import threading
import time

import requests
from flask import Flask, Response, request
from werkzeug.serving import make_server

from links import arguments


def application(link):
    """The application of one link."""
    app = Flask(link.name)
    paths = queue.Queue()
    workers = []

    def call(path):
        return requests.get(link.url(path), headers=link.host(), timeout=30)

    def call_late(path):
        time.sleep(link.late)
        call(path)

    def work():
        while True:
            call(paths.get())

    def start(target, *arguments_of_target):
        thread = threading.Thread(target=target, args=arguments_of_target, daemon=True)
        thread.start()
        return thread

    @app.get("/", defaults={"path": ""})
    @app.get("/<path:path>")
    def answer(path):
        own, path = link.own(request.headers), f"/{path}"
        if link.next is None:
            return Response(own)
        if link.late is not None:
            start(call_late, path)
            return Response(own)
        if link.worker:
            if not workers:
                workers.append(start(work))
            paths.put(path)
            return Response(own)
        answered = call(path)
        return Response(f"{own} {answered.text}", answered.status_code)

    return app


def main():
    """Serves all links until the process ends."""
    threads = []
    for link in arguments():
        server = make_server(*link.listen, application(link), threaded=True)
        threads.append(threading.Thread(target=server.serve_forever))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
