"""Calls grpc_server.py at HOST:PORT and prints the caller that it saw."""

import sys

import grpc

with grpc.insecure_channel(sys.argv[1]) as channel:
    echo = channel.unary_unary("/test.Echo/Echo")
    for length in (0, 1, 1000, 1_000_000):
        body = bytes(length)
        answer, call = echo.with_call(body, timeout=10)
        assert answer == body, length
    caller = dict(call.trailing_metadata())["x-caller"]

    stream = channel.stream_stream("/test.Echo/Stream")
    sent = [bytes([number]) * number for number in range(100)]
    assert list(stream(iter(sent), timeout=10)) == sent

    try:
        channel.unary_unary("/test.Echo/Refuse")(b"", timeout=10)
        raise SystemExit("the refusal did not arrive")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
        assert error.details() == "not today", error
print(f"caller {caller}")
