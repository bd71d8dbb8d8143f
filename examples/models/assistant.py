"""An application that asks a model for each request. It holds no key, and knows neither providers nor versions of models.

`GET /ask` is answered with the model's answer, and with which target its sidecar says has given it.
"""

import argparse
import http.client
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What an application hands on so that its calls stay in the lane of the request they are made for.
CARRIED = ("x-mesh-lane", "baggage", "traceparent", "tracestate")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", required=True, help="IP:port of the application")
    parser.add_argument("--outbound", required=True, help="IP:port where its sidecar takes its calls")
    arguments = parser.parse_args()
    host, port = arguments.listen.rsplit(":", 1)
    server = ThreadingHTTPServer((host, int(port)), Assistant)
    server.daemon_threads = True
    server.outbound = arguments.outbound
    server.serve_forever()


class Assistant(BaseHTTPRequestHandler):
    """`GET /ask`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        question = {"model": "chat", "messages": [{"role": "user", "content": "how are you"}]}
        headers = {name: self.headers[name] for name in CARRIED if self.headers.get(name)}
        headers |= {"host": "models.internal", "content-type": "application/json"}
        sidecar = http.client.HTTPConnection(self.server.outbound, timeout=60)
        try:
            sidecar.request("POST", "/v1/chat/completions", json.dumps(question), headers)
            answer = sidecar.getresponse()
            fields = json.loads(answer.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            return self.answer(502, f"no answer of a model: {error}\n")
        finally:
            sidecar.close()
        if answer.status != 200:
            return self.answer(502, f"the model says {answer.status}: {fields['error']['message']}\n")
        said = fields["choices"][0]["message"]["content"]
        self.answer(200, f"{answer.getheader('x-mesh-model-target')}: {said}\n")

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Questions are not logged one by one."""


if __name__ == "__main__":
    main()
