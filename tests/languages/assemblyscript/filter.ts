// The filter of the tests in AssemblyScript: the proxy-wasm ABI 0.2.1 by hand, the rest by the standard library, in
// which @assemblyscript/wasi-shim puts WASI in the place of a browser. What it does is told in ../README.md.

const OK: u32 = 0;
const CAS_MISMATCH: u32 = 8;

const INFO: u32 = 2;

const CONTINUE: u32 = 0;
const PAUSE: u32 = 1;

const REQUEST_BODY: u32 = 0;
const PLUGIN_CONFIGURATION: u32 = 7;

const REQUEST_HEADERS: u32 = 0;
const RESPONSE_HEADERS: u32 = 2;

@external("env", "proxy_log")
declare function hostLog(level: u32, text: ArrayBuffer, size: u32): u32;
@external("env", "proxy_get_buffer_bytes")
declare function getBufferBytes(kind: u32, start: u32, most: u32, at: usize, size: usize): u32;
@external("env", "proxy_get_header_map_value")
declare function getHeader(map: u32, name: ArrayBuffer, nameSize: u32, at: usize, size: usize): u32;
@external("env", "proxy_add_header_map_value")
declare function hostAddHeader(map: u32, name: ArrayBuffer, nameSize: u32, value: ArrayBuffer, size: u32): u32;
@external("env", "proxy_get_shared_data")
declare function getSharedData(key: ArrayBuffer, keySize: u32, at: usize, size: usize, cas: usize): u32;
@external("env", "proxy_set_shared_data")
declare function setSharedData(key: ArrayBuffer, keySize: u32, value: ArrayBuffer, size: u32, cas: u32): u32;
@external("env", "proxy_send_local_response")
declare function sendLocalResponse(
  status: u32, details: usize, detailsSize: u32, body: ArrayBuffer, size: u32, headers: usize, headersSize: u32,
  grpcStatus: i32
): u32;

// Where host functions write what they give: an address, a length, and the version of a shared value.
const AT = memory.data(12);
const SIZE = AT + 4;
const CAS = AT + 8;

let greeting = "";
// Bytes of the bodies, by stream.
const bodies = new Map<u32, u32>();

// The host's bytes are pinned until they are taken.
export function proxy_on_memory_allocate(size: u32): usize {
  return __pin(changetype<usize>(new ArrayBuffer(size)));
}

// What a host function gave; the host does not allocate for nothing.
function taken(status: u32): ArrayBuffer {
  const at = load<usize>(AT);
  if (status != OK || load<u32>(SIZE) == 0) return new ArrayBuffer(0);
  __unpin(at);
  return changetype<ArrayBuffer>(at);
}

function utf8(text: string): ArrayBuffer {
  return String.UTF8.encode(text);
}

function header(name: string): string {
  const bytes = utf8(name);
  return String.UTF8.decode(taken(getHeader(REQUEST_HEADERS, bytes, bytes.byteLength, AT, SIZE)));
}

function addHeader(map: u32, name: string, value: string): void {
  const key = utf8(name);
  const bytes = utf8(value);
  hostAddHeader(map, key, key.byteLength, bytes, bytes.byteLength);
}

// The number of responses so far, in all languages and on all workers: decimal digits.
function count(): string {
  const key = utf8("count");
  while (true) {
    const status = getSharedData(key, key.byteLength, AT, SIZE, CAS);
    const cas = status == OK ? load<u32>(CAS) : 0;
    const old = String.UTF8.decode(taken(status));
    const text = ((old == "" ? 0 : U32.parseInt(old)) + 1).toString();
    const bytes = utf8(text);
    if (setSharedData(key, key.byteLength, bytes, bytes.byteLength, cas) != CAS_MISMATCH) return text;
  }
}

export function proxy_abi_version_0_2_1(): void {}

export function proxy_on_context_create(id: u32, root: u32): void {
  if (root != 0) bodies.set(id, 0);
}

export function proxy_on_vm_start(root: u32, size: u32): bool {
  console.log("assemblyscript starts in " + process.env.get("STAGE"));
  return true;
}

export function proxy_on_configure(root: u32, size: u32): bool {
  greeting = String.UTF8.decode(taken(getBufferBytes(PLUGIN_CONFIGURATION, 0, size, AT, SIZE)));
  if (greeting == "") process.stderr.write("assemblyscript has no greeting\n");
  return greeting != "";
}

export function proxy_on_request_headers(id: u32, headers: u32, ends: bool): u32 {
  if (header("x-crash") == "assemblyscript") throw new Error("assemblyscript is to crash");
  if (header(":path") == "/local") {
    const body = utf8("a teapot in assemblyscript\n");
    sendLocalResponse(418, 0, 0, body, body.byteLength, 0, 0, -1);
    return PAUSE;
  }
  const name = header("x-name");
  if (name != "") {
    const text = greeting + " " + name;
    addHeader(REQUEST_HEADERS, "x-greeting", text);
    const line = utf8(text);
    hostLog(INFO, line, line.byteLength);
  }
  return CONTINUE;
}

export function proxy_on_request_body(id: u32, size: u32, ends: bool): u32 {
  const piece = taken(getBufferBytes(REQUEST_BODY, 0, size, AT, SIZE));
  bodies.set(id, bodies.get(id) + piece.byteLength);
  return CONTINUE;
}

export function proxy_on_response_headers(id: u32, headers: u32, ends: bool): u32 {
  addHeader(RESPONSE_HEADERS, "x-language", "assemblyscript");
  addHeader(RESPONSE_HEADERS, "x-body-bytes", bodies.get(id).toString());
  addHeader(RESPONSE_HEADERS, "x-count", count());
  return CONTINUE;
}

export function proxy_on_delete(id: u32): void {
  bodies.delete(id);
}
