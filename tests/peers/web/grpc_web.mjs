// Calls of gRPC-Web to the service of grpc_peer.py, from a page or from Node. Messages are plain bytes.

const text = (bytes) => new TextDecoder().decode(bytes);
const bytes = (text) => new TextEncoder().encode(text);

export function assert(condition, ...told) {
  if (!condition) throw new Error(told.map((it) => JSON.stringify(it)).join(' '));
}

class Client {
  constructor(grpc, url, format) {
    this.grpc = grpc;
    this.url = url;
    this.format = format;
    this.client = new grpc.GrpcWebClientBase({ format });
  }

  method(name, kind) {
    const { MethodDescriptor } = this.grpc;
    return new MethodDescriptor(name, kind, Uint8Array, Uint8Array, (message) => message, (message) => message);
  }

  unary(name, message, metadata = {}) {
    const method = this.method(name, this.grpc.MethodType.UNARY);
    return this.client.unaryCall(this.url + name, message, metadata, method);
  }

  stream(name, message) {
    const method = this.method(name, this.grpc.MethodType.SERVER_STREAMING);
    return this.client.serverStreaming(this.url + name, message, {}, method);
  }

  async failure(name, message, metadata) {
    try {
      await this.unary(name, message, metadata);
    } catch (error) {
      return error;
    }
    throw new Error(`${name} did not fail`);
  }
}

const TRIALS = {
  async messagesOfAllSizesPass(client) {
    for (const size of [0, 1, 2, 3, 16_000, 70_000, 1_000_000]) {
      const message = Uint8Array.from({ length: size }, (_, at) => at % 251);
      const answer = await client.unary('/test.Peer/Echo', message);
      assert(answer.length === size && answer.every((byte, at) => byte === at % 251), size, answer.length);
    }
  },

  async metadataPasses(client) {
    const method = client.method('/test.Peer/Echo', client.grpc.MethodType.UNARY);
    const name = client.url + '/test.Peer/Echo';
    let call;
    const answered = new Promise((resolve, reject) => {
      const settle = (error, answer) => (error ? reject(error) : resolve(answer));
      call = client.client.rpcCall(name, bytes('x'), { 'x-text': 'a b' }, method, settle);
    });
    const told = {};
    const metadata = new Promise((resolve) => call.on('metadata', (it) => resolve(Object.assign(told, it))));
    const ended = new Promise((resolve) => call.on('status', (it) => resolve(Object.assign(told, it.metadata, it))));
    await Promise.all([answered, metadata, ended]);
    assert(told['x-text'] === 'a b', told);
    assert(told['x-trailer'] === 'end' && told['x-trailer-bin'] === 'AP8', told);
    assert(told.code === 0, told);
  },

  async errorsPass(client) {
    const error = await client.failure('/test.Peer/Fail', bytes(''));
    assert(error.code === client.grpc.StatusCode.FAILED_PRECONDITION, error);
    assert(error.message === 'not \u00fcber 100%', error.message);
    assert(error.metadata['x-reason'] === 'asked for', error.metadata);
  },

  async unknownMethodsAreTheServices(client) {
    const error = await client.failure('/test.Peer/Nothing', bytes(''));
    assert(error.code === client.grpc.StatusCode.UNIMPLEMENTED, error);
  },

  async errorsOfTheGatewayEndCalls(client) {
    const { StatusCode } = client.grpc;
    for (const [name, expected] of [
      ['/test.Gone/Call', StatusCode.UNAVAILABLE],
      ['/test.Page/Call', StatusCode.UNIMPLEMENTED],
      ['/test.Slow/Wait', StatusCode.DEADLINE_EXCEEDED],
      ['/test.Small/Echo', StatusCode.RESOURCE_EXHAUSTED],
    ]) {
      const error = await client.failure(name, bytes('more than ten bytes'));
      assert(error.code === expected, name, error.code, error.message);
    }
  },

  async deadlinesAreKept(client) {
    const deadline = String(Date.now() + 300);
    const error = await client.failure('/test.Peer/Wait', bytes(''), { deadline });
    assert(error.code === client.grpc.StatusCode.DEADLINE_EXCEEDED, error);
  },

  async streamsOfAnswers(client) {
    const answers = [];
    await new Promise((resolve, reject) => {
      const stream = client.stream('/test.Peer/Count', bytes('300'));
      stream.on('data', (answer) => answers.push(text(answer)));
      stream.on('error', reject);
      stream.on('end', resolve);
    });
    assert(answers.length === 300 && answers.every((answer, at) => answer === String(at)), answers.length);
  },

  // Each message is sent when the one before was seen. Only pages, and only of text, read what is not whole.
  async messagesOfTextComeAtOnce(client) {
    if (client.format !== 'text' || typeof document === 'undefined') return;
    const key = bytes(String(Math.random()));
    const answers = [];
    await new Promise((resolve, reject) => {
      const stream = client.stream('/test.Peer/Steps', key);
      stream.on('data', (answer) => {
        answers.push(text(answer));
        client.unary('/test.Peer/Step', key).catch(reject);
      });
      stream.on('error', reject);
      stream.on('end', resolve);
    });
    assert(answers.join() === '0,1,2', answers);
  },
};

/** What went wrong with these calls, in both forms. `grpc` is the package grpc-web. */
export async function grpcWeb(grpc, url) {
  const problems = [];
  for (const format of ['binary', 'text']) {
    const client = new Client(grpc, url, format);
    for (const [name, trial] of Object.entries(TRIALS)) {
      await trial(client).catch((error) => problems.push(`${format}, ${name}: ${error.message}`));
    }
  }
  return problems;
}
