import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parse, parseAllDocuments } from 'yaml';
import { openApi } from '../../src/cluster/api.ts';
import { createNames } from '../../src/cluster/names.ts';
import { createReviewer } from '../../src/cluster/token.ts';
import { COMMAND, COMMANDS } from '../../src/config/commands.ts';
import { environmentName } from '../../src/config/option.ts';
import { readOptions } from '../../src/config/read.ts';
import { INJECT_DEFAULTS, inject } from '../../src/inject/inject.ts';
import { compileLogFormat } from '../../src/parse/log-format.ts';
import { skipBecause } from '../required.ts';
import { ApiServerStandIn } from './api-server.ts';
import { hasModels, problems } from './k8s-schema.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const skip =
  spawnSync('kubectl', ['version', '--client']).status === 0
    ? false
    : skipBecause('no kubectl on this machine');

interface Manifest {
  kind: string;
  apiVersion: string;
  metadata: { name: string; namespace?: string };
  data: Record<string, string>;
  rules: { apiGroups: string[]; resources: string[]; verbs: string[] }[];
  spec: { template: { spec: PodSpec } };
}

interface PodSpec {
  containers: Container[];
  initContainers: Container[];
  volumes: { name: string }[];
}

interface Container {
  name: string;
  args: string[];
  securityContext: { capabilities: { drop: string[]; add?: string[] } };
  volumeMounts: { name: string }[];
  [probe: string]: unknown;
}

function build(folder: string): Manifest[] {
  const text = execFileSync('kubectl', ['kustomize', folder], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  return documents(text);
}

const documents = (text: string): Manifest[] =>
  parseAllDocuments(text).map((document) => document.toJS() as Manifest);

function pick(manifests: readonly Manifest[], kind: string, name: string): Manifest {
  const found = manifests.find((each) => each.kind === kind && each.metadata.name === name);
  assert.ok(found, `no ${kind} ${name}`);
  return found;
}

function folder(context: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'realpod-manifests-'));
  context.after(() => rmSync(path, { recursive: true }));
  return path;
}

for (const name of ['helper', 'example']) {
  test(`k8s/${name} is built by kustomize and fits the Kubernetes schemas`, { skip }, async (context) => {
    if (!(await hasModels()))
      context.diagnostic('kubernetes-models is not installed: unknown fields and types only');
    const manifests = build(join(root, 'k8s', name));
    assert.ok(manifests.length >= 5);
    for (const manifest of manifests) assert.deepEqual(await problems(manifest), []);
  });
}

test('the schemas find what is wrong', async () => {
  const pod = (container: object): object => ({
    kind: 'Pod',
    apiVersion: 'v1',
    spec: { containers: [container] },
  });
  assert.deepEqual(await problems(pod({ name: 'a', image: 'b', imag: 'c' })), [
    'Pod.spec.containers[0].imag: unknown field',
  ]);
  assert.equal((await problems(pod({ name: 1 })))[0], 'Pod.spec.containers[0].name: 1 is not string');
  assert.equal((await problems({ kind: 'Pot', apiVersion: 'v1' }))[0], 'Pot: no schema for V1Pot');
});

test('what inject prints fits the Kubernetes schemas', async () => {
  for (const file of ['k8s/example/nginx.yaml', 'test/fixtures/k8s/shop.yaml']) {
    const result = inject(readFileSync(join(root, file), 'utf8'), INJECT_DEFAULTS);
    assert.ok(result.ok);
    assert.equal(result.injected.length, 1);
    for (const manifest of documents(result.text)) assert.deepEqual(await problems(manifest), []);
  }
});

test('the kustomize Component and inject make the same pod, but for the ConfigMap that only inject knows', {
  skip,
}, () => {
  const component = pick(build(join(root, 'k8s/example')), 'Deployment', 'nginx').spec.template.spec;
  const result = inject(readFileSync(join(root, 'k8s/example/nginx.yaml'), 'utf8'), INJECT_DEFAULTS);
  assert.ok(result.ok);
  const injected = pick(documents(result.text), 'Deployment', 'nginx').spec.template.spec;
  const [sidecar] = injected.initContainers;
  assert.deepEqual(sidecar?.volumeMounts.pop(), {
    name: 'conf',
    mountPath: '/etc/nginx/nginx.conf',
    subPath: 'nginx.conf',
    readOnly: true,
  });
  const sorted = (spec: PodSpec): PodSpec => ({
    ...spec,
    volumes: spec.volumes.toSorted((a, b) => a.name.localeCompare(b.name)),
    containers: spec.containers.map((each) => ({
      ...each,
      volumeMounts: each.volumeMounts.toSorted((a, b) => a.name.localeCompare(b.name)),
    })),
  });
  assert.deepEqual(sorted(injected), sorted(component));
});

test('the Component changes only what carries the label, in every kind', { skip }, (context) => {
  const here = folder(context);
  const workload = (kind: string, labels: object): string =>
    JSON.stringify({
      apiVersion: 'apps/v1',
      kind,
      metadata: { name: `${kind}-${Object.keys(labels).length}`.toLowerCase(), labels },
      spec: { template: { spec: { containers: [{ name: 'nginx', image: 'nginx' }] } } },
    });
  const kinds = ['Deployment', 'StatefulSet', 'DaemonSet'];
  const files = kinds.flatMap((kind) => [
    workload(kind, { 'realpod.io/sidecar': 'true' }),
    workload(kind, {}),
  ]);
  files.forEach((text, index) => {
    writeFileSync(join(here, `${index}.yaml`), text);
  });
  writeFileSync(
    join(here, 'kustomization.yaml'),
    JSON.stringify({
      resources: files.map((_, index) => `${index}.yaml`),
      components: [relative(here, join(root, 'k8s/sidecar'))],
      images: [{ name: 'ghcr.io/realpod/sidecar', newName: 'registry.example.com/realpod', newTag: '9' }],
    }),
  );
  for (const manifest of build(here)) {
    const { initContainers = [] } = manifest.spec.template.spec;
    const images = initContainers.map((each) => each.image);
    const expected = manifest.metadata.name.endsWith('-1') ? ['registry.example.com/realpod:9'] : [];
    assert.deepEqual(images, expected, manifest.metadata.name);
  }
});

test('the sidecar cannot take nginx out of service and has no rights', { skip }, () => {
  const { initContainers } = pick(build(join(root, 'k8s/example')), 'Deployment', 'nginx').spec.template.spec;
  const [sidecar] = initContainers;
  assert.ok(sidecar);
  for (const probe of ['readinessProbe', 'livenessProbe', 'startupProbe'])
    assert.equal(sidecar[probe], undefined);
  assert.deepEqual(sidecar.securityContext, {
    runAsUser: 65532,
    runAsGroup: 65532,
    runAsNonRoot: true,
    readOnlyRootFilesystem: true,
    allowPrivilegeEscalation: false,
    capabilities: { drop: ['ALL'] },
    seccompProfile: { type: 'RuntimeDefault' },
  });
});

test('the helper has NET_ADMIN and no other capability', { skip }, () => {
  const { containers } = pick(build(join(root, 'k8s/helper')), 'DaemonSet', 'realpod-helper').spec.template
    .spec;
  assert.deepEqual(containers[0]?.securityContext.capabilities, { drop: ['ALL'], add: ['NET_ADMIN'] });
});

test('the packet Component adds the capability and the options that it needs, and is valid', {
  skip,
}, async (context) => {
  const here = folder(context);
  writeFileSync(
    join(here, 'kustomization.yaml'),
    JSON.stringify({
      resources: [relative(here, join(root, 'k8s/helper'))],
      components: [relative(here, join(root, 'k8s/helper-packet'))],
    }),
  );
  const manifests = build(here);
  for (const manifest of manifests) assert.deepEqual(await problems(manifest), []);
  const { containers } = pick(manifests, 'DaemonSet', 'realpod-helper').spec.template.spec;
  const [helper] = containers as (Container & { env: { name: string; value: string }[] })[];
  assert.deepEqual(helper!.securityContext.capabilities, { drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW'] });
  const env = Object.fromEntries(helper!.env.map(({ name, value }) => [name, value]));
  const { sources, tapSource } = readOptions(COMMAND.helper, [], env);
  assert.deepEqual([sources, tapSource], [['tap'], 'packet']);
});

test('the kernel-log Component adds the device, the source and the privilege that it needs, and is valid', {
  skip,
}, async (context) => {
  const here = folder(context);
  writeFileSync(
    join(here, 'kustomization.yaml'),
    JSON.stringify({
      resources: [relative(here, join(root, 'k8s/helper'))],
      components: [relative(here, join(root, 'k8s/helper-kernel-log'))],
    }),
  );
  const manifests = build(here);
  for (const manifest of manifests) assert.deepEqual(await problems(manifest), []);
  const { containers, volumes } = pick(manifests, 'DaemonSet', 'realpod-helper').spec.template.spec;
  const [helper] = containers as (Container & { env: { name: string; value: string }[] })[];
  assert.equal((helper!.securityContext as { privileged?: boolean }).privileged, true);
  const kmsg = { name: 'kmsg', hostPath: { path: '/dev/kmsg', type: 'CharDevice' } };
  assert.deepEqual(volumes, [kmsg, { name: 'run', emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } }]);
  const env = Object.fromEntries(helper!.env.map(({ name, value }) => [name, value]));
  const options = readOptions(COMMAND.helper, [], env);
  assert.deepEqual(options.sources, ['conntrack', 'tap', 'kernel-log']);
  assert.equal(options.kernelLog, '/dev/kmsg');
});

test('the trace Component adds the source and the rights that it needs, and is valid', {
  skip,
}, async (context) => {
  const here = folder(context);
  writeFileSync(
    join(here, 'kustomization.yaml'),
    JSON.stringify({
      resources: [relative(here, join(root, 'k8s/helper'))],
      components: [relative(here, join(root, 'k8s/helper-trace'))],
    }),
  );
  const manifests = build(here);
  for (const manifest of manifests) assert.deepEqual(await problems(manifest), []);
  const { spec } = pick(manifests, 'DaemonSet', 'realpod-helper').spec.template;
  const [helper] = spec.containers as (Container & { env: { name: string; value: string }[] })[];
  const add = ['NET_ADMIN', 'BPF', 'PERFMON', 'SYS_PTRACE'];
  assert.deepEqual(helper!.securityContext.capabilities, { drop: ['ALL'], add });
  assert.equal((spec as { hostPID?: boolean }).hostPID, true);
  const env = Object.fromEntries(helper!.env.map(({ name, value }) => [name, value]));
  assert.deepEqual(readOptions(COMMAND.helper, [], env).sources, ['conntrack', 'tap', 'trace']);
});

test('the arguments and the option ConfigMaps of the manifests are options that exist', { skip }, () => {
  const manifests = build(join(root, 'k8s/example'));
  const args = (container: Container | undefined): string[] => container?.args ?? [];
  const sidecar = args(pick(manifests, 'Deployment', 'nginx').spec.template.spec.initContainers[0]);
  const helper = args(pick(manifests, 'DaemonSet', 'realpod-helper').spec.template.spec.containers[0]);
  const { data } = pick(manifests, 'ConfigMap', 'realpod');
  for (const [[name, ...argv], env] of [
    [sidecar, data],
    [helper, {}],
  ] as const) {
    const command = COMMANDS.find((each) => each.name === name);
    assert.ok(command, `no command ${name}`);
    readOptions(command, argv, { HOST_IP: '10.0.0.5', ...env });
    const known = Object.keys(command.options).map(environmentName);
    for (const variable of Object.keys(env)) assert.ok(known.includes(variable), variable);
  }
});

test('the example’s log format is the one that the sidecar is told, and nginx takes it', {
  skip,
}, (context) => {
  const manifests = build(join(root, 'k8s/example'));
  const told = pick(manifests, 'ConfigMap', 'realpod').data.REALPOD_LOG_FORMAT ?? '';
  const conf = pick(manifests, 'ConfigMap', 'nginx').data['nginx.conf'] ?? '';
  const plain = (text: string): string => text.replace(/\s+/g, ' ').trim();
  assert.ok(plain(conf).includes(plain(told)));
  assert.ok(plain(readFileSync(join(root, 'k8s/README.md'), 'utf8')).includes(plain(told)));
  compileLogFormat(told);
  const here = folder(context);
  const local = conf
    .replace('backend:10000', '127.0.0.1:10000')
    .replaceAll(/\/var\/log\/nginx|\/tmp\/nginx\.pid/g, join(here, 'f'))
    .replace('/dev/stderr', 'stderr');
  execFileSync('mkdir', [join(here, 'f')]);
  writeFileSync(join(here, 'nginx.conf'), local.replace(/pid .*/, `pid ${here}/pid;`));
  const nginx = spawnSync('nginx', ['-t', '-p', here, '-c', join(here, 'nginx.conf')], { encoding: 'utf8' });
  if (nginx.error) context.diagnostic('no nginx on this machine: nginx -t left out');
  else assert.equal(nginx.status, 0, nginx.stderr);
});

test('the helper’s rights are exactly what it calls', async (context) => {
  const server = new ApiServerStandIn();
  await server.listen();
  const here = folder(context);
  writeFileSync(join(here, 'kubeconfig'), server.kubeconfig());
  const api = await openApi(join(here, 'kubeconfig'));
  const log = (): void => {};
  const pace = { delay: () => turn(), random: () => 0, now: Date.now };
  const names = createNames({ api, onName: log, log, pace });
  context.after(() => server.close());
  names.start();
  await server.watched();
  const token = server.issue({
    namespace: 'a',
    serviceAccount: 's',
    pod: 'p',
    audiences: ['realpod'],
    expires: Date.now() + 60_000,
  });
  const review = await createReviewer(api, log).review(token, '10.0.0.1');
  assert.deepEqual(review, { ok: true, identity: { pod: 'p', namespace: 'a', uid: 'uid', node: undefined } });
  await names.stop();

  const called = new Set(server.calls.map(({ verb, group, resource }) => `${verb} ${group}/${resource}`));
  const rules = documents(readFileSync(join(root, 'k8s/helper/rbac.yaml'), 'utf8')).flatMap(
    (each) => each.rules ?? [],
  );
  const granted = rules.flatMap(({ apiGroups, resources, verbs }) =>
    apiGroups.flatMap((group) =>
      resources.flatMap((resource) => verbs.map((verb) => `${verb} ${group}/${resource}`)),
    ),
  );
  assert.deepEqual([...called].sort(), granted.sort());
});

test('the sidecar starts without Fastify, the Kubernetes client, koffi and yaml', () => {
  const hook = `export const resolve = (name, context, next) => {
    if (/^(@kubernetes\\/client-node|fastify|koffi|yaml)(\\/|$)/.test(name)) throw new Error('forbidden: ' + name);
    return next(name, context);
  };`;
  const data = (code: string): string => `data:text/javascript,${encodeURIComponent(code)}`;
  const register = data(`import { register } from 'node:module'; register(${JSON.stringify(data(hook))});`);
  const load = (name: string): string =>
    spawnSync(
      process.execPath,
      [
        '--import',
        'tsx',
        '--import',
        register,
        '--input-type=module',
        '-e',
        `import ${JSON.stringify(name)}`,
      ],
      {
        cwd: root,
        encoding: 'utf8',
      },
    ).stderr;
  assert.equal(load(join(root, 'src/sidecar.ts')), '');
  assert.equal(load(join(root, 'src/cli.ts')).includes('forbidden'), false);
  assert.match(load('yaml'), /forbidden: yaml/, 'the check itself works');
});

test('the Dockerfile pins its base, and the builder gets every file it copies', () => {
  const dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8');
  const tag = /^ARG NODE_IMAGE=(node:\d+\.\d+\.\d+-.*)$/m.exec(dockerfile)?.[1];
  const watched = readFileSync(join(root, '.github/base-image/Dockerfile'), 'utf8');
  assert.equal(tag, /^FROM (.*)$/m.exec(watched)?.[1], 'the tag that dependabot keeps up to date');
  const allowed = readFileSync(join(root, '.dockerignore'), 'utf8').split('\n');
  for (const [, sources = ''] of dockerfile.matchAll(/^COPY (?!--from)(?:--chmod=\d+ )?(.*) \S+$/gm)) {
    for (const source of sources.split(' ')) {
      assert.ok(allowed.includes(`!${source.replace('./', '')}`), `${source} is kept from the builder`);
    }
  }
});

test('each image has a label, a health check and an entry point that gets signals; the sidecar’s has no root', () => {
  const stages = readFileSync(join(root, 'Dockerfile'), 'utf8')
    .split(/^FROM /m)
    .slice(1);
  const names = stages.map((stage) => /^(?:--platform=\S+ )?\S+ AS (\S+)/.exec(stage)?.[1]);
  for (const stage of stages) {
    const base = stage.split(' ').find((word) => !word.startsWith('--platform=')) ?? '';
    assert.ok(
      base.startsWith('$') || base.startsWith('scratch') || names.includes(base),
      `${base} is not pinned`,
    );
    assert.doesNotMatch(stage, /^ADD |:latest|npm install|curl |wget /m);
    for (const [line] of stage.matchAll(/npm ci(?:.*\\\n)*.*/g)) {
      assert.match(line, /--ignore-scripts/);
      assert.match(
        line,
        /&& node -e /,
        'npm 10 ends with 0 without a network: what it installed has to load',
      );
    }
  }
  assert.doesNotMatch(readFileSync(join(root, 'Dockerfile'), 'utf8'), /^# syntax=/m, 'needs a hub');
  for (const name of ['sidecar', 'helper']) {
    const stage = stages[names.indexOf(name)] ?? '';
    assert.match(stage, /org\.opencontainers\.image\.title="realpod/);
    assert.match(stage, /^HEALTHCHECK /m);
    assert.match(stage, /^ENTRYPOINT \["/m, 'a shell would keep signals from it');
    assert.equal(/^USER [1-9]\d*:[1-9]\d*$/m.test(stage), name === 'sidecar');
  }
});

test('the published package holds what its documents refer to', () => {
  const { files, main, bin } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    files: string[];
    main?: string;
    bin: Record<string, string>;
  };
  assert.equal(main, undefined);
  assert.deepEqual(bin, { realpod: 'dist/cli.js' });
  for (const wanted of ['dist', 'demo', 'k8s', 'CHANGELOG.md']) assert.ok(files.includes(wanted), wanted);
});

test('the sidecar’s container outlives a sidecar that ends, hands on signals, and ends when told', async (context) => {
  const here = folder(context);
  const program = join(here, 'realpod');
  writeFileSync(
    program,
    `#!/bin/sh
    if mkdir ${here}/once 2>/dev/null; then echo first; exit 3; fi
    trap 'echo reopened' USR1; trap 'echo told; exit 0' TERM
    echo "second $*"; while :; do sleep 0.05; done`,
  );
  chmodSync(program, 0o755);
  const child = spawn(join(root, 'k8s/stay-up.sh'), ['sidecar', '--style=json'], {
    // The first failure of a minute is followed by a start at once.
    env: { PATH: `${here}:${process.env.PATH}`, REALPOD_RESTART_SECONDS: '3600' },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  context.after(() => child.kill('SIGKILL'));
  const ended = new Promise((resolve) => child.on('exit', resolve));
  const said: string[] = [];
  for await (const line of createInterface(child.stdout)) {
    said.push(line);
    if (line.startsWith('second')) child.kill('SIGUSR1');
    if (line === 'reopened') child.kill('SIGTERM');
  }
  assert.deepEqual(said, ['first', 'second sidecar --style=json', 'reopened', 'told']);
  assert.equal(await ended, 0);
});

test('the sidecar’s container waits from the second failure within a minute on', async (context) => {
  const here = folder(context);
  const program = join(here, 'realpod');
  writeFileSync(program, '#!/bin/sh\necho started; exit 3\n');
  chmodSync(program, 0o755);
  const child = spawn(join(root, 'k8s/stay-up.sh'), ['sidecar'], {
    env: { PATH: `${here}:${process.env.PATH}`, REALPOD_RESTART_SECONDS: '3600' },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  context.after(() => child.kill('SIGKILL'));
  const said: string[] = [];
  for await (const line of createInterface(child.stderr)) {
    said.push(line.replace(/^realpod: ended with status 3, starting again in /, ''));
    if (said.length === 2) child.kill('SIGTERM');
  }
  // A shell may say what it ended.
  assert.deepEqual(
    said.filter((line) => line !== 'Terminated'),
    ['0 s', '3600 s'],
  );
});

test('a SIGTERM at the moment of a start reaches the sidecar', { timeout: 120_000 }, async (context) => {
  const here = folder(context);
  const program = join(here, 'realpod');
  const failOnce = `mkdir ${here}/once 2>/dev/null && exit 3`;
  writeFileSync(program, `#!/bin/sh\ntrap 'exit 0' TERM\n${failOnce}\nwhile :; do sleep 0.05; done\n`);
  chmodSync(program, 0o755);
  const children = new Set<ReturnType<typeof spawn>>();
  context.after(() => {
    // A container that lost the signal goes with its sidecar, which is in its process group.
    for (const child of children) if (child.exitCode === null) process.kill(-child.pid!, 'SIGKILL');
  });
  for (let n = 0; n < 60; n++) {
    rmSync(join(here, 'once'), { recursive: true, force: true });
    const child = spawn(join(root, 'k8s/stay-up.sh'), ['sidecar'], {
      env: { PATH: `${here}:${process.env.PATH}` },
      stdio: ['ignore', 'ignore', 'pipe'],
      detached: true,
    });
    children.add(child);
    const ended = new Promise((resolve) => child.on('exit', (code, signal) => resolve(code ?? signal)));
    // It says that it starts the sidecar again, and forks: the signal comes some microseconds later in each round.
    await once(child.stderr, 'data');
    for (let turns = 0; turns < n * 3; turns++) await turn();
    child.kill('SIGTERM');
    // 143: it had not yet said what a SIGTERM does.
    assert.ok([0, 143].includes((await ended) as number));
  }
});

test('V8’s limit is below that of the container’s memory, with either version of cgroups', (context) => {
  const here = folder(context);
  writeFileSync(join(here, 'realpod'), '#!/bin/sh\necho "$NODE_OPTIONS"; exit 2\n');
  chmodSync(join(here, 'realpod'), 0o755);
  const cgroup = join(here, 'cgroup');
  mkdirSync(join(cgroup, 'memory'), { recursive: true });
  const options = (own: Record<string, string> = {}): string =>
    spawnSync(join(root, 'k8s/stay-up.sh'), ['sidecar'], {
      env: { PATH: `${here}:${process.env.PATH}`, REALPOD_CGROUP: cgroup, ...own },
      encoding: 'utf8',
    }).stdout.trim();
  assert.equal(options(), '');
  writeFileSync(join(cgroup, 'memory/memory.limit_in_bytes'), '9223372036854771712\n');
  assert.equal(options(), '');
  writeFileSync(join(cgroup, 'memory/memory.limit_in_bytes'), '268435456\n');
  assert.equal(options(), '--max-old-space-size=153');
  writeFileSync(join(cgroup, 'memory.max'), 'max\n');
  assert.equal(options(), '');
  writeFileSync(join(cgroup, 'memory.max'), '134217728\n');
  assert.equal(options(), '--max-old-space-size=76');
  assert.equal(options({ NODE_OPTIONS: '--max-old-space-size=9' }), '--max-old-space-size=9');
});

test('help, other commands and bad options end the container', (context) => {
  const here = folder(context);
  const program = join(here, 'realpod');
  writeFileSync(program, '#!/bin/sh\ncase $* in *bad*) exit 2 ;; esac\n');
  chmodSync(program, 0o755);
  const status = (...args: string[]): number | null =>
    spawnSync(join(root, 'k8s/stay-up.sh'), args, {
      env: { PATH: `${here}:${process.env.PATH}` },
      timeout: 10_000,
    }).status;
  assert.equal(status('sidecar', '--help'), 0);
  assert.equal(status('doctor', 'nginx.conf'), 0);
  assert.equal(status('sidecar', '--bad'), 2);
});

test('nginx’s start waits until the feed is read, for ten seconds at most, and not where nginx runs already', (context) => {
  const patch = parse(readFileSync(join(root, 'k8s/sidecar/sidecar.yaml'), 'utf8'));
  const [{ args, lifecycle }] = patch.spec.template.spec.initContainers;
  const [, , script] = lifecycle.postStart.exec.command as string[];
  assert.ok(args.includes('--ready-file=/var/log/nginx/.realpod-ready'));
  const here = folder(context);
  const naps = join(here, 'naps');
  const sleep = join(here, 'sleep');
  const run = (): number => {
    rmSync(naps, { force: true });
    const path = `${here}:${process.env.PATH}`;
    execFileSync('/bin/sh', ['-c', script!.replaceAll('/var/log/nginx', join(here, 'log'))], {
      env: { PATH: path },
    });
    return existsSync(naps) ? readFileSync(naps, 'utf8').length : 0;
  };
  mkdirSync(join(here, 'log'));
  // A sleep of the test's own, that only counts.
  writeFileSync(sleep, `#!/bin/sh\n[ "$1" = 0.1 ] && printf . >> ${naps}\n`);
  chmodSync(sleep, 0o755);
  assert.equal(run(), 100);
  writeFileSync(sleep, `#!/bin/sh\nprintf . >> ${naps}\ntouch ${here}/log/.realpod-ready\n`);
  assert.equal(run(), 1);
  assert.equal(run(), 0);
  rmSync(join(here, 'log/.realpod-ready'));
  writeFileSync(join(here, 'log/access.log'), 'a line\n');
  assert.equal(run(), 0);
});

test('the log is created writable for the sidecar, errors go to nginx’s stderr, and a second start changes nothing', (context) => {
  const here = folder(context);
  const patch = parse(readFileSync(join(root, 'k8s/sidecar/sidecar.yaml'), 'utf8'));
  const script: string = patch.spec.template.spec.initContainers[0].lifecycle.postStart.exec.command[2];
  const run = (): string => {
    execFileSync('/bin/sh', ['-c', script.replaceAll('/var/log/nginx', here)]);
    return execFileSync('stat', ['-c', '%a %N', 'access.log', 'error.log'], { cwd: here, encoding: 'utf8' });
  };
  writeFileSync(join(here, '.realpod-ready'), '');
  const first = run();
  assert.match(first, /^666 .*access\.log.*\n.*error\.log.* -> .*\/dev\/stderr/);
  assert.equal(run(), first);
  execFileSync('/bin/sh', ['-c', script.replaceAll('/var/log/nginx', '/nonexistent')], { stdio: 'ignore' });
});
