// What agent code finds besides the language and its tools. The engine's own globals: quickjs/bridge.js, console.js and web.js.
declare const input: any;
declare const session: { state: any };
declare const results: { read(handle: string, range?: unknown): Promise<any> };
declare function callMCPTool(path: string, params?: unknown, options?: unknown): Promise<any>;
declare function searchTools(query: string, options?: object): Promise<any>;
declare function readToolDefinition(path: string): Promise<any>;
declare function readdir(path?: string): Promise<string[]>;
declare function readFile(path: string): Promise<any>;

declare function setTimeout(action: (...rest: any[]) => unknown, ms?: number, ...rest: any[]): number;
declare function setInterval(action: (...rest: any[]) => unknown, ms?: number, ...rest: any[]): number;
declare function setImmediate(action: (...rest: any[]) => unknown, ...rest: any[]): number;
declare function clearTimeout(id?: number): void;
declare function clearInterval(id?: number): void;
declare function clearImmediate(id?: number): void;
declare function queueMicrotask(action: () => unknown): void;
declare function structuredClone<T>(value: T): T;
declare function atob(data: string): string;
declare function btoa(data: string): string;
declare const performance: { now(): number; readonly timeOrigin: number };
declare const crypto: { randomUUID(): string; getRandomValues<T extends ArrayBufferView>(array: T): T };

declare const console: Record<
  "log" | "info" | "warn" | "error" | "debug" | "trace" | "dir" | "table" | "assert" | "count" | "group" | "groupEnd" | "time" | "timeEnd",
  (...values: unknown[]) => void
>;

declare class TextEncoder {
  readonly encoding: string;
  encode(text?: string): Uint8Array;
}
declare class TextDecoder {
  constructor(label?: string, options?: { fatal?: boolean; ignoreBOM?: boolean });
  readonly encoding: string;
  decode(bytes?: ArrayBufferView | ArrayBuffer, options?: { stream?: boolean }): string;
}
declare class URLSearchParams implements Iterable<[string, string]> {
  constructor(init?: string | Record<string, string> | Iterable<[string, string]>);
  readonly size: number;
  append(name: string, value: string): void;
  delete(name: string, value?: string): void;
  get(name: string): string | null;
  getAll(name: string): string[];
  has(name: string, value?: string): boolean;
  set(name: string, value: string): void;
  sort(): void;
  forEach(action: (value: string, name: string, params: URLSearchParams) => void): void;
  entries(): IterableIterator<[string, string]>;
  keys(): IterableIterator<string>;
  values(): IterableIterator<string>;
  [Symbol.iterator](): IterableIterator<[string, string]>;
  toString(): string;
}
declare class URL {
  constructor(url: string | URL, base?: string | URL);
  static canParse(url: string, base?: string): boolean;
  static parse(url: string, base?: string): URL | null;
  href: string;
  readonly origin: string;
  protocol: string;
  username: string;
  password: string;
  host: string;
  hostname: string;
  port: string;
  pathname: string;
  search: string;
  hash: string;
  readonly searchParams: URLSearchParams;
  toString(): string;
  toJSON(): string;
}
