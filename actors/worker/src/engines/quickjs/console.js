// console.*, and how values look in it.
(function (native) {
  "use strict";
  const { apply } = Reflect;
  const wellFormed = String.prototype.toWellFormed;
  const MAX_DEPTH = 4;
  const MAX_ITEMS = 100;
  const MAX_TEXT = 10_000;

  const quote = (text) => JSON.stringify(text);
  const isPlainKey = (key) => /^[A-Za-z_$][\w$]*$/.test(key);

  const inspect = (value, depth = 0, seen = []) => {
    switch (typeof value) {
      case "string":
        return depth === 0 ? value : quote(value.length > MAX_TEXT ? value.slice(0, MAX_TEXT) + "…" : value);
      case "bigint":
        return `${value}n`;
      case "symbol":
        return value.toString();
      case "function":
        return `[Function: ${value.name || "anonymous"}]`;
      case "object":
        return value === null ? "null" : inspectObject(value, depth, seen);
      default:
        return Object.is(value, -0) ? "-0" : String(value);
    }
  };

  const inspectObject = (value, depth, seen) => {
    if (seen.includes(value)) return "[Circular]";
    if (value instanceof Error) {
      const head = `${value.name}: ${value.message}`;
      return value.stack ? `${head}\n${String(value.stack).trimEnd()}` : head;
    }
    if (value instanceof Date) return Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString();
    if (value instanceof RegExp) return String(value);
    if (value instanceof Promise) return "Promise {}";
    if (depth >= MAX_DEPTH) return Array.isArray(value) ? "[Array]" : "[Object]";
    const inner = [...seen, value];
    const show = (item) => inspect(item, depth + 1, inner);
    const list = (items, total) => (total > MAX_ITEMS ? [...items, `… ${total - MAX_ITEMS} more`] : items);
    if (Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView))) {
      const items = list(Array.prototype.slice.call(value, 0, MAX_ITEMS).map(show), value.length);
      const name = Array.isArray(value) ? "" : `${value.constructor.name}(${value.length}) `;
      return wrap(name, "[", items, "]");
    }
    if (value instanceof Map) {
      const items = [...value].slice(0, MAX_ITEMS).map(([key, item]) => `${show(key)} => ${show(item)}`);
      return wrap(`Map(${value.size}) `, "{", list(items, value.size), "}");
    }
    if (value instanceof Set) {
      return wrap(`Set(${value.size}) `, "{", list([...value].slice(0, MAX_ITEMS).map(show), value.size), "}");
    }
    const keys = Object.keys(value);
    const items = keys.slice(0, MAX_ITEMS).map((key) => {
      const found = Object.getOwnPropertyDescriptor(value, key);
      const shown = found && "value" in found ? show(found.value) : "[Getter]";
      return `${isPlainKey(key) ? key : quote(key)}: ${shown}`;
    });
    const name = Object.getPrototypeOf(value)?.constructor?.name;
    return wrap(name && name !== "Object" ? `${name} ` : "", "{", list(items, keys.length), "}");
  };

  const wrap = (name, open, items, close) => {
    if (items.length === 0) return `${name}${open}${close}`;
    const line = items.join(", ");
    const pad = open === "{" ? " " : "";
    if (line.length <= 100 && !line.includes("\n")) return `${name}${open}${pad}${line}${pad}${close}`;
    return `${name}${open}\n${items.map((item) => `  ${item.replaceAll("\n", "\n  ")}`).join(",\n")}\n${close}`;
  };

  // The format specifiers of the console standard (WHATWG Console, 2.2.1).
  const format = (args) => {
    let rest = args;
    let head = "";
    if (typeof args[0] === "string" && args.length > 1 && args[0].includes("%")) {
      rest = args.slice(1);
      head = args[0].replace(/%([sdifjoOc%])/g, (whole, kind) => {
        if (kind === "%") return "%";
        if (rest.length === 0) return whole;
        const value = rest.shift();
        switch (kind) {
          case "s": return typeof value === "string" ? value : inspect(value, 1);
          case "d": case "i": return String(Math.trunc(Number(value)));
          case "f": return String(Number(value));
          case "j": return JSON.stringify(value) ?? "undefined";
          case "c": return "";
          default: return inspect(value, 1);
        }
      });
      if (rest.length === 0) return head;
      head += " ";
    }
    return head + rest.map((value) => inspect(value)).join(" ");
  };

  let indent = "";
  const write = (level, args) => {
    let line;
    try {
      line = format(args);
    } catch (error) {
      line = "[a value that cannot be shown]";
    }
    native.log(level, apply(wellFormed, indent === "" ? line : indent + line.replaceAll("\n", "\n" + indent), []));
  };
  const counts = new Map();
  const times = new Map();
  const console = {
    log(...args) { write("log", args); },
    info(...args) { write("info", args); },
    warn(...args) { write("warn", args); },
    error(...args) { write("error", args); },
    debug(...args) { write("debug", args); },
    trace(...args) { write("debug", ["Trace:", ...args]); },
    dir(value) { write("log", [value]); },
    table(value) { write("log", [value]); },
    assert(condition, ...args) { if (!condition) write("error", ["Assertion failed:", ...args]); },
    group(...args) { if (args.length > 0) write("log", args); indent += "  "; },
    groupCollapsed(...args) { this.group(...args); },
    groupEnd() { indent = indent.slice(2); },
    count(label = "default") {
      counts.set(label, (counts.get(label) ?? 0) + 1);
      write("log", [`${label}: ${counts.get(label)}`]);
    },
    countReset(label = "default") { counts.delete(label); },
    time(label = "default") { times.set(label, native.elapsed()); },
    timeLog(label = "default") { write("log", [`${label}: ${native.elapsed() - (times.get(label) ?? 0)}ms`]); },
    timeEnd(label = "default") { this.timeLog(label); times.delete(label); },
  };
  Object.defineProperty(globalThis, "console", { value: console, writable: true, enumerable: false, configurable: true });
  return (value) => inspect(value, 1);
});
