// Random numbers and ids from the run's seed.
(function (native) {
  "use strict";
  const crypto = {
    getRandomValues(array) {
      const integers = [Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array, BigInt64Array, BigUint64Array];
      if (!integers.some((type) => array instanceof type)) throw new TypeError("getRandomValues takes an integer array");
      if (array.byteLength > 65536) throw new DOMException("getRandomValues fills at most 65536 bytes", "QuotaExceededError");
      new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(native.randomBytes(array.byteLength));
      return array;
    },
    randomUUID() {
      const bytes = native.randomBytes(16);
      bytes[6] = (bytes[6] & 15) | 64;
      bytes[8] = (bytes[8] & 63) | 128;
      const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
      return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
    },
  };
  Object.defineProperty(globalThis, "crypto", { value: Object.freeze(crypto), writable: true, enumerable: false, configurable: true });
});
