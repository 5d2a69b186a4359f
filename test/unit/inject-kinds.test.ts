import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAllDocuments, parse as parseYaml } from 'yaml';
import { INJECT_DEFAULTS, type InjectOptions, inject } from '../../src/inject/inject.ts';
import { DEFAULT_LOG_FORMAT } from '../../src/parse/log-format.ts';

/** Manifests as people write them: each test names the public form that it stands for. */

interface Container {
  name: string;
  args: string[];
  env: { name: string; value?: string }[];
  volumeMounts: { name: string; mountPath: string; readOnly?: boolean }[];
  resources: object;
}

const WEB = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
`;

function run(input: string, options: Partial<InjectOptions> = {}) {
  const result = inject(input, { ...INJECT_DEFAULTS, ...options });
  if (!result.ok) assert.fail(result.message);
  return result;
}

function refusal(input: string, options: Partial<InjectOptions> = {}): string {
  const result = inject(input, { ...INJECT_DEFAULTS, ...options });
  assert.ok(!result.ok, 'it was injected');
  assert.ok(!result.message.includes('\n'), 'one line');
  return result.message;
}

/** The lines that are new; fails where one of the input is gone, changed or moved. */
function added(before: string, after: string): string[] {
  const wanted = before.split('\n');
  const more: string[] = [];
  for (const line of after.split('\n')) {
    if (line === wanted[0]) wanted.shift();
    else more.push(line);
  }
  assert.deepEqual(wanted, [], 'changed, gone or moved');
  return more;
}

function sidecarOf(output: string): Container {
  for (const document of parseAllDocuments(output)) {
    const object = document.toJS();
    const spec = object?.spec?.template?.spec ?? object?.spec;
    const found = spec?.initContainers?.find((each: Container) => each.name === 'realpod');
    if (found) return found;
  }
  return assert.fail('no sidecar');
}

const mounts = (output: string): string[] =>
  sidecarOf(output).volumeMounts.map(({ name, mountPath }) => `${name} ${mountPath}`);
const variable = (output: string, name: string): string | undefined =>
  sidecarOf(output).env.find((each) => each.name === name)?.value;

// Octal modes as the Secret volumes of Kubernetes' own documentation have them, and other numbers that YAML 1.1 knows.
test('every number keeps its spelling', () => {
  const input = `apiVersion: v1
kind: Pod
metadata:
  name: web
  annotations: {build: 12345678901234567890, ratio: 1e3, mask: 0x1F, plus: +3, eight: 08, when: 2026-01-02, on: yes}
spec:
  terminationGracePeriodSeconds: 0x1E   # half a minute
  containers:
  - name: web
    image: nginx:1.29
    volumeMounts:
    - {name: key, mountPath: /etc/key}
  volumes:
  - name: key
    secret:
      secretName: key
      defaultMode: 0400
      items: [{key: tls, path: tls.key, mode: 0440}]
`;
  const more = added(input, run(input).text);
  assert.ok(more.includes('    - name: realpod-log') && more.includes('  - name: realpod-token'));
});

// `helm template` makes empty documents where a condition leaves nothing.
for (const [name, input] of Object.entries({
  'three in a row': `---\n---\n---\n${WEB}      containers: [{name: a, image: nginx}]\n`,
  'behind an object': `${WEB}      containers:\n      - name: a\n        image: nginx\n---\n---\nkind: Service\n`,
  'a blank line between': `---\n\n---\n${WEB}      containers:\n      - name: a\n        image: nginx\n`,
  'with an end mark': `---\n${WEB}      containers:\n      - name: a\n        image: nginx\n...\n---\nkind: Service\n`,
  'the last without a line end': `---\n---\n${WEB}      containers:\n      - name: a\n        image: nginx`,
})) {
  for (const eol of ['\n', '\r\n']) {
    test(`empty documents stay what they are: ${name}, ${JSON.stringify(eol)}`, () => {
      const given = input.replaceAll('\n', eol);
      const { text } = run(given);
      assert.equal(text.match(/^---/gm)?.length, given.match(/^---/gm)?.length);
      assert.equal(text.replaceAll('\r\n', '').includes('\n'), eol === '\n');
      const kinds = (of: string): unknown[] => parseAllDocuments(of).map((each) => each.get('kind'));
      assert.deepEqual(kinds(text), kinds(given));
      assert.deepEqual(
        parseAllDocuments(text).flatMap(({ errors }) => errors),
        [],
      );
      assert.equal(run(text).text, text);
    });
  }
}

const ROLLOUT = `apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: edge}
spec: {template: {spec: {containers: [{name: web, image: "nginx:1.29"}]}}}
`;
// As the OpenShift templates for nginx are written: objects under `objects`, names as parameters.
const TEMPLATE = `apiVersion: v1
kind: Template
metadata: {name: nginx-template}
objects:
- kind: DeploymentConfig
  apiVersion: v1
  metadata: {name: "\${NAME}"}
  spec: {template: {spec: {containers: [{name: "\${NAME}", image: nginx}]}}}
`;
// Packit's deployment: the group's first name, `v1`.
const DEPLOYMENT_CONFIG = `kind: DeploymentConfig
apiVersion: v1
metadata: {name: nginx}
spec: {template: {spec: {containers: [{name: nginx, image: quay.io/packit/nginx-unprivileged}]}}}
`;
const KNATIVE = `apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: nginx}
spec: {template: {spec: {containers: [{image: nginx}]}}}
`;
const API = `apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec: {template: {spec: {containers: [{name: api, image: "registry.example/api:1"}]}}}
`;

for (const [label, manifest] of [
  ['Rollout edge', ROLLOUT],
  ['Template nginx-template', TEMPLATE],
  ['DeploymentConfig nginx', DEPLOYMENT_CONFIG],
  ['Service nginx', KNATIVE],
] as const) {
  test(`${label} is named, and no other object is taken in its place`, () => {
    assert.ok(refusal(manifest).startsWith(`${label}: inject does not support this kind; `));
    for (const both of [`${manifest}---\n${API}`, `${API}---\n${manifest}`]) {
      assert.ok(refusal(both).startsWith(`${label} has the nginx, but inject does not support this kind`));
    }
    const web = `${WEB}      containers: [{name: web, image: nginx}]\n`;
    const { injected, notes } = run(`${manifest}---\n${web}`);
    assert.deepEqual(injected, ['Deployment web']);
    assert.ok(notes.some((note) => note.startsWith(`${label} has an nginx and gets no sidecar`)));
  });
}

test('a kind of another API group is not taken for the one of Kubernetes', () => {
  const foreign = API.replace('apps/v1', 'example.com/v1').replace('registry.example/api:1', 'nginx');
  assert.match(refusal(foreign), /^Deployment api: inject does not support this kind/);
});

const emptyDir = '      volumes:\n      - {name: logs, emptyDir: {}}\n';
for (const [image, directory] of [
  ['docker.io/bitnami/nginx:1.27', '/opt/bitnami/nginx/logs'],
  ['bitnamilegacy/nginx', '/opt/bitnami/nginx/logs'],
  ['openresty/openresty:alpine', '/usr/local/openresty/nginx/logs'],
  ['docker.angie.software/angie:latest', '/var/log/angie'],
  ['lscr.io/linuxserver/nginx', '/config/log/nginx'],
  ['linuxserver/swag:latest', '/config/log/nginx'],
] as const) {
  test(`the log is where ${image} writes it`, () => {
    const bare = run(`${WEB}      containers:\n      - {name: web, image: "${image}"}\n`);
    assert.equal(mounts(bare.text)[0], `realpod-log ${directory}`);
    assert.equal(variable(bare.text, 'REALPOD_ACCESS_LOG'), `${directory}/access.log`);
    assert.ok(sidecarOf(bare.text).args.includes(`--state=${directory}/.realpod-state`));
    assert.deepEqual(bare.notes, []);
    const mounted = run(
      `${WEB}      containers:\n      - {name: web, image: "${image}", volumeMounts: [{name: logs, mountPath: ${directory}/}]}\n${emptyDir}`,
    );
    assert.equal(mounts(mounted.text)[0], `logs ${directory}/`);
    assert.ok(!mounted.text.includes('realpod-log'));
  });
}

test('an image whose log is not known gets a note, and --log-path says where it is', () => {
  const input = `${WEB}      containers:\n      - {name: web, image: example/edge-nginx}\n`;
  assert.match(run(input).notes.join(), /the access log of example\/edge-nginx is unknown; .*--log-path/);
  const named = run(input, { logPath: '/srv//logs/./web.log' });
  assert.deepEqual(named.notes, []);
  assert.equal(mounts(named.text)[0], 'realpod-log /srv/logs');
  assert.equal(variable(named.text, 'REALPOD_ACCESS_LOG'), '/srv/logs/web.log');
  assert.match(refusal(input, { logPath: '/srv/logs/' }), /^--log-path: \/srv\/logs\/ is a directory/);
  assert.match(refusal(input, { logPath: '/srv/$(id).log' }), /^--log-path: .* has characters other than/);
});

test('no argument and no variable is stronger than the ConfigMap where the log is at its usual place', () => {
  const { text } = run(`${WEB}      containers:\n      - {name: web, image: nginx}\n`);
  assert.deepEqual(
    sidecarOf(text).env.map(({ name }) => name),
    ['HOST_IP'],
  );
  assert.ok(!sidecarOf(text).args.some((each) => each.startsWith('--access-log')));
});

for (const path of ['var/log/nginx/', '/var/log//nginx', '/var/./log/nginx/', 'var/log']) {
  test(`the mount path ${path} is read as the kubelet reads it`, () => {
    // nginx and a filebeat that reads its files.
    const input = `${WEB}      containers:
        - name: web
          image: nginx
          volumeMounts:
            - name: logs
              mountPath: ${path}
        - name: filebeat
          image: docker.elastic.co/beats/filebeat:7.14.1
          volumeMounts:
            - name: logs
              mountPath: ${path}
      volumes:
        - name: logs
          emptyDir: {}
`;
    const { text, notes } = run(input);
    added(input, text);
    assert.equal(mounts(text)[0], `logs ${path}`);
    assert.ok(!text.includes('realpod-log'));
    assert.ok(!sidecarOf(text).args.includes('--reclaim'), 'filebeat may not have read it yet');
    assert.match(notes.join(), /no --reclaim/);
  });
}

// openresty beside blacklabelops/logrotate on one volume, nginx.conf from a ConfigMap by subPath.
test('nginx.conf from a ConfigMap is mounted read-only at the same path, and the next step names it', () => {
  const input = `${WEB}      containers:
      - name: openresty
        image: openresty/openresty
        volumeMounts:
        - {mountPath: /usr/local/openresty/nginx/conf/nginx.conf, name: conf, subPath: nginx.conf}
        - {mountPath: /etc/nginx/keys/, name: keys}
        - {mountPath: /usr/local/openresty/nginx/logs, name: log}
      - name: logrotate
        image: blacklabelops/logrotate
        volumeMounts:
        - {mountPath: /usr/local/openresty/nginx/logs, name: log}
      volumes:
      - {name: conf, configMap: {name: nginx-conf}}
      - {name: keys, secret: {secretName: keys}}
      - {name: log, hostPath: {path: /data/log}}
`;
  const { text, next } = run(input);
  const { volumeMounts, args } = sidecarOf(text);
  assert.deepEqual(volumeMounts.at(-1), {
    name: 'conf',
    mountPath: '/usr/local/openresty/nginx/conf/nginx.conf',
    subPath: 'nginx.conf',
    readOnly: true,
  });
  assert.ok(!args.includes('--reclaim'));
  assert.ok(!JSON.stringify(volumeMounts).includes('keys'));
  assert.match(next ?? '', /REALPOD_NGINX_CONF: \/usr\/local\/openresty\/nginx\/conf\/nginx\.conf/);
});

test('a ConfigMap that brings a part of the configuration is not mounted', () => {
  const input = `${WEB}      containers:
      - name: web
        image: nginx
        volumeMounts: [{mountPath: /etc/nginx/conf.d, name: conf}]
      volumes: [{name: conf, configMap: {name: sites}}]
`;
  assert.deepEqual(mounts(run(input).text), [
    'realpod-log /var/log/nginx',
    'realpod-token /var/run/secrets/realpod',
  ]);
});

test('the ConfigMap realpod in the same input leaves no next step', () => {
  const input = `${WEB}      containers: [{name: web, image: nginx}]\n`;
  const [sentence, ...map] = (run(input).next ?? '').split('\n');
  assert.match(sentence!, /^apply this ConfigMap in the namespace of nginx, /);
  const read = parseYaml(map.join('\n'));
  assert.equal(read.metadata.name, 'realpod');
  assert.equal(read.data.REALPOD_LOG_FORMAT, DEFAULT_LOG_FORMAT);
  assert.equal(read.metadata.namespace, undefined);
  const named = input.replace('{name: web}', '{name: web, namespace: shop}');
  assert.match(run(named).next ?? '', /\n {2}namespace: shop\n/);
  assert.equal(run(`${input}---\nkind: ConfigMap\nmetadata: {name: realpod}\n`).next, undefined);
});

for (const image of [
  'registry.k8s.io/ingress-nginx/controller:v1.14.0',
  'quay.io/kubernetes-ingress-controller/nginx-ingress-controller:0.33.0',
  'nginx/nginx-ingress:5.2.0',
]) {
  test(`${image} is refused with the reason, and taken where it is named`, () => {
    const input = `${WEB}      containers: [{name: controller, image: "${image}"}]\n`;
    assert.match(
      refusal(input),
      /is an ingress controller, which sends requests to pods and not to Services/,
    );
    assert.deepEqual(run(input, { container: 'controller' }).injected, ['Deployment web']);
    const both = run(`${input}---\n${input.replace(image, 'nginx').replace('name: web', 'name: b')}`);
    assert.deepEqual(both.injected, ['Deployment b']);
    assert.match(both.notes.join(), /is an ingress controller/);
  });
}

test('a template is said to be one, with its line, once', () => {
  const helm = WEB.replace('{name: web}', '\n  name: {{ .Release.Name }}-nginx');
  assert.equal(refusal(helm), 'line 4 is a template; render it first: helm template … | realpod inject');
  const block = `${WEB}      {{- if .Values.host }}\n      hostNetwork: true\n      {{- end }}\n`;
  assert.match(refusal(block), /^line 7 is a template/);
  assert.match(
    refusal(`${WEB}      containers: [{name: a, image: "{{ .Values.image }}"}]\n`),
    /is a template; render/,
  );
  assert.match(refusal(`a: [\n# {{ a comment }}\n`), /^not YAML at line \d, column \d: [^:]*$/);
});

test('an indentation by tab is said in one line, with its line', () => {
  assert.equal(
    refusal('kind: Pod\nmetadata:\n\tname: p\n'),
    'line 3 is indented by a tab; YAML takes spaces only',
  );
});

test('limits and requests are set for quotas that ask for them, and wrong ones are refused', () => {
  const input = `${WEB}      containers: [{name: web, image: nginx}]\n`;
  const { text } = run(input, { limits: 'cpu=200m,memory=128Mi', requests: 'memory=64Mi' });
  assert.deepEqual(sidecarOf(text).resources, {
    requests: { cpu: '10m', memory: '64Mi' },
    limits: { memory: '128Mi', cpu: '200m' },
  });
  for (const limits of ['cpu', 'cpu=', 'cpu=fast', 'gpu=1', 'cpu=1=2', '']) {
    assert.match(refusal(input, { limits }), /^--limits: .* is not a resource and its quantity/);
  }
});

test('layouts in which there is nothing to append to are extended too', () => {
  for (const pod of [
    '      containers: [{name: web, image: nginx}]\n      volumes: []   # none\n      initContainers:\n',
    '      containers:\n      - image: nginx\n        name: web\n        volumeMounts: null\n      volumes: ~\n',
    '      containers:\n      - image: nginx\n        name: web\n        args:\n        - |\n          one\n\n      # the end\n',
    '      { containers: [ {name: web, image: nginx, volumeMounts: [], }, ], volumes: [], }\n',
    '      volumes:\n      containers:\n        -   name: web\n            image: nginx\n\n\n',
  ]) {
    const { text } = run(WEB + pod);
    assert.equal(mounts(text).length, 2);
    assert.equal(run(text).text, text);
  }
});

test('what an alias or an anchor shares is refused, as a change would reach further', () => {
  for (const pod of [
    '      containers:\n      - &web {name: web, image: nginx}\n      initContainers: [*web]\n',
    '      containers: &all\n      - {name: web, image: nginx}\n      ephemeralContainers: *all\n',
  ]) {
    assert.match(refusal(WEB + pod), /YAML anchor &/);
  }
});

test('a subPathExpr brings the variable that it needs, or is refused', () => {
  const pod = (env: string): string => `${WEB}      containers:
      - name: web
        image: nginx
        ${env}
        volumeMounts: [{name: logs, mountPath: /var/log/nginx, subPathExpr: $(POD)}]
      volumes: [{name: logs, hostPath: {path: /logs}}]
`;
  const { text } = run(pod('env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]'));
  assert.ok(sidecarOf(text).env.some(({ name }) => name === 'POD'));
  assert.match(refusal(pod('stdin: false')), /needs \$\(POD\), which is not under env of nginx/);
});

for (const [what, volume, security, said] of [
  ['an emptyDir, in which everyone may write', 'emptyDir: {}', '', /at \/var\/log\/nginx$/],
  [
    'a claim',
    'persistentVolumeClaim: {claimName: logs}',
    '',
    /user 65532 must be able to write there: set securityContext\.fsGroup of the pod, to 65532 say \(an emptyDir needs none\)/,
  ],
  [
    'a claim in a pod with an fsGroup',
    'persistentVolumeClaim: {claimName: logs}',
    'securityContext: {fsGroup: 101}',
    /must be able to write there: fsGroup 101 of the pod allows that/,
  ],
  [
    'a hostPath',
    'hostPath: {path: /logs}',
    '',
    /give it the directory on the node, as fsGroup does not reach/,
  ],
] as const) {
  test(`the note about a volume of nginx's own says what it needs: ${what}`, () => {
    const { notes } = run(`${WEB}      ${security || 'hostNetwork: false'}
      containers:
      - name: web
        image: nginx
        volumeMounts: [{mountPath: /var/log/nginx, name: logs}]
      volumes: [{name: logs, ${volume}}]
`);
    assert.match(notes[0]!, said);
  });
}
