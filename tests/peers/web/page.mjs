// A page that does what pages do, through a gateway, and reports what went wrong to /report.

import * as grpc from './grpc-web.js';
import { assert, grpcWeb } from './grpc_web.mjs';

const acknowledge = () => fetch('/acknowledge', { method: 'POST' });

const TRIALS = {
  async bodiesPass() {
    const body = Uint8Array.from({ length: 1_000_000 }, (_, at) => at % 251);
    const answer = await fetch('/echo?a=b', { method: 'POST', body, headers: { 'content-type': 'application/x-own' } });
    const echoed = new Uint8Array(await answer.arrayBuffer());
    assert(echoed.length === body.length && echoed.every((byte, at) => byte === body[at]), echoed.length);
    assert(answer.headers.get('x-target') === '/echo?a=b', answer.headers.get('x-target'));
  },

  async manyRequestsAtOnce() {
    const answers = Array.from({ length: 100 }, (_, at) => fetch(`/echo?${at}`).then((it) => it.headers.get('x-target')));
    (await Promise.all(answers)).forEach((target, at) => assert(target === `/echo?${at}`, target));
  },

  // Each piece is sent when the one before was seen: nothing may be held back.
  async piecesComeAtOnce() {
    const reader = (await fetch('/pieces')).body.getReader();
    for (const expected of ['data: 0\n\n', 'data: 1\n\n', 'data: 2\n\n']) {
      const piece = new TextDecoder().decode((await reader.read()).value);
      assert(piece === expected, piece);
      await acknowledge();
    }
    assert((await reader.read()).done);
  },

  async eventsComeAtOnce() {
    const seen = [];
    await new Promise((resolve, reject) => {
      const source = new EventSource('/pieces');
      source.onmessage = ({ data }) => {
        seen.push(data);
        acknowledge();
        if (data === '2') {
          source.close();
          resolve();
        }
      };
      source.onerror = () => reject(new Error(`the events ended after ${seen}`));
    });
    assert(seen.join() === '0,1,2', seen);
  },

  async socketsTalk() {
    const socket = new WebSocket(new URL('/socket', location.href.replace('http', 'ws')), ['chat']);
    socket.binaryType = 'arraybuffer';
    const messages = [];
    const closed = await new Promise((resolve) => {
      socket.onopen = () => ['hello', new Uint8Array(1_000_000), 'who', 'ping', 'close'].forEach((it) => socket.send(it));
      socket.onmessage = ({ data }) => messages.push(data);
      socket.onclose = resolve;
    });
    assert(closed.code === 4321 && closed.reason === 'as asked for', closed.code, closed.reason);
    const [hello, large, who, pong] = messages;
    assert(hello === 'hello' && large?.byteLength === 1_000_000 && pong === 'pong came', messages.length, hello, pong);
    assert(who === '/socket chat None', who);
  },

  async socketsAreRefused() {
    const socket = new WebSocket(new URL('/refused', location.href.replace('http', 'ws')));
    const opened = await new Promise((resolve) => {
      socket.onopen = () => resolve(true);
      socket.onerror = () => resolve(false);
    });
    assert(!opened, 'a refused socket opened');
  },
};

const problems = await grpcWeb(grpc, location.origin);
for (const [name, trial] of Object.entries(TRIALS)) {
  await trial().catch((error) => problems.push(`${name}: ${error.message}`));
}
const [page] = performance.getEntriesByType('navigation');
await fetch(`/report?${page.nextHopProtocol}`, { method: 'POST', body: problems.join('\n') });
