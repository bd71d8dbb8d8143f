"""Takes orders over HTTP, called through the mesh, and puts them into the stream of their lane."""

import argparse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import redis

import queues
from oracle import Oracle


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", required=True, help="IP:port of the application")
    parser.add_argument("--admin", required=True, help="IP:port of the sidecar's admin port")
    parser.add_argument("--redis", required=True, help="socket of Redis")
    arguments = parser.parse_args()
    host, port = arguments.listen.rsplit(":", 1)
    server = ThreadingHTTPServer((host, int(port)), Orders)
    server.daemon_threads = True
    server.oracle = Oracle(arguments.admin)
    server.redis = redis.Redis(unix_socket_path=arguments.redis, decode_responses=True)
    server.serve_forever()


class Orders(BaseHTTPRequestHandler):
    """`POST /orders/NUMBER`."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        # Asked while the request is here: nobody can tell later.
        lane = self.server.oracle.lane_of(self.headers)
        message = {"order": self.path.removeprefix("/orders/")}
        message |= {name: self.headers[name] for name in queues.CARRIED if self.headers.get(name)}
        if lane:
            message["x-mesh-lane"] = lane
        with self.server.redis.pipeline(transaction=True) as change:
            if lane:
                change.sadd(queues.LANES, lane)
            change.xadd(queues.stream(lane), message)
            change.execute()
        self.answer(f"order {message['order']} is in {queues.stream(lane)}\n")

    def answer(self, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Orders are not logged one by one."""


if __name__ == "__main__":
    main()
