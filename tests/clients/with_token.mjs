// A door for a client that cannot send headers of its own: passes every request on to URL with TOKEN added. Prints its address.
import http from 'node:http';

const target = new URL(process.env.URL);
const door = http.createServer((request, response) => {
  const headers = { ...request.headers, host: target.host, authorization: `Bearer ${process.env.TOKEN}` };
  const passed = http.request(target, { method: request.method, headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  passed.on('error', () => response.destroy());
  response.on('close', () => passed.destroy());
  request.pipe(passed);
});
door.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${door.address().port}/mcp`));
