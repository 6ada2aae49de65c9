// The bridge: what agent code can call, and how answers come back. Evaluated once, before any agent code.
// It keeps its own references and never looks up a name that agent code could have replaced.
(function (native) {
  "use strict";
  const { parse, stringify } = JSON;
  const {
    create, defineProperty, freeze, getOwnPropertyDescriptor, getPrototypeOf, hasOwn, keys, setPrototypeOf,
  } = Object;
  const { apply, construct } = Reflect;
  const PromiseOwn = Promise;
  const ErrorOwn = Error;
  const TypeErrorOwn = TypeError;
  const ProxyOwn = Proxy;
  const StringOwn = String;
  const wellFormed = StringOwn.prototype.toWellFormed;
  const text = (value) => apply(wellFormed, StringOwn(value), []);
  const global = globalThis;

  // A name that agent code cannot take away from itself by accident.
  const expose = (name, value) =>
    defineProperty(global, name, { value, writable: false, enumerable: true, configurable: false });
  const method = (object, name, value) =>
    defineProperty(object, name, { value, writable: true, enumerable: false, configurable: true });

  // ---- Errors of calls -------------------------------------------------------------------------------------------------

  class Refusal extends ErrorOwn {}
  defineProperty(Refusal.prototype, "name", { value: "Refusal", writable: true, configurable: true });
  freeze(Refusal);

  const field = (object, name) => {
    const found = object !== null && typeof object === "object" ? getOwnPropertyDescriptor(object, name) : undefined;
    return found === undefined ? undefined : found.value;
  };
  const plain = (object, name, value) =>
    defineProperty(object, name, { value, writable: true, enumerable: true, configurable: true });

  // Fills in an error that was made where the call was, so that its stack points there.
  const refuse = (error, json) => {
    let refusal;
    try {
      refusal = parse(json);
    } catch {
      refusal = undefined;
    }
    const message = field(refusal, "message");
    const hint = field(refusal, "try");
    defineProperty(error, "message", {
      value: message === undefined ? json : hint === undefined ? message : message + "; try: " + hint,
      writable: true, enumerable: false, configurable: true,
    });
    plain(error, "code", field(refusal, "code") ?? "internal");
    plain(error, "try", hint ?? "");
    for (const name of ["path", "details"]) {
      const value = field(refusal, name);
      if (value !== undefined) plain(error, name, value);
    }
    return error;
  };

  // ---- Calls and timers ------------------------------------------------------------------------------------------------

  const pending = create(null);

  const json = (value, what) => {
    if (value === undefined) return "";
    const written = stringify(value);
    if (written === undefined) throw new TypeErrorOwn(what + " cannot be written as JSON");
    return written;
  };

  const call = (op, params, options) => {
    const error = new Refusal("");
    const id = native.call(text(op), json(params, "the parameters of " + op) || "{}", json(options, "the options of " + op));
    return new PromiseOwn((resolve, reject) => {
      pending[id] = { __proto__: null, resolve, reject, error };
    });
  };

  const deliver = (id, ok, answer) => {
    const entry = pending[id];
    if (entry === undefined) return;
    delete pending[id];
    if (entry.fire !== undefined) return entry.fire();
    if (!ok) return entry.reject(refuse(entry.error, answer));
    let value;
    try {
      value = parse(answer);
    } catch (error) {
      return entry.reject(error);
    }
    entry.resolve(value);
  };

  const delay = (ms) => {
    const wanted = +ms;
    return wanted >= 1 ? (wanted > 2147483647 ? 1 : wanted - (wanted % 1)) : 0;
  };
  const handler = (action, name) => {
    if (typeof action !== "function") throw new TypeErrorOwn(name + " takes a function; strings are not compiled");
  };
  // Timers have public numbers of their own: an interval keeps its number over many wake-ups.
  let lastTimer = 0;
  const timers = create(null);
  const arm = (timer, action) => {
    const wake = native.timer(timer.ms);
    timer.wake = wake;
    pending[wake] = { __proto__: null, fire: action };
  };
  const setTimer = (name, repeat) => {
    method(global, name, {
      [name](action, ms, ...rest) {
        handler(action, name);
        const id = ++lastTimer;
        const timer = { __proto__: null, ms: delay(ms), wake: 0 };
        timers[id] = timer;
        const fire = () => {
          if (repeat) arm(timer, fire);
          else delete timers[id];
          apply(action, undefined, rest);
        };
        arm(timer, fire);
        return id;
      },
    }[name]);
  };
  setTimer("setTimeout", false);
  setTimer("setInterval", true);
  method(global, "setImmediate", function setImmediate(action, ...rest) {
    return apply(ownTimeout, undefined, [action, 0, ...rest]);
  });
  const ownTimeout = global.setTimeout;
  const clear = (id) => {
    const timer = timers[id];
    if (timer === undefined) return;
    delete timers[id];
    delete pending[timer.wake];
  };
  method(global, "clearTimeout", function clearTimeout(id) { clear(id); });
  method(global, "clearInterval", function clearInterval(id) { clear(id); });
  method(global, "clearImmediate", function clearImmediate(id) { clear(id); });

  // ---- Tools -----------------------------------------------------------------------------------------------------------

  const string = (value, what) => {
    if (typeof value !== "string") throw new TypeErrorOwn(what + " must be a string");
    return value;
  };

  expose("callMCPTool", function callMCPTool(path, args, options) {
    return call(native.operation(text(string(path, "callMCPTool: the tool's path, such as \"server/tool\","))), args, options);
  });
  expose("searchTools", function searchTools(query, options) {
    return call("tools/search", { ...options, query });
  });
  expose("readToolDefinition", function readToolDefinition(path) {
    return call("tools/definition", { path: string(path, "readToolDefinition: the path") });
  });
  expose("readdir", function readdir(path) {
    return call("files/list", { path: path === undefined ? "/" : string(path, "readdir: the path") });
  });
  expose("readFile", function readFile(path) {
    return call("files/read", { path: string(path, "readFile: the path") });
  });
  expose("results", freeze({
    __proto__: null,
    read(handle, range) {
      return call("results/read", range === undefined ? { handle } : { handle, range });
    },
  }));

  // Names that languages and printers ask every object for; they are not misspelt tools.
  const probes = freeze({
    __proto__: null, then: 1, toJSON: 1, constructor: 1, toString: 1, valueOf: 1, length: 1, name: 1, prototype: 1, inspect: 1,
    asymmetricMatch: 1, nodeType: 1, default: 1, __esModule: 1,
  });
  const guarded = (path, target) =>
    new ProxyOwn(freeze(target), {
      __proto__: null,
      get(target, name) {
        if (typeof name === "symbol" || hasOwn(target, name)) return target[name];
        if (probes[name] !== undefined) return undefined;
        throw new TypeErrorOwn(native.missing(path, text(name)));
      },
    });
  const branch = (path, tree) => {
    const target = create(null);
    for (const name of keys(tree)) {
      const below = tree[name];
      const full = path + "." + name;
      target[name] = typeof below === "string"
        ? freeze({ [name]: (params, options) => call(below, params, options) }[name])
        : branch(full, below);
    }
    return guarded(path, target);
  };
  // A namespace may hold hundreds of tools and a run uses few: it is built when first touched.
  const namespace = (name, tree) => {
    let built;
    defineProperty(global, name, {
      get() { return (built ??= branch(name, tree)); },
      set() { throw new TypeErrorOwn(name + " is Athena's; choose another name"); },
      enumerable: true,
      configurable: false,
    });
  };

  // ---- No code from strings --------------------------------------------------------------------------------------------

  const refuseCode = () => {
    throw new ErrorOwn("code generation from strings is off here: what runs is what was judged; write the code out");
  };
  const close = (sample) => {
    const prototype = getPrototypeOf(sample);
    const Constructor = function Function() { refuseCode(); };
    defineProperty(Constructor, "prototype", { value: prototype, writable: false, enumerable: false, configurable: false });
    defineProperty(prototype, "constructor", { value: Constructor, writable: false, enumerable: false, configurable: false });
    return Constructor;
  };
  const closed = close(function () {});
  close(async function () {});
  close(function* () {});
  close(async function* () {});
  for (const [name, value] of [["Function", closed], ["eval", function eval_() { refuseCode(); }]]) {
    defineProperty(global, name, { value, writable: false, enumerable: false, configurable: false });
  }

  // ---- The run's clock and randomness ----------------------------------------------------------------------------------

  const RealDate = Date;
  const now = () => native.now();
  function RunDate(...parts) {
    if (new.target === undefined) return apply(RealDate.prototype.toString, new RealDate(now()), []);
    return construct(RealDate, parts.length === 0 ? [now()] : parts, new.target);
  }
  defineProperty(RunDate, "prototype", { value: RealDate.prototype, writable: false, enumerable: false, configurable: false });
  defineProperty(RunDate, "name", { value: "Date", configurable: true });
  defineProperty(RunDate, "length", { value: 7, configurable: true });
  method(RealDate.prototype, "constructor", RunDate);
  method(RunDate, "now", function now_() { return now(); });
  method(RunDate, "parse", RealDate.parse);
  method(RunDate, "UTC", RealDate.UTC);
  method(global, "Date", RunDate);
  method(Math, "random", function random() { return native.random(); });
  method(global, "performance", freeze({
    __proto__: null,
    now() { return native.elapsed(); },
    get timeOrigin() { return now() - native.elapsed(); },
    toJSON() { return { timeOrigin: now() - native.elapsed() }; },
  }));

  // ---- One run ---------------------------------------------------------------------------------------------------------

  let session;
  // The tools are known before the run is, and there are many.
  let namespaces = [];
  const prepare = (json) => { namespaces = parse(json); };
  const begin = (input, state) => {
    expose("input", parse(input));
    session = { __proto__: null, state: parse(state) };
    expose("session", Object.seal(session));
    for (const { name, tree } of namespaces) namespace(name, setPrototypeOf(tree, null));
  };
  // The value and the state leave as JSON; both may run the agent's own toJSON and getters.
  const outcome = (value) => stringify(value) ?? "null";
  const state = () => stringify(session.state) ?? "null";
  // What was thrown, as [name, message, stack, code]; reading it must not throw again.
  const describe = (thrown) => {
    const read = (name) => {
      try {
        const value = thrown[name];
        return typeof value === "string" ? text(value) : "";
      } catch {
        return "";
      }
    };
    if (thrown !== null && (typeof thrown === "object" || typeof thrown === "function")) {
      const message = read("message");
      const name = read("name");
      if (name !== "" || message !== "") return [name || "Error", message, read("stack")];
    }
    let shown;
    try {
      shown = text(native.inspect(thrown));
    } catch {
      shown = "a value that cannot be shown";
    }
    return ["Error", "the code threw " + shown, ""];
  };

  return { __proto__: null, prepare, begin, deliver, outcome, state, describe };
});
