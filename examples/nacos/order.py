"""A service that finds another one in Nacos by the official SDK and calls an instance at the address it was given. Of the
headers that it was called with it forwards the trace context alone, as every tracing library does."""

import argparse
import asyncio
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests
from v2.nacos import ClientConfigBuilder, ListInstanceParam, NacosNamingService


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", required=True, help="IP:port of the application")
    parser.add_argument("--outbound", required=True, help="IP:port of the sidecar for calls; where calls are captured, none")
    parser.add_argument("--nacos", required=True, help="IP:port of Nacos")
    parser.add_argument("--folder", required=True, help="for the SDK's logs and cache")
    arguments = parser.parse_args()
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    host, port = arguments.listen.rsplit(":", 1)
    server = ThreadingHTTPServer((host, int(port)), Order)
    server.daemon_threads = True
    server.find = lambda: asyncio.run_coroutine_threadsafe(find(naming), loop).result(timeout=10)
    server.proxies = {"http": f"http://{arguments.outbound}"}
    naming = asyncio.run_coroutine_threadsafe(connect(arguments), loop).result(timeout=30)
    server.serve_forever()


async def connect(arguments):
    configuration = (
        ClientConfigBuilder()
        .server_address(arguments.nacos)
        .log_dir(f"{arguments.folder}/logs")
        .cache_dir(f"{arguments.folder}/cache")
        .build()
    )
    return await NacosNamingService.create_naming_service(configuration)


async def find(naming):
    found = await naming.list_instances(
        ListInstanceParam(service_name="stock", subscribe=False, healthy_only=True)
    )
    return [f"{instance.ip}:{instance.port}" for instance in found]


class Order(BaseHTTPRequestHandler):
    """Asks any instance of stock, as an SDK does that balances by itself."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        found = self.server.find()
        if found:
            address = random.choice(found)
            trace = {"traceparent": self.headers["traceparent"]} if "traceparent" in self.headers else {}
            answer = requests.get(f"http://{address}/", headers=trace, proxies=self.server.proxies, timeout=10)
            status, body = answer.status_code, f"order > {answer.text.strip()}".encode()
        else:
            status, body = 503, b"Nacos knows no instance of stock"
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Requests are not logged one by one."""


if __name__ == "__main__":
    main()
