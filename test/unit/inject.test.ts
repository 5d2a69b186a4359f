import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { parse, parseAllDocuments } from 'yaml';
import { INJECT_COMMAND_DEFAULTS, runInject } from '../../src/inject/command.ts';
import { INJECT_DEFAULTS, inject } from '../../src/inject/inject.ts';
import { problems } from './k8s-schema.ts';

const shop = readFileSync(new URL('../fixtures/k8s/shop.yaml', import.meta.url), 'utf8');

interface Pod {
  initContainers?: {
    name: string;
    image: string;
    lifecycle?: object;
    volumeMounts: object[];
    restartPolicy?: string;
  }[];
  containers: { name: string; volumeMounts?: { name: string; mountPath: string }[] }[];
  volumes?: { name: string; emptyDir?: object }[];
}

function deployment(pod: object, kind = 'Deployment'): string {
  return JSON.stringify({
    apiVersion: 'apps/v1',
    kind,
    metadata: { name: 'web' },
    spec: { template: { metadata: { labels: { app: 'web' } }, spec: pod } },
  });
}

const nginx = (more: object = {}): object => ({ name: 'web', image: 'nginx:1.29', ...more });

function done(input: string, options: Partial<typeof INJECT_DEFAULTS> = {}): string {
  const result = inject(input, { ...INJECT_DEFAULTS, ...options });
  assert.ok(result.ok, result.ok ? '' : result.message);
  return result.text;
}

const podOf = (output: string): Pod => parse(output).spec.template.spec as Pod;

function refusal(input: string, options: Partial<typeof INJECT_DEFAULTS> = {}): string {
  const result = inject(input, { ...INJECT_DEFAULTS, ...options });
  assert.ok(!result.ok, 'it was injected');
  assert.ok(!result.message.includes('\n'), 'one line');
  return result.message;
}

test('of a whole file only the nginx pod changes, and of that only what is added', () => {
  const output = done(shop);
  const [before, after] = [shop.split('\n'), output.split('\n')];
  const added = after.filter((line) => !before.includes(line));
  const rest = [...after];
  for (const line of before) {
    const at = rest.indexOf(line);
    assert.ok(at >= 0, `lost or moved: ${line}`);
    rest.splice(0, at + 1);
  }
  assert.ok(added.length > 30);
  const [configMap, web, backend] = parseAllDocuments(output).map((document) => document.toJS());
  assert.equal(configMap.kind, 'ConfigMap');
  assert.deepEqual(
    web.spec.template.spec.initContainers.map((each: { name: string }) => each.name),
    ['realpod'],
  );
  assert.equal(backend.spec.template.spec.initContainers, undefined);
});

test('inject of what inject printed is the same text', () => {
  const once = done(shop);
  assert.equal(done(once), once);
  const json = done(deployment({ containers: [nginx()] }));
  assert.equal(done(json), json);
});

test('the pod gets a sidecar that starts before nginx, the log volume and the token', () => {
  const pod = podOf(
    done(deployment({ initContainers: [{ name: 'wait', image: 'busybox' }], containers: [nginx()] })),
  );
  assert.deepEqual(
    pod.initContainers?.map((each) => each.name),
    ['wait', 'realpod'],
  );
  assert.equal(pod.initContainers?.[1]?.restartPolicy, 'Always');
  assert.deepEqual(pod.containers[0]?.volumeMounts, [{ name: 'realpod-log', mountPath: '/var/log/nginx' }]);
  assert.deepEqual(
    pod.volumes?.map((each) => each.name),
    ['realpod-log', 'realpod-token'],
  );
});

test('options set the image and the size of the log volume', () => {
  const pod = podOf(
    done(deployment({ containers: [nginx()] }), { image: 'my/realpod:2', logVolumeSize: '5Gi' }),
  );
  assert.equal(pod.initContainers?.[0]?.image, 'my/realpod:2');
  assert.deepEqual(pod.volumes?.[0]?.emptyDir, { sizeLimit: '5Gi' });
});

test('a volume that nginx already logs to is used', () => {
  const mount = { name: 'logs', mountPath: '/var/log/', subPath: 'web' };
  const pod = podOf(
    done(
      deployment({
        containers: [nginx({ volumeMounts: [mount] })],
        volumes: [{ name: 'logs', emptyDir: {} }],
      }),
    ),
  );
  assert.deepEqual(pod.initContainers?.[0]?.volumeMounts[0], mount);
  assert.doesNotMatch(JSON.stringify(pod.initContainers?.[0]?.lifecycle), /touch|ln -s/);
  assert.deepEqual(pod.containers[0]?.volumeMounts, [mount]);
  assert.deepEqual(
    pod.volumes?.map((each) => each.name),
    ['logs', 'realpod-token'],
  );
});

for (const image of [
  'nginx',
  'nginxinc/nginx-unprivileged:stable',
  'localhost:5000/my-nginx@sha256:00',
  'openresty/openresty:1.27.1.2-alpine',
  'docker.angie.software/angie:1.10.0',
]) {
  test(`nginx is found by its image ${image}`, () => {
    const containers = [{ name: 'other', image: 'example/app' }, nginx({ image })];
    assert.equal(podOf(done(deployment({ containers }))).containers[1]?.volumeMounts?.length, 1);
  });
}

test('every kind that holds pods works, also inside a List', () => {
  const pod = { containers: [nginx()] };
  for (const kind of ['StatefulSet', 'DaemonSet', 'ReplicaSet', 'Job']) {
    assert.equal(podOf(done(deployment(pod, kind))).initContainers?.length, 1, kind);
  }
  const cron = {
    kind: 'CronJob',
    metadata: { name: 'c' },
    spec: { jobTemplate: { spec: { template: { spec: pod } } } },
  };
  assert.match(done(JSON.stringify(cron)), /realpod-token/);
  assert.match(done(JSON.stringify({ kind: 'Pod', metadata: { name: 'p' }, spec: pod })), /realpod-token/);
  const list = { kind: 'List', items: [cron, { kind: 'Service' }, JSON.parse(deployment(pod))] };
  const result = inject(JSON.stringify(list), INJECT_DEFAULTS);
  assert.deepEqual(result.ok && result.injected, ['List: CronJob c', 'List: Deployment web']);
});

test('what it cannot do is refused in one line that says what to do', () => {
  const two = [nginx(), { name: 'edge', image: 'nginx' }];
  const mounted = (mount: object): string => deployment({ containers: [nginx({ volumeMounts: [mount] })] });
  const apps = [
    { name: 'a', image: 'x' },
    { name: 'b', image: 'y' },
  ];
  for (const [input, message, options] of [
    ['', /^no pods in the input; it needs one of Pod, Deployment/],
    ['kind: Service', /^no pods in the input/],
    ['a: [', /^not YAML at line 1, column 5: /],
    [
      deployment({ containers: apps }),
      /^no nginx container found; .*--container \(Deployment web has a, b\)$/,
    ],
    [deployment({ containers: apps }), /^no container has the name "c"; /, { container: 'c' }],
    [deployment({ containers: two }), /several nginx containers \(web, edge\); choose one with --container/],
    [
      deployment({ containers: [nginx(), { name: 'realpod', image: 'x' }] }),
      /a container named realpod exists/,
    ],
    [deployment({ containers: [nginx()], volumes: [{ name: 'realpod-log' }] }), /a volume named realpod-log/],
    [mounted({ name: 'v', mountPath: '/var/log/nginx', readOnly: true }), /mounted read-only/],
    [mounted({ name: 'v', mountPath: '/var/log/nginx/access.log' }), /is a mount of its own/],
    ['kind: Deployment\nmetadata: {name: d}\nspec: {}', /^Deployment d: no pod spec in it$/],
    [
      `x: &s {containers: [{name: a, image: nginx}]}\n${'kind: Pod\nmetadata: {name: p}\nspec: *s'}`,
      /spec is the YAML alias \*s/,
    ],
    [
      'x: &b {image: nginx}\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a, <<: *b}]}',
      /volumeMounts may come from the YAML merge key/,
    ],
  ] as [string, RegExp, object?][]) {
    assert.match(refusal(input, options), message);
  }
});

test('a container chosen by name is taken whatever its image', () => {
  const containers = [
    { name: 'a', image: 'x' },
    { name: 'b', image: 'y' },
  ];
  const pod = podOf(done(deployment({ containers }), { container: 'b' }));
  assert.equal(pod.containers[1]?.volumeMounts?.[0]?.name, 'realpod-log');
});

test('the layout of the input is kept: sequences indented or not, long lines whole', () => {
  const long = `# ${'x'.repeat(200)}`;
  const indented = `${long}\nkind: Pod\nmetadata:\n  name: p\nspec:\n  containers:\n    - name: a\n      image: nginx\n`;
  assert.ok(done(indented).startsWith(indented.slice(0, -1)));
  const flush = indented.replaceAll('    - name', '  - name').replace('      image', '    image');
  assert.ok(done(flush).startsWith(flush.slice(0, -1)));
});

test('the command prints YAML with exit code 0, and a refusal in one line with exit code 2', async () => {
  const run = async (input: string): Promise<{ code: number; out: string; err: string }> => {
    const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
    stdin.end(input);
    const code = await runInject(INJECT_COMMAND_DEFAULTS, { stdin, stdout, stderr });
    stdout.end();
    stderr.end();
    return { code, out: await text(stdout), err: await text(stderr) };
  };
  const { code, out, err } = await run(shop);
  assert.deepEqual({ code, out }, { code: 0, out: done(shop) });
  assert.match(
    err,
    /^realpod inject: next: apply this ConfigMap [^\n]*realpod doctor[^\n]*\napiVersion: v1\nkind: ConfigMap\n/,
  );
  assert.match((await run(out)).err, /^realpod inject: every nginx has its sidecar; nothing changed\n$/);
  const refused = await run('kind: Service');
  assert.equal(refused.code, 2);
  assert.equal(refused.out, '');
  assert.match(refused.err, /^realpod inject: no pods in the input.*\n$/);
});

/** Whether `before` is left when pieces of `after` are taken away; exact for texts in which few characters move. */
function onlyAdded(before: string, after: string): boolean {
  let at = 0;
  for (const character of before) {
    at = after.indexOf(character, at) + 1;
    if (at === 0) return false;
  }
  return true;
}

/** The same without what inject adds, and without sequences that it had to begin. */
function without(value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.filter((item) => !/^realpod(-log|-token)?$/.test(item?.name ?? '')).map(without);
  }
  if (typeof value !== 'object' || value === null) return value;
  const kept = Object.entries(value).map(([key, item]) => [key, without(item)] as const);
  return Object.fromEntries(kept.filter(([, item]) => !(Array.isArray(item) && item.length === 0)));
}

const REAL = new URL('../fixtures/k8s/real/', import.meta.url);
for (const file of readdirSync(REAL)) {
  const before = readFileSync(new URL(file, REAL), 'utf8');
  test(`${file}: a sidecar, valid objects, every comment in its order, all else the same, and twice is once`, async () => {
    const options = file.startsWith('ingress') ? { container: 'controller' } : {};
    const result = inject(before, { ...INJECT_DEFAULTS, ...options });
    assert.ok(result.ok, result.ok ? '' : result.message);
    assert.equal(result.injected.length, 1);
    assert.ok(onlyAdded(before, result.text), 'a byte of the input is changed or gone');
    const objects = (input: string): object[] =>
      parseAllDocuments(input)
        .map((document) => document.toJS() as object)
        .filter(Boolean);
    const [was, is] = [objects(before), objects(result.text)];
    assert.notDeepEqual(is, was);
    assert.deepEqual(without(is), without(was));
    for (const object of is) {
      const { kind, items } = object as { kind: string; items?: object[] };
      for (const each of kind === 'List' ? (items ?? []) : [object])
        assert.deepEqual(await problems(each), []);
    }
    const comments = (input: string): string[] =>
      [...input.matchAll(/(?:^|\s)(# .*?)\s*$/gm)].map(([, text]) => text!);
    assert.deepEqual(comments(result.text), comments(before));
    assert.equal(result.text.includes('\r\n'), before.includes('\r\n'));
    assert.equal(done(result.text, options), result.text);
    if (file.endsWith('.json')) JSON.parse(result.text);
  });
}
