"""Links made with grpcio, client and server."""

from concurrent import futures

import grpc

from links import arguments

LIMIT = 30


class Handler(grpc.GenericRpcHandler):
    """Answers every method of every service of one link; messages are text."""

    def __init__(self, link):
        self.link = link
        self.channel = None
        if link.next is not None:
            self.channel = grpc.insecure_channel(link.outbound, options=[("grpc.default_authority", link.next)])

    def service(self, handler_call_details):
        path = handler_call_details.method

        def answer(message, context):
            own = self.link.own(dict(context.invocation_metadata())).encode()
            if self.channel is None:
                return own
            try:
                return own + b" " + self.channel.unary_unary(path)(message, timeout=LIMIT)
            except grpc.RpcError as error:
                context.abort(grpc.StatusCode.UNAVAILABLE, f"{self.link.name}: {error}")

        return grpc.unary_unary_rpc_method_handler(answer)


def main():
    """Serves all links until the process ends."""
    servers = []
    for link in arguments():
        host, port = link.listen
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), handlers=[Handler(link)])
        server.add_insecure_port(f"{host}:{port}")
        server.start()
        servers.append(server)
    for server in servers:
        server.wait_for_termination()


if __name__ == "__main__":
    main()
