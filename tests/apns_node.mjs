// An APNs made of node's own http2 and TLS. Reads one JSON object from its argument, prints one JSON
// line {"port": …} when it listens, and one with all it has seen when its standard input ends.
//
//   key, cert, ca     files: the server's, and the CA that client certificates must be of
//   streams           SETTINGS_MAX_CONCURRENT_STREAMS
//   delay             milliseconds before each answer
//   answers           {first four hex digits of a token: [status, reason]}; 200 for all others
//   plan              [{at: number of requests, do: "goaway"|"destroy"|"streams"|"refuse"|"break", …}]
import fs from 'node:fs';
import http2 from 'node:http2';

const config = JSON.parse(process.argv[2]);
const seen = {};        // token: how often its whole request was read and taken on
const topics = {};      // topic in the request: topic (UID) of the client's certificate
const serials = {};     // of a client's certificate: how many connections showed it
const bad = [];         // requests that Apple would refuse
let requests = 0, sessions = 0, most = 0, open = 0;
const plan = [...(config.plan ?? [])].sort((a, b) => a.at - b.at);

const server = http2.createSecureServer({
  key: fs.readFileSync(config.key),
  cert: fs.readFileSync(config.cert),
  ca: fs.readFileSync(config.ca),
  requestCert: true,
  rejectUnauthorized: true,
  settings: { maxConcurrentStreams: config.streams ?? 1000 },
});

const raw = new Map();  // the sockets below the sessions, to be cut without a goodbye
server.on('secureConnection', (socket) => {
  raw.set(socket.remotePort, socket);
  socket.on('error', () => {});
});
server.on('session', (session) => {
  sessions += 1;
  session.lastTaken = Infinity;
  session.topic = session.socket.getPeerCertificate().subject?.UID ?? '';
  const { serialNumber } = session.socket.getPeerCertificate();
  serials[serialNumber] = (serials[serialNumber] ?? 0) + 1;
  session.port = session.socket.remotePort;
  session.on('error', () => {});
});
server.on('sessionError', () => {});
server.on('stream', (stream, headers) => {
  const { session } = stream;
  stream.on('error', () => {});
  if (stream.id > session.lastTaken) return;
  requests += 1;
  while (plan.length && plan[0].at <= requests) act(plan.shift(), session, stream);
  if (stream.destroyed || session.destroyed || stream.id > session.lastTaken || stream.refused) return;
  open += 1;
  most = Math.max(most, open);
  let body = '';
  stream.setEncoding('utf8');
  stream.on('data', (chunk) => { body += chunk; });
  stream.on('close', () => { open -= 1; });
  stream.on('end', () => {
    if (session.destroyed) return;
    const token = headers[':path'].slice('/3/device/'.length);
    seen[token] = (seen[token] ?? 0) + 1;
    topics[headers['apns-topic']] = session.topic;
    if (headers[':method'] !== 'POST' || headers['apns-push-type'] !== 'mdm'
        || !/^[0-9]+$/.test(headers['apns-expiration']) || !JSON.parse(body).mdm) bad.push(token);
    const [status, reason] = config.answers?.[token.slice(0, 4)] ?? [200, ''];
    const answer = () => {
      if (stream.destroyed) return;
      stream.respond({ ':status': status, 'apns-id': `id-${token}` });
      stream.end(reason ? JSON.stringify({ reason }) : '');
    };
    if (config.delay) setTimeout(answer, config.delay); else answer();
  });
});

function act(step, session, stream) {
  if (step.do === 'goaway') {            // graceful: this stream is the last one taken on
    session.lastTaken = stream.id;
    session.goaway(http2.constants.NGHTTP2_NO_ERROR, stream.id);
  } else if (step.do === 'destroy') {
    raw.get(session.port).destroy();
  } else if (step.do === 'streams') {
    session.settings({ maxConcurrentStreams: step.value });
  } else if (step.do === 'refuse') {
    stream.refused = true;
    stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
  } else if (step.do === 'break') {
    stream.refused = true;
    stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
  } else if (step.do === 'freeze') {     // the test stops this whole process
    process.stdout.write('{"freeze":true}\n');
  }
}

server.listen(config.port ?? 0, '127.0.0.1', () => {
  process.stdout.write(JSON.stringify({ port: server.address().port }) + '\n');
});
process.stdin.on('end', () => {
  process.stdout.write(JSON.stringify({ seen, topics, serials, bad, sessions, requests, most }) + '\n', () => process.exit(0));
});
process.stdin.resume();
