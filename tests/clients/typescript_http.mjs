// The TypeScript SDK, v1 and v2, against Athena over streamable HTTP.
import { createRequire } from 'node:module';
import assert from 'node:assert/strict';
const require = createRequire(`${process.env.CLIENTS}/package.json`);
const requestInit = { headers: { Authorization: `Bearer ${process.env.TOKEN}` } };
const url = new URL(process.env.URL);

async function visit(Client, Transport) {
  const client = new Client({ name: 'typescript-http', version: '1' });
  await client.connect(new Transport(url, { requestInit }));
  const { tools } = await client.listTools();
  assert.deepEqual(tools.map((tool) => tool.name), ['execute', 'search', 'recall', 'remember']);
  const ran = await client.callTool({ name: 'execute', arguments: { code: 'return input.n + 1', input: { n: 41 } } });
  assert.equal(ran.structuredContent.value, 42);
  await client.close();
}
const v1 = require('@modelcontextprotocol/sdk/client/index.js');
await visit(v1.Client, require('@modelcontextprotocol/sdk/client/streamableHttp.js').StreamableHTTPClientTransport);
const v2 = require('@modelcontextprotocol/client');
await visit(v2.Client, v2.StreamableHTTPClientTransport);
