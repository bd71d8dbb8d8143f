// Links made with grpc-js, client and server. The method is always /lane.Link/Call; messages are text.

const grpc = require("@grpc/grpc-js");

const PATH = "/lane.Link/Call";
const LIMIT = 30_000;
// Objects, since grpc-js takes the empty text for no message.
const write = ({ text }) => Buffer.from(text);
const read = (bytes) => ({ text: bytes.toString() });

function parse(text) {
  const [listen, name, outbound, next] = text.split(",");
  return { listen, name, outbound, next: next === "-" ? undefined : next };
}

function serve(link) {
  const channel =
    link.next === undefined
      ? undefined
      : new grpc.Client(link.outbound, grpc.credentials.createInsecure(), { "grpc.default_authority": link.next });
  const answer = (call, done) => {
    const own = `${link.name}[${call.metadata.get("x-mesh-lane")[0] ?? "-"}]`;
    if (channel === undefined) {
      done(null, { text: own });
      return;
    }
    const options = { deadline: Date.now() + LIMIT };
    channel.makeUnaryRequest(PATH, write, read, call.request, new grpc.Metadata(), options, (error, rest) =>
      error ? done({ code: grpc.status.UNAVAILABLE, details: `${link.name}: ${error.message}` }) : done(null, { text: `${own} ${rest.text}` }),
    );
  };
  const server = new grpc.Server();
  const method = { path: PATH, requestStream: false, responseStream: false };
  const codec = { requestSerialize: write, requestDeserialize: read, responseSerialize: write, responseDeserialize: read };
  server.addService({ call: { ...method, ...codec } }, { call: answer });
  server.bindAsync(link.listen, grpc.ServerCredentials.createInsecure(), (error) => {
    if (error) {
      throw error;
    }
  });
}

process.argv.slice(2).map(parse).forEach(serve);
