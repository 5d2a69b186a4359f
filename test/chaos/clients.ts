/**
 * Clients that wrk is not: `clients.ts '{"host":…}'` (a ClientPlan), run in the client's namespace. Slow readers of large
 * answers, and upgraded connections that stay open. Everything ends with the plan's time.
 */
import { connect } from 'node:net';

export interface ClientPlan {
  host: string;
  port: number;
  seconds: number;
  /** Targets of large answers, one slow reader each. */
  slow: readonly string[];
  upgrades: number;
}

const plan = JSON.parse(process.argv[2] ?? '{}') as ClientPlan;
const READ_BYTES = 8_192;
const READ_EVERY_MS = 20;

function slowReader(target: string): void {
  const socket = connect(plan.port, plan.host, () => {
    socket.write(`GET ${target} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n`);
  });
  socket.on('error', () => socket.destroy());
  socket.on('readable', () => {});
  const timer = setInterval(() => socket.read(READ_BYTES) ?? socket.read(), READ_EVERY_MS);
  socket.on('close', () => clearInterval(timer));
}

function upgrade(): void {
  const socket = connect(plan.port, plan.host, () => {
    socket.write(
      'GET /up/?do=upgrade HTTP/1.1\r\nHost: lab\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n',
    );
  });
  socket.on('error', () => socket.destroy());
  socket.on('data', () => {});
  const timer = setInterval(() => socket.write('GET /not/a/request HTTP/1.1\r\n\r\n'), 200);
  socket.on('close', () => clearInterval(timer));
}

for (const target of plan.slow) slowReader(target);
for (let i = 0; i < plan.upgrades; i++) setTimeout(upgrade, i * 100);
setTimeout(() => process.exit(0), plan.seconds * 1000);
