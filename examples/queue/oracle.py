"""The lane oracle of a pod's sidecar (docs/lane-oracle.md): what an application asks that hands work over by a queue."""

import json
import urllib.error
import urllib.parse
import urllib.request

# Level of instances that are in no lane.
BASELINE = "baseline"
# Stages in which the label of a lane counts; instances of a lane in another one are baseline.
COUNTS = ("draft", "active", "draining")
# Headers by which the sidecar finds the lane of a request.
CARRIERS = ("x-mesh-lane", "baggage", "traceparent", "b3", "sw8")
# Seconds until a question is given up.
PATIENCE = 3


class Oracle:
    """Asks the admin port of the sidecar, which answers to its own pod only."""

    def __init__(self, admin):
        self.base = f"http://{admin}/lane/"
        # Not by way of a proxy, whatever the environment says.
        self.direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def lane_of(self, headers):
        """The label of a request with these headers; an empty string for baseline."""
        carried = {name: headers[name] for name in CARRIERS if headers.get(name)}
        status, told = self._ask("resolve", carried) if carried else (404, {})
        if status == 404:
            return ""
        return f"{told['group']}/{told['lane']}" if told["group"] else told["lane"]

    def own_levels(self):
        """The lanes of this pod as `<group>/<lane>`, or baseline."""
        lanes = [lane for lane in self._ask("self")[1]["lanes"] if lane["state"] in COUNTS]
        return {f"{lane['group']}/{lane['lane']}" for lane in lanes} or {BASELINE}

    def level_for(self, service, lane):
        """The level that serves a lane at a service now; None where the lane takes nobody else's and has nobody."""
        status, told = self._ask("active", {"service": service, "lane": lane})
        return BASELINE if status == 404 else told["servedBy"]["level"]

    def _ask(self, question, parameters=None):
        query = urllib.parse.urlencode(parameters or {}, quote_via=urllib.parse.quote)
        try:
            with self.direct.open(f"{self.base}{question}?{query}", timeout=PATIENCE) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return 404, {}
            raise
