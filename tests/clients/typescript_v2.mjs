// The TypeScript SDK v2 client against Athena over stdio.
import { createRequire } from 'node:module';
import assert from 'node:assert/strict';
const require = createRequire(`${process.env.CLIENTS}/package.json`);
const { Client } = require('@modelcontextprotocol/client');
const { StdioClientTransport } = require('@modelcontextprotocol/client/stdio');

const client = new Client({ name: 'typescript-v2', version: '1' });
await client.connect(new StdioClientTransport({
  command: process.env.ATHENA, args: ['--store', process.env.STORE, 'serve'], env: { ...process.env },
}));
const { tools } = await client.listTools();
assert.deepEqual(tools.map((tool) => tool.name), ['execute', 'search', 'recall', 'remember']);
const ran = await client.callTool({ name: 'execute', arguments: { code: 'return input.n + 1', input: { n: 41 } } });
assert.equal(ran.structuredContent.value, 42);
await client.close();
