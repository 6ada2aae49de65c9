// The TypeScript SDK v1 against Athena over stdio.
import { createRequire } from 'node:module';
import assert from 'node:assert/strict';
const require = createRequire(`${process.env.CLIENTS}/package.json`);
const { Client } = require('@modelcontextprotocol/sdk/client/index.js');
const { StdioClientTransport } = require('@modelcontextprotocol/sdk/client/stdio.js');

const client = new Client({ name: 'typescript-v1', version: '1' });
await client.connect(new StdioClientTransport({
  command: process.env.ATHENA, args: ['--store', process.env.STORE, 'serve'], env: { ...process.env },
}));
const { tools } = await client.listTools();
assert.deepEqual(tools.map((tool) => tool.name), ['execute', 'search', 'recall', 'remember']);
const kept = await client.callTool({ name: 'remember', arguments: { content: 'the kettle is blue', layer: 'semantic' } });
assert.ok(!kept.isError && kept.structuredContent.seq > 0, JSON.stringify(kept));
const ran = await client.callTool({ name: 'execute', arguments: { code: 'return [1, 2, 3].map((n) => n * 2)' } });
assert.deepEqual(ran.structuredContent.value, [2, 4, 6]);
const risky = await client.callTool({ name: 'execute', arguments: { code: 'return eval("1 + 1")' } });
assert.ok(['approval_required', 'denied'].includes(risky.structuredContent.status), JSON.stringify(risky));
await client.close();
