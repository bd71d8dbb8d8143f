"""A service that registers itself with Nacos by the official SDK and knows nothing of a mesh."""

import argparse
import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from v2.nacos import ClientConfigBuilder, NacosNamingService, RegisterInstanceParam


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", required=True, help="IP:port of this instance, as registered")
    parser.add_argument("--nacos", required=True, help="IP:port of Nacos")
    parser.add_argument("--folder", required=True, help="for the SDK's logs and cache")
    parser.add_argument("--version", required=True, help="what answers say; with a lane, what the registration says")
    parser.add_argument("--lane", help="lane mark in the metadata")
    arguments = parser.parse_args()
    host, port = arguments.listen.rsplit(":", 1)
    server = ThreadingHTTPServer((host, int(port)), Stock)
    server.daemon_threads = True
    server.version = arguments.version
    threading.Thread(target=server.serve_forever, daemon=True).start()
    asyncio.run(register(arguments, host, int(port)))


async def register(arguments, host, port):
    configuration = (
        ClientConfigBuilder()
        .server_address(arguments.nacos)
        .log_dir(f"{arguments.folder}/logs")
        .cache_dir(f"{arguments.folder}/cache")
        .build()
    )
    naming = await NacosNamingService.create_naming_service(configuration)
    metadata = {"lane": arguments.lane} if arguments.lane else {}
    await naming.register_instance(
        RegisterInstanceParam(service_name="stock", ip=host, port=port, metadata=metadata, ephemeral=True)
    )
    # The registration lasts as long as this process.
    await asyncio.Event().wait()


class Stock(BaseHTTPRequestHandler):
    """Says which version answers."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"stock/{self.server.version}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Requests are not logged one by one."""


if __name__ == "__main__":
    main()
