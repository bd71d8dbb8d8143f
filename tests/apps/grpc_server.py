"""A gRPC service made with grpcio: echoes bytes, unary and streaming, and tells what metadata it got."""

import sys
from concurrent import futures

import grpc


def unary(request, context):
    identity = dict(context.invocation_metadata()).get("l5d-client-id", "")
    context.set_trailing_metadata((("x-caller", identity),))
    return request


def stream(requests, context):
    for request in requests:
        yield request


def refuse(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")


handlers = {
    "Echo": grpc.unary_unary_rpc_method_handler(unary),
    "Stream": grpc.stream_stream_rpc_method_handler(stream),
    "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
}
server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
server.add_insecure_port(f"0.0.0.0:{sys.argv[1]}")
server.start()
server.wait_for_termination()
