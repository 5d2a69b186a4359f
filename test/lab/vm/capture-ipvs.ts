/**
 * Records what the kernel says of connections through IPVS, inside the virtual machine: `capture-ipvs.ts DIRECTORY`
 * leaves ctnetlink messages and LOG records there, as test/fixtures/ipvs keeps them. `capture-ipvs.ts listen` is its
 * listener in the node's namespace, which prints a message in hexadecimal a line.
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { openConntrackEvents } from '../../../src/capture/conntrack/events.ts';
import { loadLibc } from '../../../src/capture/netlink/libc.ts';
import { startBackends, until } from '../kit/nginx.ts';
import { nodeLogRecords } from '../kit/node-log.ts';
import { createScene } from '../kit/scene.ts';
import { useIpvs } from './kube-proxy-ipvs.ts';

const PREFIX = 'backend-service: ';
const READ_LIMIT = 1_000;

async function listen(): Promise<void> {
  const socket = openConntrackEvents(await loadLibc(), 1 << 20);
  console.log('listening');
  const drain = () => {
    socket.drain(READ_LIMIT, (bytes, start, end) => console.log(bytes.toString('hex', start, end)));
  };
  const timer = setInterval(drain, 100);
  process.stdin.on('end', () => {
    drain();
    clearInterval(timer);
    socket.close();
  });
  process.stdin.resume();
}

async function capture(dir: string): Promise<void> {
  const scene = await createScene({
    pods: 2,
    services: [{ name: 'a', port: 80, targetPort: 10000, pods: [0, 1] }],
  });
  try {
    useIpvs(scene, [scene.service('a')]);
    await startBackends(scene, [10000]);
    nodeLogRecords('1');
    for (const pod of scene.pods)
      scene.runIn(scene.node, `iptables -t nat -I POSTROUTING -d ${pod.ip} -j LOG --log-prefix "${PREFIX}"`);
    const self = fileURLToPath(import.meta.url);
    const listener = scene.spawnIn(scene.node, process.execPath, ['--import', 'tsx', self, 'listen'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const messages: string[] = [];
    createInterface({ input: listener.stdout! }).on('line', (line) => messages.push(line));
    await until('the listener', () => messages.length > 0);
    const { clusterIp } = scene.service('a');
    for (let i = 0; i < 2; i++)
      scene.runIn(
        scene.fronts[0]!,
        `bash -c 'exec 3<>/dev/tcp/${clusterIp}/80; printf "GET /a HTTP/1.0\\r\\n\\r\\n" >&3; cat <&3 >/dev/null'`,
      );
    await delay(2_000);
    listener.stdin!.end();
    await delay(2_000);
    const what = `ctnetlink events of two connections through ${clusterIp}:80 by IPVS, one netlink message each`;
    const captured = { kernel: `Linux ${release()}`, source: what, messages: messages.slice(1) };
    writeFileSync(join(dir, 'messages.json'), JSON.stringify(captured, undefined, 2));
    const records = execFileSync('sh', ['-c', 'timeout 3 cat /dev/kmsg || true'], { encoding: 'latin1' });
    const ours = records.split('\n').filter((line) => line.includes(PREFIX));
    writeFileSync(join(dir, 'kmsg.txt'), `${ours.join('\n')}\n`);
  } finally {
    await scene.dispose();
  }
}

const [where] = process.argv.slice(2);
if (where === 'listen') await listen();
else await capture(where!);
