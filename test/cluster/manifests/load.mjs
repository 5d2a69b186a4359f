// Sends RATE requests a second to URL, each on a connection of its own, and prints what answered: number, status, answer.
import { promises as dns } from 'node:dns';
import http from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

const [, , url, rate] = process.argv;
const KINDS = ['', 'headless', 'external', 'affinity', 'local', 'twin', 'named', 'host', 'hairpin'];
/** nginx writes the whole request line; container runtimes cut what is longer than 16 KB. */
const LONG = 'x'.repeat(20_000);
const { hostname } = new URL(url);
// The Service's address does not change: one look-up, and no request that fails for the name's sake.
let address;
while (address === undefined) {
  address = (await dns.lookup(hostname).catch(() => delay(500)))?.address;
}
let sent = 0;
let begun = performance.now();
setInterval(() => {
  // What was missed while the machine was busy is not made up for.
  const due = Math.min(20, Math.floor(((performance.now() - begun) / 1000) * Number(rate)));
  begun += (due / Number(rate)) * 1000;
  if (performance.now() - begun > 1000) begun = performance.now();
  for (let i = 0; i < due; i++) ask(++sent);
}, 5);

function ask(n) {
  const kind = n % 97 === 0 ? 'none' : n % 101 === 0 ? 'long' : n % 2 ? '' : KINDS[(n / 2) % KINDS.length];
  const path = kind === '' ? `/r/${n}` : kind === 'long' ? `/long/${n}?${LONG}` : `/${kind}/${n}`;
  const request = http.get(
    { host: address, path, agent: false, timeout: 10_000, headers: { host: hostname } },
    (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (piece) => {
        text += piece;
      });
      response.on('end', () =>
        console.log(`${n} ${response.statusCode} ${response.statusCode === 200 ? text.trim() : '-'}`),
      );
      response.on('error', () => console.log(`${n} 0 -`));
    },
  );
  request.on('timeout', () => request.destroy());
  request.on('error', ({ code }) => console.log(`${n} 0 - ${code}`));
}
