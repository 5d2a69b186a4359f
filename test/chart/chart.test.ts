import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';
import { COMMAND, COMMANDS } from '../../src/config/commands.ts';
import { environmentName, optionName } from '../../src/config/option.ts';
import { readOptions } from '../../src/config/read.ts';
import { skipBecause } from '../required.ts';
import { problems } from '../unit/k8s-schema.ts';
import { findHelm } from './helm.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const chart = join(root, 'k8s/chart');
const helm = findHelm();
const skip = helm ? false : skipBecause('no helm, and no go to build it');

interface Container {
  args: string[];
  env: { name: string; value?: string }[];
  envFrom?: object[];
  ports?: object[];
  [key: string]: unknown;
}

interface Manifest {
  kind: string;
  apiVersion: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string> };
  spec: { template: { spec: { containers: Container[] } } };
  webhooks: {
    failurePolicy: string;
    clientConfig: { service: { name: string; namespace: string } };
  }[];
  rules: { resources: string[]; resourceNames?: string[]; verbs: string[] }[];
}

function run(...args: string[]): string {
  const done = spawnSync(helm!, args, { encoding: 'utf8' });
  assert.equal(done.status, 0, done.stderr + done.stdout);
  return done.stdout;
}

function render(...values: string[]): Manifest[] {
  // A Helm built from its module takes Kubernetes 1.20 for granted.
  const text = run('template', 'realpod', chart, '-n', 'realpod', '--kube-version', '1.34.0', ...values);
  return parseAllDocuments(text)
    .map((document) => document.toJS() as Manifest | null)
    .filter((each) => each !== null);
}

const pick = (manifests: readonly Manifest[], kind: string): Manifest =>
  manifests.find((each) => each.kind === kind) ?? assert.fail(`no ${kind}`);

const EVERYTHING = [
  ...['--set', 'webhook.enabled=true', '--set', 'monitoring.podMonitors=true'],
  ...['--set', 'networkPolicy.enabled=true', '--set', 'helper.kernelLog=true'],
  ...['--set', 'helper.options.tap-snaplen=2048', '--set', 'webhook.options.limits=cpu=200m'],
  ...['--set', 'commonLabels.team=web', '--set', 'helper.podAnnotations.a=b', '--set', 'fullnameOverride=rp'],
];

for (const [name, values] of [
  ['as it is', []],
  ['with everything', EVERYTHING],
] as const) {
  test(`the chart ${name} passes Helm's lint and fits the Kubernetes schemas`, { skip }, async () => {
    run('lint', chart, ...values);
    const manifests = render(...values);
    for (const manifest of manifests) {
      if (!manifest.apiVersion.startsWith('monitoring.')) assert.deepEqual(await problems(manifest), []);
      for (const label of ['name', 'instance', 'component', 'part-of', 'version', 'managed-by']) {
        assert.ok(manifest.metadata.labels?.[`app.kubernetes.io/${label}`], `${manifest.kind}: ${label}`);
      }
    }
    assert.equal(manifests.length, name === 'as it is' ? 5 : 18);
  });
}

test('the chart and kustomize run the helper alike', { skip }, () => {
  const text = readFileSync(join(root, 'k8s/helper/daemonset.yaml'), 'utf8');
  const bare = (manifest: Manifest): object => {
    const { spec } = manifest.spec.template;
    const [{ envFrom: _, ports: __, readinessProbe, livenessProbe, ...container }] = spec.containers as [
      Container,
    ];
    return { ...spec, containers: [container], probes: [!!readinessProbe, !!livenessProbe] };
  };
  const [wanted] = parseAllDocuments(text).map((document) => document.toJS() as Manifest);
  assert.deepEqual(bare(pick(render(), 'DaemonSet')), bare(wanted!));
});

test('what the chart gives to each command are options that it has', { skip }, () => {
  const manifests = render(...EVERYTHING);
  for (const kind of ['DaemonSet', 'Deployment']) {
    const [{ args, env }] = pick(manifests, kind).spec.template.spec.containers as [Container];
    const [name, ...argv] = args;
    const command = COMMANDS.find((each) => each.name === name)!;
    const variables = env.filter((each) => each.name.startsWith('REALPOD_'));
    const known = Object.keys(command.options).map(environmentName);
    for (const variable of variables) assert.ok(known.includes(variable.name), variable.name);
    readOptions(command, argv, Object.fromEntries(variables.map((each) => [each.name, each.value])));
  }
});

test('two webhooks run, on two nodes where there are two, and one stays while nodes are emptied', {
  skip,
}, () => {
  const manifests = render('--set', 'webhook.enabled=true');
  const { spec } = pick(manifests, 'Deployment') as unknown as {
    spec: { replicas: number; template: { spec: { topologySpreadConstraints: { topologyKey: string }[] } } };
  };
  assert.equal(spec.replicas, 2);
  assert.equal(spec.template.spec.topologySpreadConstraints[0]?.topologyKey, 'kubernetes.io/hostname');
  const budget = pick(manifests, 'PodDisruptionBudget') as unknown as { spec: { maxUnavailable: number } };
  assert.equal(budget.spec.maxUnavailable, 1);
});

test('a port of the helper’s own is probed and scraped', { skip }, () => {
  const manifests = render('--set', 'helper.options.listen=:9700', '--set', 'monitoring.podMonitors=true');
  const [{ readinessProbe }] = pick(manifests, 'DaemonSet').spec.template.spec.containers as [
    Container & { readinessProbe: { httpGet: { port: number } } },
  ];
  assert.equal(readinessProbe.httpGet.port, 9700);
  assert.match(JSON.stringify(manifests.filter((each) => each.kind === 'PodMonitor')), /\$1:9700/);
});

test('a value that the chart does not know, or an option that the command does not have, is refused by its name', {
  skip,
}, () => {
  const refusal = (value: string): string =>
    spawnSync(helm!, ['template', 'realpod', chart, '--kube-version', '1.34.0', '--set', value], {
      encoding: 'utf8',
    }).stderr;
  assert.match(refusal('helper.option.tap=headers'), /option/);
  assert.match(refusal('helper.options.tap-snaplenn=2048'), /tap-snaplenn/);
  assert.match(refusal('webhook.replicas=two'), /replicas/);
});

test('the schema of the values has each option of both commands that the chart does not set itself', () => {
  const schema = JSON.parse(readFileSync(join(chart, 'values.schema.json'), 'utf8')) as {
    properties: Record<'helper' | 'webhook', { properties: { options: { properties: object } } }>;
  };
  const SET = ['image', 'listen', 'namespace', 'service', 'secret', 'configuration'];
  for (const [name, own] of [
    // With `check` the helper only says what the node can give.
    ['helper', ['check', 'kubeconfig', 'ready-file']],
    ['webhook', ['kubeconfig', ...SET]],
  ] as const) {
    const names = Object.keys(COMMAND[name].options).map((key) => optionName(key).slice(2));
    assert.deepEqual(
      Object.keys(schema.properties[name].properties.options.properties).sort(),
      names.filter((each) => !(own as readonly string[]).includes(each)).sort(),
    );
  }
});

test('the webhook lets every pod through where it is away, and may touch its own objects alone', {
  skip,
}, () => {
  const manifests = render(...EVERYTHING);
  const configuration = pick(manifests, 'MutatingWebhookConfiguration');
  const [webhook] = configuration.webhooks;
  assert.equal(webhook?.failurePolicy, 'Ignore');
  const [{ args }] = pick(manifests, 'Deployment').spec.template.spec.containers as [Container];
  const options = readOptions(COMMAND.webhook, args.slice(1), {});
  const { name, namespace } = webhook!.clientConfig.service;
  assert.deepEqual([options.service, 'realpod'], [name, namespace]);
  assert.equal(options.configuration, configuration.metadata.name);
  // A Secret that the webhook may only fill, and that goes with the chart.
  const secret = pick(manifests, 'Secret') as Manifest & { data?: object };
  assert.deepEqual(
    [secret.metadata.name, secret.data],
    [options.secret, undefined],
    'an upgrade keeps its content',
  );
  const rules = manifests
    .filter((each) => /Role$/.test(each.kind) && each.metadata.name.endsWith('webhook'))
    .flatMap((each) => each.rules);
  assert.deepEqual(
    rules
      .map(({ resources, resourceNames, verbs }) => `${resources} ${resourceNames ?? 'any'} ${verbs}`)
      .sort(),
    [
      `mutatingwebhookconfigurations ${options.configuration} get,update`,
      `secrets ${options.secret} get,update`,
    ],
  );
});

test('a helper whose tap may read a packet socket gets the capability for it', { skip }, () => {
  const added = (...values: string[]): unknown => {
    const [helper] = pick(render(...values), 'DaemonSet').spec.template.spec.containers;
    return (helper!.securityContext as { capabilities: { add: string[] } }).capabilities.add;
  };
  assert.deepEqual(added(), ['NET_ADMIN']);
  for (const source of ['packet', 'auto'])
    assert.deepEqual(added('--set', `helper.options.tap-source=${source}`), ['NET_ADMIN', 'NET_RAW']);
  assert.deepEqual(added('--set', 'helper.options.tap-source=nflog'), ['NET_ADMIN']);
});
