// The images' health check: asks the port that --listen or REALPOD_LISTEN of process 1 names, else the one given.
import { readFileSync } from 'node:fs';

function listen() {
  const args = readFileSync('/proc/1/cmdline', 'utf8').split('\0');
  for (const [index, arg] of args.entries()) {
    if (arg === '--listen') return args[index + 1];
    if (arg.startsWith('--listen=')) return arg.slice('--listen='.length);
  }
  return process.env.REALPOD_LISTEN || `:${process.argv[2]}`;
}

const [, address = '', port] = /^(.*):(\d+)$/.exec(listen() ?? '') ?? [undefined, '', process.argv[2]];
const host = /^(\[::\]|0\.0\.0\.0|)$/.test(address) ? '127.0.0.1' : address;
fetch(`http://${host}:${port}/healthz`).then(
  (response) => process.exit(response.ok ? 0 : 1),
  () => process.exit(1),
);
