import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ApiError, type ApiServer } from '../../src/cluster/api.ts';
import { INJECT_DEFAULTS, inject } from '../../src/inject/inject.ts';
import { review } from '../../src/webhook/admission.ts';
import { makeAuthority, makeServer } from '../../src/webhook/certificate.ts';
import { bundleOf, renewed } from '../../src/webhook/credentials.ts';
import { createWebhookServer } from '../../src/webhook/server.ts';
import { type Place, share } from '../../src/webhook/shared.ts';
import { problems } from './k8s-schema.ts';

const NOW = Date.UTC(2026, 10, 26);
const DAY = 86_400_000;
const NAMES = ['realpod-webhook.realpod.svc', 'realpod-webhook.realpod.svc.cluster.local'];
const PLACE: Place = {
  namespace: 'realpod',
  secret: 'realpod-webhook',
  service: 'realpod-webhook',
  configuration: 'realpod',
};

function folder(context: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'realpod-webhook-'));
  context.after(() => rmSync(path, { recursive: true }));
  return path;
}

test('openssl takes the certificates, strictly, for the server’s name and purpose and for no other name', (context) => {
  const here = folder(context);
  // Many, as a serial or a signature with a leading zero or high bit comes once in a while.
  for (let i = 0; i < 20; i++) {
    const authority = makeAuthority(`realpod webhook ${i}`, Date.now(), 730 * DAY);
    const { certificate } = makeServer(NAMES, authority, Date.now(), 90 * DAY);
    writeFileSync(join(here, 'ca.pem'), authority.certificate);
    writeFileSync(join(here, 'server.pem'), certificate);
    const verify = (name: string): string =>
      execFileSync(
        'openssl',
        [
          ...['verify', '-x509_strict', '-purpose', 'sslserver', '-verify_hostname', name],
          ...['-CAfile', 'ca.pem', 'server.pem'],
        ],
        { cwd: here, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] },
      );
    assert.match(verify(NAMES[0]!), /server\.pem: OK/);
    assert.throws(() => verify('realpod-webhook.shop.svc'), /hostname mismatch/i);
  }
});

test('dates beyond 2049 are written as RFC 5280 asks', () => {
  const { certificate } = makeAuthority('late', NOW, 40 * 365 * DAY);
  assert.equal(new X509Certificate(certificate).validTo.includes('2066'), true);
});

test('certificates are kept while they are good, and renewed one after the other', () => {
  const first = renewed(undefined, NAMES, NOW);
  assert.equal(renewed(first, NAMES, NOW + 59 * DAY), first);
  const second = renewed(first, NAMES, NOW + 61 * DAY);
  assert.deepEqual(second.authority, first.authority);
  assert.notEqual(second.server.certificate, first.server.certificate);
  const third = renewed(second, NAMES, NOW + 560 * DAY);
  assert.notEqual(third.authority.certificate, first.authority.certificate);
  assert.equal(third.previous, first.authority.certificate);
  assert.equal(bundleOf(third).match(/BEGIN CERTIFICATE/g)?.length, 2);
  assert.equal(renewed(third, NAMES, NOW + 561 * DAY), third);
});

test('what is damaged, for another name, or with a key of another certificate is made anew', () => {
  const good = renewed(undefined, NAMES, NOW);
  const other = renewed(undefined, NAMES, NOW);
  for (const bad of [
    { ...good, server: { ...good.server, certificate: 'x' } },
    { ...good, server: { ...good.server, key: other.server.key } },
    { ...good, server: other.server },
    { ...good, authority: { ...good.authority, key: '' } },
  ]) {
    const mended = renewed(bad, NAMES, NOW);
    assert.notEqual(mended, bad);
    assert.equal(renewed(mended, NAMES, NOW), mended);
  }
  assert.notEqual(renewed(good, ['elsewhere.realpod.svc'], NOW), good);
});

/** Secrets and the webhook configuration, with resource versions as the API server compares them. */
class Objects implements ApiServer {
  readonly stored = new Map<string, Record<string, unknown> & { metadata: { resourceVersion?: string } }>();
  #version = 1;
  readonly writes: string[] = [];

  async call(method: 'GET' | 'POST' | 'PUT', path: string, body?: object): Promise<unknown> {
    await new Promise(setImmediate);
    const given = structuredClone(body) as { metadata: { name: string; resourceVersion?: string } };
    const key = method === 'POST' ? `${path}/${given.metadata.name}` : path;
    const present = this.stored.get(key);
    if (method !== 'POST' && !present) throw new ApiError(404, 'not found');
    if (method === 'GET') return structuredClone(present);
    const isStale = present?.metadata.resourceVersion !== given.metadata.resourceVersion;
    if (present && (method === 'POST' || isStale)) throw new ApiError(409, 'conflict');
    given.metadata.resourceVersion = String(this.#version++);
    this.stored.set(key, given as never);
    this.writes.push(`${method} ${key}`);
    return given;
  }

  stream(): Promise<void> {
    throw new Error('not watched');
  }
}

const CONFIGURATION = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/realpod';

function objects(): Objects {
  const api = new Objects();
  const service = { name: 'realpod-webhook', namespace: 'realpod', path: '/inject' };
  api.stored.set(CONFIGURATION, {
    metadata: { resourceVersion: '0' },
    webhooks: [{ clientConfig: { service } }, { clientConfig: { service: { ...service, name: 'other' } } }],
  });
  return api;
}

test('replicas that start together share one certificate, and the API server gets its authority', async () => {
  const api = objects();
  const [one, two] = await Promise.all([share(api, PLACE, NOW), share(api, PLACE, NOW)]);
  assert.deepEqual(one, two);
  const { webhooks } = api.stored.get(CONFIGURATION) as unknown as {
    webhooks: { clientConfig: { caBundle?: string } }[];
  };
  assert.equal(
    Buffer.from(webhooks[0]!.clientConfig.caBundle!, 'base64').toString(),
    one.authority.certificate,
  );
  assert.equal(webhooks[1]!.clientConfig.caBundle, undefined, 'another webhook’s');
  const before = api.writes.length;
  await share(api, PLACE, NOW + DAY);
  assert.equal(api.writes.length, before, 'nothing is written without need');
});

test('an empty Secret, as the chart makes it, is filled and keeps its labels', async () => {
  const api = objects();
  const path = '/api/v1/namespaces/realpod/secrets/realpod-webhook';
  api.stored.set(path, { metadata: { resourceVersion: '7', labels: { a: 'b' } } } as never);
  const { server } = await share(api, PLACE, NOW);
  const stored = api.stored.get(path) as unknown as {
    metadata: { labels: object };
    data: Record<string, string>;
  };
  assert.equal(Buffer.from(stored.data['tls.crt']!, 'base64').toString(), server.certificate);
  assert.deepEqual(stored.metadata.labels, { a: 'b' });
  assert.ok(!api.writes.some((write) => write.startsWith('POST')), 'needs no right to create one');
});

test('a renewed authority reaches the API server beside the one before it', async () => {
  const api = objects();
  const first = await share(api, PLACE, NOW);
  const later = await share(api, PLACE, NOW + 600 * DAY);
  assert.equal(bundleOf(later), later.authority.certificate + first.authority.certificate);
});

test('a bundle that someone emptied is written again', async () => {
  const api = objects();
  await share(api, PLACE, NOW);
  const stored = api.stored.get(CONFIGURATION) as unknown as {
    webhooks: { clientConfig: { caBundle?: string } }[];
  };
  delete stored.webhooks[0]!.clientConfig.caBundle;
  await share(api, PLACE, NOW);
  const again = api.stored.get(CONFIGURATION) as unknown as typeof stored;
  assert.ok(again.webhooks[0]!.clientConfig.caBundle);
});

interface Pod {
  metadata: object;
  spec: { containers: object[]; [key: string]: unknown };
}

const NGINX = { name: 'web', image: 'nginx:1.29' };
const pod = (spec: object, annotations?: object): Pod => ({
  metadata: { generateName: 'web-7d9-', namespace: 'shop', ...(annotations ? { annotations } : {}) },
  spec: { containers: [NGINX], ...spec },
});

/** As the API server (1.36) sends it for a pod that a ReplicaSet makes. */
function admission(object: object, kind = 'Pod'): object {
  return {
    kind: 'AdmissionReview',
    apiVersion: 'admission.k8s.io/v1',
    request: {
      uid: '0b4f6f3a-6a32-4f1d-9a3c-4c1f0a6f2d11',
      kind: { group: '', version: 'v1', kind },
      resource: { group: '', version: 'v1', resource: 'pods' },
      requestKind: { group: '', version: 'v1', kind },
      requestResource: { group: '', version: 'v1', resource: 'pods' },
      namespace: 'shop',
      operation: 'CREATE',
      userInfo: { username: 'system:serviceaccount:kube-system:replicaset-controller' },
      object: { kind, apiVersion: 'v1', ...object },
      oldObject: null,
      dryRun: false,
      options: { kind: 'CreateOptions', apiVersion: 'meta.k8s.io/v1' },
    },
  };
}

interface Response {
  uid: string;
  allowed: boolean;
  patchType?: string;
  patch?: string;
  warnings?: string[];
}

function responseTo(object: object, kind?: string): Response {
  const decision = review(admission(object, kind), INJECT_DEFAULTS);
  assert.ok(decision);
  const { response } = decision.review as { response: Response };
  assert.equal(response.uid, '0b4f6f3a-6a32-4f1d-9a3c-4c1f0a6f2d11');
  assert.equal(response.allowed, true);
  return response;
}

/** RFC 6902, `add` alone. */
function patched(object: Pod, { patch, patchType }: Response): Pod {
  assert.equal(patchType, 'JSONPatch');
  const result = structuredClone(object);
  for (const { op, path, value } of JSON.parse(Buffer.from(patch!, 'base64').toString())) {
    assert.equal(op, 'add');
    const keys = path.slice(1).split('/');
    const last = keys.pop();
    const owner = keys.reduce(
      (at: Record<string, unknown>, key: string) => at[key] as never,
      result as never,
    );
    if (last === '-') (owner as unknown as object[]).push(value);
    else owner[last] = value;
  }
  return result;
}

for (const [name, spec] of Object.entries({
  'with nothing but nginx': {},
  'with a token of its own, as the API server adds it': {
    containers: [
      { name: 'app', image: 'app:1' },
      {
        ...NGINX,
        volumeMounts: [{ name: 'kube-api-access-x', mountPath: '/var/run/secrets/kubernetes.io' }],
      },
    ],
    volumes: [{ name: 'kube-api-access-x', emptyDir: {} }],
    initContainers: [{ name: 'wait', image: 'busybox' }],
  },
  'with a log volume': {
    containers: [{ ...NGINX, volumeMounts: [{ name: 'logs', mountPath: 'var/log/nginx/' }] }],
    volumes: [{ name: 'logs', emptyDir: {} }],
  },
})) {
  test(`a pod ${name} gets the same as by inject`, async () => {
    const before = pod(spec);
    const after = patched(before, responseTo(before));
    const manifest = JSON.stringify({ kind: 'Pod', apiVersion: 'v1', ...before });
    const injected = inject(manifest, INJECT_DEFAULTS);
    assert.ok(injected.ok);
    const { spec: wanted } = JSON.parse(injected.text) as Pod;
    assert.deepEqual(after.spec, wanted);
    assert.deepEqual(await problems({ kind: 'Pod', apiVersion: 'v1', ...after }), []);
    assert.equal(responseTo(after).patch, undefined, 'twice is once');
  });
}

test('annotations of the pod are options of inject and of the sidecar', () => {
  const before = pod(
    { containers: [{ name: 'edge', image: 'team/edge:1' }] },
    {
      'realpod.io/container': 'edge',
      'realpod.io/log-path': '/srv/log/web.log',
      'realpod.io/limits': 'memory=128Mi',
      'realpod.io/style': 'json',
      'realpod.io/max-wait': 'soon',
      'realpod.io/access-log': '/x',
      'example.com/style': 'replace',
    },
  );
  const response = responseTo(before);
  const after = patched(before, response);
  const [sidecar] = after.spec.initContainers as {
    env: { name: string; value?: string }[];
    resources: object;
  }[];
  const env = Object.fromEntries(sidecar!.env.map(({ name, value }) => [name, value]));
  assert.equal(env.REALPOD_STYLE, 'json');
  assert.equal(env.REALPOD_ACCESS_LOG, '/srv/log/web.log');
  assert.ok(!('REALPOD_MAX_WAIT' in env), 'a sidecar with a bad option would end');
  assert.deepEqual((sidecar!.resources as { limits: object }).limits, { memory: '128Mi' });
  assert.equal(response.warnings?.length, 2);
  assert.match(response.warnings!.join('\n'), /realpod\.io\/max-wait is ignored: .*soon is not a duration/);
  assert.match(response.warnings!.join('\n'), /realpod\.io\/access-log is not an option of a pod/);
});

test('a pod that refuses, has no nginx, or cannot be helped comes through unchanged', () => {
  assert.deepEqual(Object.keys(responseTo(pod({}, { 'realpod.io/inject': 'disabled' }))), ['uid', 'allowed']);
  assert.deepEqual(Object.keys(responseTo(pod({ containers: [{ name: 'a', image: 'app' }] }))), [
    'uid',
    'allowed',
  ]);
  assert.deepEqual(Object.keys(responseTo({}, 'Service')), ['uid', 'allowed']);
  const controller = { name: 'c', image: 'registry.k8s.io/ingress-nginx/controller:v1.14.0' };
  const { patch, warnings } = responseTo(pod({ containers: [controller] }));
  assert.equal(patch, undefined);
  assert.match(warnings?.join() ?? '', /^realpod: no sidecar for Pod web-7d9-: .* is an ingress controller/);
  assert.equal(review({ request: {} }, INJECT_DEFAULTS), undefined);
  assert.equal(review('x', INJECT_DEFAULTS), undefined);
});

test('the server answers reviews over TLS, takes a new certificate, and refuses what is too large or none', async (context) => {
  const credentials = renewed(undefined, NAMES, Date.now());
  const { server, use, counts } = createWebhookServer(credentials.server, INJECT_DEFAULTS, () => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  context.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const ask = (
    ca: string,
    body?: string,
    path = '/inject',
    headers: Record<string, string> = {},
  ): Promise<{ status: number; text: string }> =>
    new Promise((resolve, reject) => {
      const asked = request(
        {
          host: '127.0.0.1',
          port,
          path,
          headers,
          ca,
          servername: NAMES[0],
          method: body === undefined ? 'GET' : 'POST',
          agent: false,
        },
        (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (chunk) => {
            text += chunk;
          });
          response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
        },
      );
      asked.on('error', reject);
      asked.end(body);
    });
  const ca = bundleOf(credentials);
  const good = await ask(ca, JSON.stringify(admission(pod({}))));
  assert.equal(good.status, 200);
  assert.equal(JSON.parse(good.text).response.patchType, 'JSONPatch');
  assert.equal((await ask(ca, 'no JSON')).status, 400);
  assert.equal((await ask(ca, undefined, '/readyz')).status, 200);
  assert.equal((await ask(ca, undefined, '/elsewhere')).status, 404);
  assert.equal((await ask(ca, undefined, '/metrics', { host: 'evil.example' })).status, 421);
  assert.equal(
    (await ask(ca, undefined, '/metrics', { host: 'realpod-webhook.realpod.svc:443' })).status,
    200,
  );
  const next = renewed(undefined, NAMES, Date.now());
  use(next.server);
  await assert.rejects(ask(ca, '{}'), /certificate|signature/);
  assert.match(
    (await ask(bundleOf(next), undefined, '/metrics')).text,
    /reviews_total\{outcome="injected"\} 1\n/,
  );
  assert.deepEqual(counts, { injected: 1, unchanged: 0, refused: 0, invalid: 1, failed: 0 });
});
