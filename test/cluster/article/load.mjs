// The article's curl, TOTAL times, RATE times a second, each on a connection of its own: prints number, status and answer.
import http from 'node:http';

const [, , url, rate, total] = process.argv;
const { hostname, port } = new URL(url);
let sent = 0;
const timer = setInterval(() => {
  ask(sent++);
  if (sent >= Number(total)) clearInterval(timer);
}, 1000 / Number(rate));

function ask(n) {
  const headers = { host: `${hostname}:${port}`, 'user-agent': 'curl/8.5.0', accept: '*/*' };
  const options = { host: hostname, port, path: `/${n}`, agent: false, timeout: 10_000, headers };
  const request = http.get(options, (response) => {
    let text = '';
    response.setEncoding('utf8');
    response.on('data', (piece) => {
      text += piece;
    });
    response.on('end', () => console.log(`${n} ${response.statusCode} ${text.trim()}`));
    response.on('error', () => console.log(`${n} 0 -`));
  });
  request.on('timeout', () => request.destroy());
  request.on('error', ({ code }) => console.log(`${n} 0 - ${code}`));
}
