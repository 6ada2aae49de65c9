// What Deno runs in its jail, and what runs the code in it. Its standard input and output are the worker: frames of a length
// (u32, little-endian) and JSON. It asks, and reads an answer where there is one; it is never spoken to otherwise.
//
// Code finds here what it finds in the built-in engine, by the same bridge. What Deno has beyond that is taken away where it
// would let code see what is not in the run's record: clocks, randomness, the order in which threads end, when memory is
// collected. What is kept is a list, so a later Deno brings nothing in. The jail holds without any of this.
const { parse, stringify } = JSON;
const { apply, ownKeys } = Reflect;
const { defineProperty } = Object;
const global = globalThis;
const input = Deno.stdin;
const output = Deno.stdout;
const { version } = Deno;
const encoder = new TextEncoder();
const decoder = new TextDecoder();
const { subarray } = Uint8Array.prototype;
const Bytes = Uint8Array;
const later = setImmediate;
const PromiseOwn = Promise;
const { then } = Promise.prototype;
const errorText = Error.prototype.toString;
const leave = Deno.exit;

// ---- The worker ----------------------------------------------------------------------------------------------------------

const send = (frame) => {
  const body = encoder.encode(stringify(frame));
  const bytes = new Bytes(4 + body.length);
  new DataView(bytes.buffer).setUint32(0, body.length, true);
  bytes.set(body, 4);
  for (let at = 0; at < bytes.length; ) at += output.writeSync(apply(subarray, bytes, [at]));
};
const read = (count) => {
  const bytes = new Bytes(count);
  for (let at = 0; at < count; ) {
    const got = input.readSync(apply(subarray, bytes, [at]));
    if (got === null) leave(0);
    at += got;
  }
  return bytes;
};
const hear = () => {
  const head = read(4);
  return parse(decoder.decode(read(head[0] + head[1] * 256 + head[2] * 65536 + head[3] * 16777216)));
};
const ask = (frame) => {
  send(frame);
  return hear();
};

// ---- What the bridge stands on -------------------------------------------------------------------------------------------

let clock = 0;
let elapsed = 0;
let floats = [];
let drawn = 0;
const native = {
  __proto__: null,
  call: (op, params, options) => ask({ __proto__: null, say: "call", op, params, options }).call,
  timer: (after_ms) => ask({ __proto__: null, say: "timer", after_ms }).call,
  log: (level, text) => send({ __proto__: null, say: "log", level, text }),
  now: () => clock,
  elapsed: () => elapsed,
  random: () => {
    if (drawn === floats.length) {
      floats = ask({ __proto__: null, say: "floats" }).floats;
      drawn = 0;
    }
    return floats[drawn++];
  },
  randomBytes: (count) => new Bytes(ask({ __proto__: null, say: "bytes", count }).bytes),
  operation: (path) => ask({ __proto__: null, say: "operation", path }).text,
  missing: (path, name) => ask({ __proto__: null, say: "missing", path, name }).text,
};

// ---- What code may find --------------------------------------------------------------------------------------------------

const KEPT =
  "Object Function Array Number parseFloat parseInt Infinity NaN undefined Boolean String Symbol Date Promise RegExp Error " +
  "AggregateError EvalError RangeError ReferenceError SyntaxError TypeError URIError SuppressedError globalThis JSON Math Intl " +
  "Temporal ArrayBuffer Uint8Array Int8Array Uint16Array Int16Array Uint32Array Int32Array BigUint64Array BigInt64Array " +
  "Uint8ClampedArray Float16Array Float32Array Float64Array DataView Map BigInt Set Iterator WeakMap WeakSet Proxy Reflect " +
  "DisposableStack AsyncDisposableStack decodeURI decodeURIComponent encodeURI encodeURIComponent escape unescape eval isFinite " +
  "isNaN WebAssembly AbortController AbortSignal Event EventTarget CustomEvent DOMException Headers URL URLPattern " +
  "URLSearchParams TextDecoder TextEncoder TextDecoderStream TextEncoderStream ReadableStream ReadableStreamDefaultReader " +
  "ReadableStreamBYOBReader ReadableStreamBYOBRequest ReadableStreamDefaultController ReadableByteStreamController " +
  "WritableStream WritableStreamDefaultWriter WritableStreamDefaultController TransformStream " +
  "TransformStreamDefaultController ByteLengthQueuingStrategy CountQueuingStrategy atob btoa structuredClone";

const put = (object, name, value) =>
  defineProperty(object, name, { value, writable: true, enumerable: false, configurable: true });
const onlyRecorded = () => {
  const kept = new Set(KEPT.split(" "));
  // Symbols are its own marks, by which it knows its global when it reports a promise that failed.
  for (const name of ownKeys(global)) if (typeof name === "string" && !kept.has(name)) delete global[name];
  // Compiling in the background ends when it ends.
  for (const name of ["compile", "instantiate", "compileStreaming", "instantiateStreaming"]) delete WebAssembly[name];
  delete AbortSignal.timeout;
  defineProperty(Event.prototype, "timeStamp", { get: () => elapsed, enumerable: true, configurable: true });
  // Neither a promise that fails nor a job that throws ends more than itself.
  const done = PromiseOwn.resolve();
  put(global, "queueMicrotask", function queueMicrotask(action) {
    if (typeof action !== "function") throw new TypeError("queueMicrotask takes a function");
    apply(then, done, [() => { action(); }]);
  });
  // Both ask the machine for the time where they are given none.
  const { DateTimeFormat } = Intl;
  const { get: format } = Object.getOwnPropertyDescriptor(DateTimeFormat.prototype, "format");
  const { formatToParts } = DateTimeFormat.prototype;
  defineProperty(DateTimeFormat.prototype, "format", {
    get() {
      const own = apply(format, this, []);
      return (date) => own(date === undefined ? clock : date);
    },
    enumerable: false,
    configurable: true,
  });
  put(DateTimeFormat.prototype, "formatToParts", function parts(date) {
    return apply(formatToParts, this, [date === undefined ? clock : date]);
  });
  if (global.Temporal !== undefined) {
    const { Instant } = Temporal;
    const instant = () => Instant.fromEpochMilliseconds(clock);
    const zoned = (zone = "UTC") => instant().toZonedDateTimeISO(zone);
    put(Temporal, "Now", {
      instant,
      timeZoneId: () => "UTC",
      zonedDateTimeISO: zoned,
      plainDateTimeISO: (zone) => zoned(zone).toPlainDateTime(),
      plainDateISO: (zone) => zoned(zone).toPlainDate(),
      plainTimeISO: (zone) => zoned(zone).toPlainTime(),
    });
  }
};

// ---- Stacks name modules by their paths, and nothing of ours -------------------------------------------------------------

const names = { __proto__: null };
defineProperty(Error, "prepareStackTrace", {
  value: (error, sites) => {
    let text;
    try {
      text = apply(errorText, error, []);
    } catch {
      text = "Error";
    }
    for (let at = 0; at < sites.length; at++) {
      const site = sites[at];
      const module = names[site.getFileName()];
      if (module !== undefined) {
        const name = site.getFunctionName() || "<anonymous>";
        text += `\n    at ${name} (${module}:${site.getLineNumber()}:${site.getColumnNumber()})`;
      }
    }
    return text;
  },
  writable: false,
  enumerable: false,
  configurable: false,
});

// ---- One run -------------------------------------------------------------------------------------------------------------

addEventListener("unhandledrejection", (event) => event.preventDefault());
const run = ask({ __proto__: null, say: "ready", deno: version.deno, v8: version.v8 });
({ clock } = run);
if (!run.open) onlyRecorded();
native.inspect = apply(makeConsole, undefined, [native]);
makeCrypto(native);
const bridge = makeBridge(native);
for (const [url, name] of run.names) names[url] = name;

const state = () => {
  try {
    return bridge.state();
  } catch {
    return null;
  }
};
const failed = (thrown) => {
  const [name, message, stack] = bridge.describe(thrown);
  ask({ __proto__: null, say: "failed", name, message, stack, state: state() });
};
// All that code has made ready is done when the engine comes by here again.
const quiet = () => new PromiseOwn((resolve) => later(resolve));

try {
  bridge.prepare(run.tree);
  bridge.begin(run.input, run.state);
  const module = await import(run.main);
  let ended;
  const end = (ok, value) => { ended = { __proto__: null, ok, value }; };
  apply(then, module.default(), [(value) => end(true, value), (thrown) => end(false, thrown)]);
  for (;;) {
    await quiet();
    if (ended !== undefined && !ended.ok) throw ended.value;
    const answer = ask({ __proto__: null, say: "idle", over: ended !== undefined });
    if (answer.finish) break;
    ({ clock, elapsed } = answer);
    bridge.deliver(answer.call, answer.ok, answer.json);
  }
  const value = bridge.outcome(ended.value);
  ask({ __proto__: null, say: "done", value, state: state() });
} catch (thrown) {
  failed(thrown);
}
