// Links made with Express and Node's own HTTP client.

const http = require("node:http");
const { EventEmitter } = require("node:events");
const express = require("express");

const agent = new http.Agent({ keepAlive: true });

function parse(text) {
  const [listen, name, outbound, next, behaviour] = text.split(",");
  const [address, port] = listen.split(":");
  const [outboundAddress, outboundPort] = outbound.split(":");
  return {
    address,
    port: Number(port),
    name,
    outboundAddress,
    outboundPort: Number(outboundPort),
    next: next === "-" ? undefined : next,
    late: behaviour.startsWith("late:") ? Number(behaviour.slice("late:".length)) * 1000 : undefined,
    worker: behaviour === "worker",
  };
}

function call(link, path) {
  return new Promise((resolve, reject) => {
    const options = { host: link.outboundAddress, port: link.outboundPort, path, agent, headers: { host: link.next } };
    const request = http.get(options, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (part) => (text += part));
      response.on("end", () => resolve({ status: response.statusCode, text }));
      response.on("error", reject);
    });
    request.on("error", reject);
  });
}

// Calls one path after the other, in the context in which it was started.
async function work(link, paths, more) {
  for (;;) {
    while (paths.length > 0) {
      await call(link, paths.shift());
    }
    await new Promise((resolve) => more.once("path", resolve));
  }
}

function application(link) {
  const app = express();
  const paths = [];
  const more = new EventEmitter();
  let working = false;
  app.use(async (request, response) => {
    const own = `${link.name}[${request.headers["x-mesh-lane"] ?? "-"}]`;
    response.type("text/plain");
    if (link.next === undefined) {
      response.send(own);
    } else if (link.late !== undefined) {
      setTimeout(() => call(link, request.path), link.late);
      response.send(own);
    } else if (link.worker) {
      paths.push(request.path);
      if (!working) {
        working = true;
        work(link, paths, more);
      }
      more.emit("path");
      response.send(own);
    } else {
      const answered = await call(link, request.path);
      response.status(answered.status).send(`${own} ${answered.text}`);
    }
  });
  return app;
}

for (const link of process.argv.slice(2).map(parse)) {
  http.createServer(application(link)).listen(link.port, link.address);
}
