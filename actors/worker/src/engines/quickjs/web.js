// What code written for a browser or a server expects to find: encoders, URLs, structuredClone.
// None of it reaches outside. The parsers behind URL are the server's own (crate `url`), so both agree on what a URL is.
(function (native) {
  "use strict";
  const expose = (name, value) =>
    Object.defineProperty(globalThis, name, { value, writable: true, enumerable: false, configurable: true });
  const { apply } = Reflect;
  const wellFormed = String.prototype.toWellFormed;
  const usv = (value) => apply(wellFormed, String(value), []);
  const bytesOf = (data, what) => {
    if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    if (data instanceof ArrayBuffer || data instanceof SharedArrayBuffer) return new Uint8Array(data);
    throw new TypeError(`${what} takes an ArrayBuffer or a view of one`);
  };

  // ---- Encoding --------------------------------------------------------------------------------------------------------

  class TextEncoder {
    get encoding() { return "utf-8"; }
    encode(text = "") { return native.encode(usv(text)); }
    encodeInto(text, target) {
      let read = 0;
      let written = 0;
      for (const c of usv(text)) {
        const bytes = native.encode(c);
        if (written + bytes.length > target.length) break;
        target.set(bytes, written);
        written += bytes.length;
        read += c.length;
      }
      return { read, written };
    }
  }
  class TextDecoder {
    #fatal;
    #keepMark;
    #held = new Uint8Array(0);
    #started = false;
    constructor(label = "utf-8", options = {}) {
      if (!["utf-8", "utf8", "unicode-1-1-utf-8"].includes(String(label).trim().toLowerCase())) {
        throw new RangeError(`TextDecoder knows utf-8 only, not ${label}`);
      }
      this.#fatal = Boolean(options.fatal);
      this.#keepMark = Boolean(options.ignoreBOM);
    }
    get encoding() { return "utf-8"; }
    get fatal() { return this.#fatal; }
    get ignoreBOM() { return this.#keepMark; }
    decode(data = new Uint8Array(0), options = {}) {
      let bytes = bytesOf(data, "TextDecoder.decode");
      if (this.#held.length > 0) {
        const joined = new Uint8Array(this.#held.length + bytes.length);
        joined.set(this.#held);
        joined.set(bytes, this.#held.length);
        bytes = joined;
        this.#held = new Uint8Array(0);
      }
      if (options.stream) {
        const whole = native.wholeLength(bytes);
        this.#held = bytes.slice(whole);
        bytes = bytes.subarray(0, whole);
      }
      let text = native.decode(bytes, this.#fatal);
      if (text === undefined) throw new TypeError("the data is not valid utf-8");
      if (!this.#started && !this.#keepMark && text.startsWith("\uFEFF")) text = text.slice(1);
      this.#started = Boolean(options.stream) && (this.#started || bytes.length > 0);
      return text;
    }
  }
  expose("TextEncoder", TextEncoder);
  expose("TextDecoder", TextDecoder);

  const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const invalid = (message) => new DOMException(message, "InvalidCharacterError");
  expose("btoa", function btoa(data) {
    const text = String(data);
    let out = "";
    for (let at = 0; at < text.length; at += 3) {
      const left = text.length - at;
      const [a, b, c] = [text.charCodeAt(at), left > 1 ? text.charCodeAt(at + 1) : 0, left > 2 ? text.charCodeAt(at + 2) : 0];
      if (a > 255 || b > 255 || c > 255) throw invalid("btoa takes characters up to U+00FF; encode text with TextEncoder first");
      const bits = (a << 16) | (b << 8) | c;
      out += ALPHABET[bits >> 18] + ALPHABET[(bits >> 12) & 63];
      out += (left > 1 ? ALPHABET[(bits >> 6) & 63] : "=") + (left > 2 ? ALPHABET[bits & 63] : "=");
    }
    return out;
  });
  expose("atob", function atob(data) {
    let text = String(data).replace(/[\t\n\f\r ]/g, "");
    if (text.length % 4 === 0) text = text.replace(/={1,2}$/, "");
    if (text.length % 4 === 1 || /[^A-Za-z0-9+/]/.test(text)) throw invalid("atob: the text is not base64");
    let out = "";
    let bits = 0;
    let held = 0;
    for (const c of text) {
      bits = ((bits << 6) | ALPHABET.indexOf(c)) & 0xffffff;
      held += 6;
      if (held >= 8) {
        held -= 8;
        out += String.fromCharCode((bits >> held) & 255);
      }
    }
    return out;
  });

  // ---- URL -------------------------------------------------------------------------------------------------------------

  class URLSearchParams {
    #pairs = [];
    #changed;
    constructor(init = "", changed = undefined) {
      if (changed?.token === updates) this.#changed = changed.update;
      if (typeof init === "object" && init !== null) {
        const pairs = typeof init[Symbol.iterator] === "function" ? init : Object.entries(init);
        for (const pair of pairs) {
          const [name, value, ...more] = [...pair];
          if (value === undefined || more.length > 0) throw new TypeError("URLSearchParams takes pairs of name and value");
          this.#pairs.push([usv(name), usv(value)]);
        }
      } else {
        const text = usv(init);
        this.#pairs = native.parseQuery(text.startsWith("?") ? text.slice(1) : text);
      }
    }
    #edited() { this.#changed?.(this.toString()); }
    get size() { return this.#pairs.length; }
    append(name, value) { this.#pairs.push([usv(name), usv(value)]); this.#edited(); }
    delete(name, value) {
      const [key, only] = [usv(name), value === undefined ? undefined : usv(value)];
      this.#pairs = this.#pairs.filter(([k, v]) => k !== key || (only !== undefined && v !== only));
      this.#edited();
    }
    get(name) { const key = usv(name); return this.#pairs.find(([k]) => k === key)?.[1] ?? null; }
    getAll(name) { const key = usv(name); return this.#pairs.filter(([k]) => k === key).map(([, v]) => v); }
    has(name, value) {
      const key = usv(name);
      return this.#pairs.some(([k, v]) => k === key && (value === undefined || v === usv(value)));
    }
    set(name, value) {
      const key = usv(name);
      const first = this.#pairs.findIndex(([k]) => k === key);
      if (first < 0) this.#pairs.push([key, usv(value)]);
      else this.#pairs = this.#pairs.filter(([k], at) => at <= first || k !== key).with(first, [key, usv(value)]);
      this.#edited();
    }
    sort() { this.#pairs.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)); this.#edited(); }
    forEach(action, self) { for (const [name, value] of this) action.call(self, value, name, this); }
    *entries() { for (const [name, value] of this.#pairs) yield [name, value]; }
    *keys() { for (const [name] of this.#pairs) yield name; }
    *values() { for (const [, value] of this.#pairs) yield value; }
    [Symbol.iterator]() { return this.entries(); }
    toString() { return native.writeQuery(this.#pairs); }
  }
  const updates = Symbol("updates");

  class URL {
    #parts;
    #query;
    constructor(url, base) {
      const parts = native.parseUrl(usv(url), base === undefined ? undefined : usv(base));
      if (parts === undefined) throw new TypeError(`Invalid URL: ${usv(url)}`);
      this.#take(parts);
    }
    #take(parts) {
      this.#parts = parts;
      const update = (text) => { this.#parts = native.setUrl(this.#parts.href, "search", text) ?? this.#parts; };
      this.#query = new URLSearchParams(parts.search, { token: updates, update });
    }
    #set(field, value) {
      const parts = native.setUrl(this.#parts.href, field, usv(value));
      if (parts !== undefined) this.#take(parts);
    }
    static canParse(url, base) { return native.parseUrl(usv(url), base === undefined ? undefined : usv(base)) !== undefined; }
    static parse(url, base) { return URL.canParse(url, base) ? new URL(url, base) : null; }
    get href() { return this.#parts.href; }
    set href(value) {
      const parts = native.parseUrl(usv(value), undefined);
      if (parts === undefined) throw new TypeError(`Invalid URL: ${usv(value)}`);
      this.#take(parts);
    }
    get origin() { return this.#parts.origin; }
    get searchParams() { return this.#query; }
    toString() { return this.#parts.href; }
    toJSON() { return this.#parts.href; }
    static {
      for (const field of ["protocol", "username", "password", "host", "hostname", "port", "pathname", "search", "hash"]) {
        Object.defineProperty(URL.prototype, field, {
          get() { return this.#parts[field]; },
          set(value) { this.#set(field, value); },
          enumerable: true,
          configurable: true,
        });
      }
    }
  }
  expose("URL", URL);
  expose("URLSearchParams", URLSearchParams);

  // ---- structuredClone -------------------------------------------------------------------------------------------------

  const ERRORS = { Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };
  const clone = (value, seen) => {
    if (typeof value === "function" || typeof value === "symbol") {
      throw new DOMException(`${String(value)} cannot be cloned`, "DataCloneError");
    }
    if (typeof value !== "object" || value === null) return value;
    if (seen.has(value)) return seen.get(value);
    const keep = (copy) => { seen.set(value, copy); return copy; };
    if (value instanceof Date) return keep(new Date(value.getTime()));
    if (value instanceof RegExp) return keep(new RegExp(value.source, value.flags));
    if (value instanceof Boolean || value instanceof Number || value instanceof String) return keep(Object(value.valueOf()));
    if (value instanceof ArrayBuffer) return keep(value.slice(0));
    if (ArrayBuffer.isView(value)) {
      const buffer = clone(value.buffer, seen);
      const length = value instanceof DataView ? value.byteLength : value.length;
      return keep(new value.constructor(buffer, value.byteOffset, length));
    }
    if (value instanceof Map) {
      const copy = keep(new Map());
      for (const [key, item] of value) copy.set(clone(key, seen), clone(item, seen));
      return copy;
    }
    if (value instanceof Set) {
      const copy = keep(new Set());
      for (const item of value) copy.add(clone(item, seen));
      return copy;
    }
    if (value instanceof Error) {
      const copy = keep(new (ERRORS[value.name] ?? Error)(value.message));
      if ("cause" in value) copy.cause = clone(value.cause, seen);
      return copy;
    }
    if (value instanceof Promise || value instanceof WeakMap || value instanceof WeakSet || value instanceof WeakRef) {
      throw new DOMException("a promise or a weak collection cannot be cloned", "DataCloneError");
    }
    const copy = keep(Array.isArray(value) ? new Array(value.length) : {});
    for (const key of Object.keys(value)) {
      const item = clone(value[key], seen);
      Object.defineProperty(copy, key, { value: item, writable: true, enumerable: true, configurable: true });
    }
    return copy;
  };
  expose("structuredClone", function structuredClone(value) { return clone(value, new Map()); });
});
