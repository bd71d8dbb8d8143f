"""Does orders: those of its own lane, and those of lanes that its level serves because they have nobody else."""

import argparse
import signal
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import redis

import queues
from oracle import BASELINE, Oracle

# What consumers are to the mesh; its health check says who of them lives.
SERVICE = "c.demo:8080"
# Whom a consumer calls for each order.
CALLED = "http://d:8080/served"
# Seconds that an order takes.
WORK = 0.02
# Milliseconds for which an order may be with a consumer before another takes it: longer than one ever takes.
CLAIM_AFTER = 2_000
# Orders of a dead consumer that are taken over at once.
CLAIMED = 10
# Milliseconds that a consumer waits for an order before it asks again which lanes are its own to take.
WAIT = 200
# Seconds without a turn after which a consumer no longer counts as alive.
TURN = 5

# An order is done and acknowledged in one step, and only for the consumer that is first: what was taken over from one
# who was merely slow is not done twice. A database would note the message's id in the transaction of its own change.
DO = """
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
redis.call('XDEL', KEYS[1], ARGV[2])
redis.call('RPUSH', KEYS[2], ARGV[3])
return 1
"""


class Consumer:
    def __init__(self, arguments):
        self.name = arguments.name
        self.oracle = Oracle(arguments.admin)
        self.redis = redis.Redis(unix_socket_path=arguments.redis, decode_responses=True)
        self.do = self.redis.register_script(DO)
        # Calls leave by the sidecar, as those of any application.
        self.calls = urllib.request.build_opener(urllib.request.ProxyHandler({"http": f"http://{arguments.outbound}"}))
        self.stopping = threading.Event()
        self.groups = set()
        self.turned = time.monotonic()

    def run(self):
        while not self.stopping.is_set():
            try:
                self.turn()
            except OSError as error:
                # The sidecar or a service is not there now; what was not done stays in the queue.
                print(f"{self.name}: {error}", flush=True)
                self.stopping.wait(0.5)
            self.turned = time.monotonic()

    def turn(self):
        lanes = self.lanes()
        self.redis.hset(queues.TAKES, self.name, " ".join(lane or "-" for lane in lanes))
        for lane in lanes:
            for identifier, message in self.taken_over(lane):
                self.work(lane, identifier, message)
        streams = {queues.stream(lane): ">" for lane in lanes}
        if not streams:
            self.stopping.wait(WAIT / 1000)
            return
        read = self.redis.xreadgroup(queues.GROUP, self.name, streams, count=1, block=WAIT)
        of_stream = {queues.stream(lane): lane for lane in lanes}
        for stream, messages in read or []:
            for identifier, message in messages:
                self.work(of_stream[stream], identifier, message)

    def lanes(self):
        """Lanes whose orders are this consumer's now; an empty label stands for orders without lane."""
        own = self.oracle.own_levels()
        taken = [""] if BASELINE in own else []
        for lane in sorted(self.redis.smembers(queues.LANES)):
            is_own = any(lane in (level, level.partition("/")[2]) for level in own)
            if is_own or self.oracle.level_for(SERVICE, lane) in own:
                taken.append(lane)
        for lane in taken:
            self.join(queues.stream(lane))
        return taken

    def join(self, stream):
        """Makes the consumer group of a stream; it begins with the first order."""
        if stream in self.groups:
            return
        try:
            self.redis.xgroup_create(stream, queues.GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        self.groups.add(stream)

    def taken_over(self, lane):
        """Orders that somebody took and has not done for too long: a consumer that died, or a call that failed."""
        stream = queues.stream(lane)
        claimed = self.redis.xautoclaim(stream, queues.GROUP, self.name, CLAIM_AFTER, start_id="0-0", count=CLAIMED)
        return claimed[1]

    def work(self, lane, identifier, message):
        time.sleep(WORK)
        # The order's lane goes on, whichever level this consumer is of.
        headers = {name: message[name] for name in queues.CARRIED if name in message}
        # A consumer that dies between this call and the next line has its order done again: who is called can tell.
        request = urllib.request.Request(CALLED, headers=headers | {"idempotency-key": identifier})
        with self.calls.open(request, timeout=10) as answer:
            served = answer.read().decode().strip()
        note = f"{message['order']} {lane or '-'} {self.name} {served}"
        self.do(keys=[queues.stream(lane), queues.DONE], args=[queues.GROUP, identifier, note])


class Health(BaseHTTPRequestHandler):
    """`GET /healthz`: whether the consumer takes turns."""

    def do_GET(self):
        alive = time.monotonic() - self.server.consumer.turned < TURN
        self.send_response(204 if alive else 503)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Checks are not logged."""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="name in the consumer group, of this instance alone")
    parser.add_argument("--listen", required=True, help="IP:port at which it is asked for its health")
    parser.add_argument("--admin", required=True, help="IP:port of the sidecar's admin port")
    parser.add_argument("--outbound", required=True, help="IP:port of the sidecar for the application's calls")
    parser.add_argument("--redis", required=True, help="socket of Redis")
    arguments = parser.parse_args()
    consumer = Consumer(arguments)
    host, port = arguments.listen.rsplit(":", 1)
    health = ThreadingHTTPServer((host, int(port)), Health)
    health.consumer, health.daemon_threads = consumer, True
    threading.Thread(target=health.serve_forever, daemon=True).start()
    # What is being done is finished first.
    signal.signal(signal.SIGTERM, lambda *_: consumer.stopping.set())
    consumer.run()


if __name__ == "__main__":
    main()
