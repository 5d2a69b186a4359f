/** What capture/ promises, on this machine's kernel. The client's namespace plays nginx: it dials the Service. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { ProbeCommand, ProbeReport } from './kit/capture-probe.ts';
import type { LoadPlan } from './kit/load.ts';
import { startNginx, until } from './kit/nginx.ts';
import { labCanRun } from './kit/requirements.ts';
import { createScene, endChild, type Scene } from './kit/scene.ts';
import { collect, labProgram } from './kit/traffic.ts';

const skip = labCanRun() ? false : 'lab skipped';
const POD_PORT = 10000;
let scene: Scene;
let clientIp = '';
let runs = 0;

before(async () => {
  if (skip) return;
  const both = { port: 10000, targetPort: POD_PORT, pods: [0, 1] };
  scene = await createScene({
    pods: 2,
    services: [
      { name: 'a', ...both },
      { name: 'six', ...both, family: 6 },
    ],
  });
  clientIp = scene.client.ip;
  for (const pod of scene.pods) {
    const dir = join(scene.dir, pod.name);
    await startNginx(scene, pod, dir, {
      workers: 1,
      http: `
  log_format truth '$request_uri $remote_addr $remote_port $server_addr';
  access_log ${join(dir, 'access.log')} truth;
  server { listen ${POD_PORT}; listen [::]:${POD_PORT}; location / { return 200 "ok\\n"; } }`,
    });
  }
});

after(async () => {
  await scene?.dispose();
});

/** A Capture in the node's namespace. */
class Probe {
  readonly child: ChildProcess;
  readonly errors: string[] = [];
  readonly #answers: string[] = [];

  constructor(context: TestContext, options: object = {}, where: string[] = []) {
    const program = fileURLToPath(new URL('./kit/capture-probe.ts', import.meta.url));
    const node = [process.execPath, '--import', import.meta.resolve('tsx'), program, JSON.stringify(options)];
    const [command, ...args] = [...where, ...node];
    this.child = scene.spawnIn(scene.node, command!, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    createInterface(this.child.stdout!).on('line', (line) => this.#answers.push(line));
    createInterface(this.child.stderr!).on('line', (line) => this.errors.push(line));
    context.after(() => endChild(this.child));
  }

  async answer(): Promise<ProbeReport & { error?: string }> {
    await until(`the probe (${this.errors.join('; ')})`, () => this.#answers.length > 0, 20_000);
    return JSON.parse(this.#answers.shift()!);
  }

  async tell(command: ProbeCommand): Promise<ProbeReport> {
    this.child.stdin!.write(`${JSON.stringify(command)}\n`);
    return await this.answer();
  }

  /** Asks again until `done` holds of the report. */
  async until(what: string, done: (report: ProbeReport) => boolean): Promise<ProbeReport> {
    for (const end = Date.now() + 20_000; ; ) {
      const report = await this.tell({ do: 'flush' });
      if (done(report)) return report;
      if (Date.now() > end) assert.fail(`gave up waiting for ${what}: ${JSON.stringify(report.stats)}`);
    }
  }
}

async function startProbe(context: TestContext, options: object = {}): Promise<Probe> {
  const probe = new Probe(context, options);
  const { error } = await probe.answer();
  assert.equal(error, undefined);
  return probe;
}

/** Requests from the client to a Service. Returns what the backends say of each: path → client's port and pod. */
async function dial(plan: Partial<LoadPlan> & { total: number; service?: string }) {
  const { service = 'a', ...rest } = plan;
  const run = `/run${++runs}/`;
  const whole: LoadPlan = {
    host: scene.service(service).clusterIp,
    port: 10000,
    connections: 8,
    requests: [{ path: `${run}{n}`, headers: ['X-Request-ID: id-{n}'] }],
    ...rest,
  };
  const text = await collect(
    scene,
    scene.client,
    process.execPath,
    labProgram('load.ts', JSON.stringify(whole)),
  );
  const { completed, elapsedMs } = JSON.parse(text);
  assert.equal(completed, plan.total);
  const truth = new Map<string, string>();
  const read = () => {
    for (const pod of scene.pods) {
      for (const line of readFileSync(join(scene.dir, pod.name, 'access.log'), 'utf8').split('\n')) {
        if (!line.startsWith(run)) continue;
        const [path, src, sport, ip] = line.split(' ');
        truth.set(path!, `${src} ${sport} ${ip}`);
      }
    }
    return truth.size === plan.total;
  };
  await until("the backends' own logs", read);
  return { truth, run, elapsedMs: elapsedMs as number };
}

/** Every request is there once, with the client's port, the pod and the Service that it really had. */
function assertExact(report: ProbeReport, truth: Map<string, string>, run: string, vip: string): void {
  const seen = report.requests.filter(({ path }) => path?.startsWith(run));
  assert.equal(seen.length, truth.size);
  for (const { path, src, sport, ip, port, vip: dialled, vport } of seen) {
    assert.equal(`${src} ${sport} ${ip}`, truth.get(path!));
    const uses = report.requests.filter((each) => each.src === src && each.sport === sport);
    assert.deepEqual(
      [port, dialled, vport],
      [POD_PORT, vip, 10000],
      JSON.stringify([report.stats, report.gaps, uses]),
    );
  }
  assert.equal(new Set(seen.map(({ path }) => path)).size, truth.size);
}

/** The kernel tracks so many connections of the client that are not over: those of earlier tests have ended. */
const tracked = (open: number) =>
  until(`${open} open connections in conntrack`, () => {
    const table = scene.runIn(scene.node, 'cat /proc/net/nf_conntrack || true').split('\n');
    const ours = table.filter((line) => line.includes(' tcp ') && !line.includes(' TIME_WAIT '));
    return ours.length === open;
  });

/** nginx ignores an empty line before a request. It is no request: one such packet is logged of a connection. */
const MORE = "printf '\\r\\n' >&3";
const opaque = (service: string) => `exec 3<>/dev/tcp/${scene.service(service).clusterIp}/10000; ${MORE}`;

const nft = (args: string) => scene.runIn(scene.node, `nft ${args}`);

test('every request is seen with its port, pod and Service, connections kept or not', { skip }, async (t) => {
  const probe = await startProbe(t);
  await probe.tell({ do: 'subscribe', addresses: [clientIp, scene.client.ip6] });
  for (const [keepalive, service, total] of [
    [false, 'a', 4000],
    [true, 'a', 8000],
    [false, 'six', 500],
  ] as const) {
    const { truth, run } = await dial({ total, keepalive, service, connections: 20 });
    const report = await probe.tell({ do: 'flush' });
    assertExact(report, truth, run, scene.service(service).clusterIp);
    assert.deepEqual(report.gaps, []);
  }
  const { stats } = await probe.tell({ do: 'report' });
  assert.deepEqual([stats.conntrackMalformed, stats.tapMalformed, stats.tapNotHttp], [0, 0, 0]);
});

test('connections older than the reader are known, IPv4 and IPv6, and so are requests on them', {
  skip,
}, async (t) => {
  const requests: string[] = [];
  for (const service of ['a', 'six']) {
    requests.push(`exec 3<>/dev/tcp/${scene.service(service).clusterIp}/10000; read line <&0; \\
      printf 'GET /old-${service} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' >&3; head -1 <&3 >/dev/null; read line <&0`);
  }
  const olds = requests.map((script) =>
    scene.spawnIn(scene.client, 'bash', ['-c', script], { stdio: ['pipe', 'ignore', 'inherit'] }),
  );
  t.after(() => Promise.all(olds.map((child) => endChild(child))));
  await tracked(2);
  const probe = await startProbe(t);
  const report = await probe.tell({ do: 'subscribe', addresses: [clientIp, scene.client.ip6] });
  assert.equal(report.held, 2, report.open.join());
  for (const child of olds) child.stdin!.write('go\n');
  const { requests: seen } = await probe.until('both requests', (now) => now.requests.length === 2);
  assert.deepEqual(
    seen.map(({ path, vip }) => [path, vip]).sort(),
    ['a', 'six'].map((name) => [`/old-${name}`, scene.service(name).clusterIp]),
  );
});

test('a reader that stands still while 5,000 connections and 5,000 kept requests pass loses nothing', {
  skip,
}, async (t) => {
  await tracked(0);
  const probe = await startProbe(t);
  await probe.tell({ do: 'subscribe', addresses: [clientIp] });
  for (const keepalive of [false, true]) {
    const untilFile = join(scene.dir, `go-on-${keepalive}`);
    await probe.tell({ do: 'stall', untilFile });
    const { truth, run, elapsedMs } = await dial({ total: 5000, keepalive });
    writeFileSync(untilFile, '');
    const report = await probe.tell({ do: 'flush' });
    t.diagnostic(
      `stood still for ${Math.round(elapsedMs)} ms, connections ${keepalive ? 'kept' : 'not kept'}`,
    );
    assertExact(report, truth, run, scene.service('a').clusterIp);
    assert.deepEqual(report.gaps, []);
  }
});

test('with a tiny buffer a stalled reader says what it lost, and then knows the connections again', {
  skip,
}, async (t) => {
  const probe = await startProbe(t, { receiveBufferBytes: 64 * 1024 });
  await probe.tell({ do: 'subscribe', addresses: [clientIp] });
  const holder = scene.spawnIn(
    scene.client,
    'bash',
    ['-c', `read line; ${opaque('a')}; echo up; read line; ${MORE}; read line`],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  t.after(() => endChild(holder));
  const before = await probe.tell({ do: 'report' });
  const untilFile = join(scene.dir, 'go-on-tiny');
  await probe.tell({ do: 'stall', untilFile });
  const lossy = await dial({ total: 3000, keepalive: false });
  // This connection's opening falls into the loss, with the one packet that is logged of it, and it stays open.
  holder.stdin!.write('go\n');
  await new Promise((resolve) => holder.stdout!.once('data', resolve));
  writeFileSync(untilFile, '');
  await probe.tell({ do: 'flush' });
  const after = await dial({ total: 1, keepalive: false });
  const report = await probe.until('the re-dump', ({ gaps, watermark }) => {
    const last = gaps.findLast(({ source }) => source === 'conntrack');
    return last !== undefined && watermark > last.t;
  });
  const seen = (run: string) => report.requests.filter(({ path }) => path?.startsWith(run));
  const { stats } = report;
  assert.ok(stats.conntrackOverruns > 0 && stats.tapOverruns > 0);
  // The number of lost packets is exact once another one has come.
  assert.ok(stats.tapLost > 0);
  assert.equal(seen(lossy.run).length + stats.tapLost, 3001);
  assert.equal(seen(after.run).length, 1);
  for (const { path, src, sport, ip } of seen(lossy.run)) {
    assert.equal(`${src} ${sport} ${ip}`, lossy.truth.get(path!));
  }
  const tapGaps = report.gaps.filter(({ source }) => source === 'tap');
  assert.equal(
    tapGaps.reduce((sum, { lost }) => sum + (lost ?? 0), 0),
    stats.tapLost,
  );
  // The gaps of each source begin with what was complete before the stall and leave nothing out.
  for (const source of ['conntrack', 'tap'] as const) {
    const gaps = report.gaps.filter((gap) => gap.source === source);
    assert.ok(gaps[0]!.from! >= before.watermark);
    assert.ok(gaps[0]!.from! < gaps[0]!.t);
  }
  // What is open now is what the kernel lists.
  const listed = scene
    .runIn(scene.node, `conntrack -L -s ${clientIp} 2>/dev/null || true`)
    .split('\n')
    .filter((line) => line.includes('ESTABLISHED'))
    .map((line) => /sport=(\d+) .*?src=(\S+) .*?sport=(\d+)/.exec(line)!)
    .map(([, sport, ip, port]) => `${clientIp}:${sport} ${ip}:${port}`);
  assert.equal(listed.length, 1);
  const right = await probe.until('the end of what was missed', ({ open }) => open.length === 1);
  assert.deepEqual(right.open, listed);
  assert.deepEqual(right.unreadable, []);
  holder.stdin!.write('more\n');
  const told = await probe.until('what cannot be read', ({ unreadable }) => unreadable.length > 0);
  assert.equal(told.unreadable[0]!.vip, scene.service('a').clusterIp);
});

test('a reader that comes back is told of a connection that cannot be read, although its packets were logged before', {
  skip,
}, async (t) => {
  const probe = await startProbe(t);
  await probe.tell({ do: 'subscribe', addresses: [clientIp] });
  const holder = scene.spawnIn(
    scene.client,
    'bash',
    ['-c', `${opaque('a')}; read line; ${MORE}; read line`],
    {
      stdio: ['pipe', 'ignore', 'inherit'],
    },
  );
  t.after(() => endChild(holder));
  await probe.until('its first packet', ({ unreadable }) => unreadable.length === 1);
  await probe.tell({ do: 'unsubscribe', addresses: [clientIp] });
  const again = await probe.tell({ do: 'subscribe', addresses: [clientIp] });
  assert.deepEqual([again.held, again.unreadable.length], [1, 1]);
  holder.stdin!.write('more\n');
  const { unreadable } = await probe.until('another packet', (now) => now.unreadable.length === 2);
  assert.equal(unreadable[1]!.sport, unreadable[0]!.sport);
});

test('a refused connection is told and is over at once', { skip }, async (t) => {
  const probe = await startProbe(t);
  await probe.tell({ do: 'subscribe', addresses: [clientIp] });
  scene.runIn(scene.client, `bash -c ': </dev/tcp/${scene.pods[0]!.ip}/9' 2>/dev/null || true`);
  const report = await probe.tell({ do: 'flush' });
  assert.deepEqual([report.opened, report.closed, report.open.length], [1, 1, 0]);
});

test('a lookup finds ports of addresses that nobody subscribed, also just after the end', {
  skip,
}, async (t) => {
  const { truth } = await dial({ total: 1, keepalive: false });
  const [src, sport, ip] = [...truth.values()][0]!.split(' ');
  const probe = await startProbe(t);
  const { flows } = await probe.tell({ do: 'lookup', src: src!, sport: Number(sport) });
  assert.deepEqual(
    flows!.map((flow) => [flow.ip, flow.port, flow.vip, flow.vport]),
    [[ip, POD_PORT, scene.service('a').clusterIp, 10000]],
  );
  assert.deepEqual((await probe.tell({ do: 'lookup', src: src!, sport: 1 })).flows, []);
});

test('the table is what its source says, no one else can change it, and it goes with the process', {
  skip,
}, async (t) => {
  const probe = await startProbe(t);
  await probe.tell({ do: 'subscribe', addresses: [clientIp, scene.client.ip6] });
  const listing = nft('list table inet realpod');
  for (const line of [
    'flags owner',
    'type filter hook postrouting priority srcnat - 10; policy accept;',
    'ip saddr @clients4 goto request',
    'ip6 saddr @clients6 goto request',
    'meta l4proto tcp ct direction original @ih,0,8 0x2d-0x5f @ih,8,8 0x20-0x5f @ih,16,8 0x20-0x5f ' +
      'log group 9797 snaplen 1024 queue-threshold 1',
  ]) {
    assert.ok(listing.includes(line), `${line} not in ${listing}`);
  }
  assert.match(listing, new RegExp(`elements = { ${clientIp.replaceAll('.', '\\.')} expires 2`));
  assert.ok(listing.includes(scene.client.ip6));
  assert.throws(() => nft('delete table inet realpod'), /Operation not permitted/);
  nft('flush ruleset inet');
  assert.ok(nft('list tables').includes('inet realpod'));

  const second = new Probe(t);
  assert.match(
    (await second.answer()).error!,
    /^(NFLOG group 9797 is read by another program|the nftables table)/,
  );
  const other = new Probe(t, { tapGroup: 9798 });
  assert.match(
    (await other.answer()).error!,
    /^the nftables table inet realpod is there already: another realpod/,
  );

  await probe.tell({ do: 'unsubscribe', addresses: [clientIp, scene.client.ip6] });
  await until('the addresses to go', () => !nft('list table inet realpod').includes('elements'));
  probe.child.kill('SIGKILL');
  await until('the table to go', () => !nft('list tables').includes('realpod'));

  const third = await startProbe(t);
  await third.tell({ do: 'close' });
  assert.ok(!nft('list tables').includes('realpod'));
});

test('without rights it says what it needs', { skip }, async (t) => {
  const powerless = new Probe(t, {}, ['setpriv', '--bounding-set=-all', '--inh-caps=-all']);
  assert.match(
    (await powerless.answer()).error!,
    /not permitted\. The helper needs the capability NET_ADMIN$/,
  );
});
