import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { COMMAND, COMMANDS } from '../../src/config/commands.ts';
import { unknownVariables } from '../../src/config/environment.ts';
import { environmentName, optionName, UsageError } from '../../src/config/option.ts';
import { readOptions } from '../../src/config/read.ts';
import { parseBytes, parseDuration, parseListen } from '../../src/config/values.ts';
import { lineOf } from '../../src/log.ts';

const NODE = { HOST_IP: '10.0.0.5' };
const cli = fileURLToPath(new URL('../../src/cli.ts', import.meta.url));

const ownEnvironment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !name.startsWith('REALPOD_')),
);

function run(args: string[], env: NodeJS.ProcessEnv = {}) {
  return spawnSync(process.execPath, ['--import', 'tsx', cli, ...args], {
    encoding: 'utf8',
    env: { ...ownEnvironment, HOST_IP: '', ...env },
    input: '',
  });
}

test('without anything given, the documented defaults hold', () => {
  const options = readOptions(COMMAND.sidecar, [], { HOST_IP: 'fd00::5' });
  assert.equal(options.accessLog, '/var/log/nginx/access.log');
  assert.deepEqual(options.output, ['-']);
  assert.equal(options.style, 'replace');
  assert.equal(options.helper.toString(), 'http://[fd00::5]:9797/');
  assert.equal(options.evidence, 'exact');
  assert.equal(options.requestIdField, 'request_id');
  assert.equal(options.localPortField, undefined);
  assert.equal(options.maxWait, 2_000);
  assert.deepEqual(options.listen, { host: '::', port: 9798 });
  assert.equal(options.reclaim, false);
  assert.equal(options.log, 'text');
  assert.deepEqual(options.given, {});
  const node = readOptions(COMMAND.helper, [], {});
  assert.deepEqual(node.sources, ['conntrack', 'tap']);
  assert.equal(node.tapGroup, 9797);
  assert.equal(node.tapSnaplen, 1024);
  assert.equal(node.requestIdHeader, 'X-Request-ID');
  assert.equal(node.auth, undefined);
});

test('the command line wins over the environment, and the environment over the default', () => {
  const env = { ...NODE, REALPOD_MAX_WAIT: '5s', REALPOD_OUTPUT: '/a,/b', REALPOD_RECLAIM: 'true' };
  const options = readOptions(COMMAND.sidecar, ['--max-wait', '1s'], env);
  assert.equal(options.maxWait, 1_000);
  assert.deepEqual(options.output, ['/a', '/b']);
  assert.equal(options.reclaim, true);
  assert.deepEqual(options.given, {
    maxWait: '--max-wait',
    output: 'REALPOD_OUTPUT',
    reclaim: 'REALPOD_RECLAIM',
  });
});

test('every option can be given in the environment', () => {
  for (const { options } of COMMANDS) {
    for (const key of Object.keys(options)) assert.match(environmentName(key), /^REALPOD_[A-Z_]+$/);
  }
});

test('an error names the variable where the value came from one', () => {
  const wrong: Record<string, RegExp> = {
    REALPOD_MAX_WAIT: /^REALPOD_MAX_WAIT: soon is not a duration/,
    REALPOD_STYLE: /^REALPOD_STYLE: soon is not one of replace, annotate, json$/,
    REALPOD_RECLAIM: /^REALPOD_RECLAIM: soon is neither true nor false$/,
    REALPOD_SOURCE_ADDRESS: /^REALPOD_SOURCE_ADDRESS: soon is not an IP address$/,
    REALPOD_HELPER: /^REALPOD_HELPER: soon is not an http/,
  };
  for (const [name, message] of Object.entries(wrong)) {
    assert.throws(() => readOptions(COMMAND.sidecar, [], { ...NODE, [name]: 'soon' }), { message });
  }
  const { status, stderr } = run(['sidecar'], { ...NODE, REALPOD_LOG_FORMAT: '$remote_addr' });
  assert.equal(status, 2);
  assert.match(stderr, /^realpod: REALPOD_LOG_FORMAT: .*upstream_addr/);
});

test('a variable that no command reads is named with the nearest that exists', () => {
  const env = {
    REALPOD_MAXWAIT: '5s',
    REALPOD_ACCES_LOG: '/x',
    REALPOD_NOTHING_LIKE_IT: '1',
    REALPOD_STYLE: 'json',
    REALPOD_WEBHOOK_SERVICE_HOST: '10.96.0.7',
    REALPOD_WEBHOOK_PORT_443_TCP_ADDR: '10.96.0.7',
    REALPOD_PORT: 'tcp://10.96.0.7:443',
    PATH: '/bin',
  };
  assert.deepEqual(unknownVariables(env, COMMANDS), [
    'REALPOD_ACCES_LOG is no option and is ignored; did you mean REALPOD_ACCESS_LOG?',
    'REALPOD_MAXWAIT is no option and is ignored; did you mean REALPOD_MAX_WAIT?',
    'REALPOD_NOTHING_LIKE_IT is no option and is ignored',
  ]);
  assert.match(
    run(['lookup'], { REALPOD_SIDECARS: 'x' }).stderr,
    /^realpod: REALPOD_SIDECARS .*REALPOD_SIDECAR\?\n/,
  );
});

test('--version and -V print the version of the package', () => {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  for (const option of ['--version', '-V']) {
    assert.deepEqual([run([option]).stdout, run([option]).status], [`realpod ${version}\n`, 0]);
  }
});

test('messages are lines for people or objects for programs', () => {
  const time = '2026-01-01T00:00:00.000Z';
  assert.equal(lineOf('text', time, 'warn', 'sidecar', 'a\nb'), `${time} WARN sidecar: a b`);
  assert.deepEqual(JSON.parse(lineOf('json', time, 'warn', 'sidecar', 'a\nb')), {
    time,
    level: 'warn',
    component: 'sidecar',
    message: 'a\nb',
  });
});

test('each wrong value is refused with one line that names the option', () => {
  const wrong: [string, string][] = [
    ['--style', 'fancy'],
    ['--max-wait', 'soon'],
    ['--max-wait', '2'],
    ['--listen', '9798'],
    ['--listen', ':70000'],
    ['--evidence', 'maybe'],
    ['--tap-snaplen', '0'],
    ['--tap-group', '65536'],
    ['--sources', 'conntrack,ebpf'],
    ['--sources', 'tap,trace'],
    ['--request-id-header', 'X Request'],
    ['--request-id-field', 'a-b'],
    ['--access-log', ''],
  ];
  for (const [name, value] of wrong) {
    assert.throws(
      () => readOptions(COMMAND.sidecar, [name, value], NODE),
      (error: Error) =>
        error instanceof UsageError && error.message.startsWith(`${name}: `) && !error.message.includes('\n'),
      `${name} ${value}`,
    );
  }
});

test('the program refuses what it does not understand with exit code 2 and one line', () => {
  const cases: [string[], RegExp][] = [
    [['fly'], /there is no command fly; see realpod --help/],
    [['sidcar'], /there is no command sidcar; did you mean sidecar\?; see realpod --help/],
    [
      ['doctor', '--request-id-feild', 'x'],
      /no option --request-id-feild; did you mean --request-id-field\?; see realpod doctor --help/,
    ],
    [['doctor', '--spells'], /there is no option --spells; see realpod doctor --help/],
    [['sidecar', '--colour', 'red'], /--colour/],
    [['sidecar', '--style'], /--style/],
    [['sidecar', 'extra'], /extra/],
    [['doctor', 'a', 'b'], /b: one \[FILE\] is enough/],
    [['enrich'], /--feed is needed/],
    [['sidecar'], /--helper: HOST_IP is not set/],
    [['sidecar', '--helper', 'nowhere'], /--helper: nowhere is not an http/],
    [['sidecar', '--helper', 'ftp://x'], /--helper: ftp:\/\/x is not an http/],
    [
      ['sidecar', '--helper', 'http://127.0.0.1:1', '--source-address', 'me'],
      /--source-address: me is not an IP/,
    ],
    [
      ['sidecar', '--helper', 'http://127.0.0.1:1', '--log-format', '$remote_addr'],
      /--log-format: .*upstream_addr/,
    ],
    [['helper', '--auth', 'password'], /--auth: password is not one of/],
  ];
  for (const [args, message] of cases) {
    const { status, stderr, stdout } = run(args);
    assert.equal(status, 2, `${args.join(' ')}: ${stderr}`);
    assert.match(stderr, message);
    assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
    assert.equal(stdout, '');
  }
});

test('--help lists every option with its default', () => {
  for (const { name, options } of COMMANDS) {
    const { status, stdout } = run([name, '--help']);
    assert.equal(status, 0);
    for (const [key, { fallback }] of Object.entries(options)) {
      assert.ok(stdout.includes(optionName(key)), `${name} --help lacks ${optionName(key)}`);
      if (fallback !== undefined) assert.ok(stdout.includes(`[${fallback}]`), `${name} ${optionName(key)}`);
    }
  }
});

test('durations, sizes and listening addresses are read as written', () => {
  assert.deepEqual(['250ms', '2s', '1.5m', '1h'].map(parseDuration), [250, 2_000, 90_000, 3_600_000]);
  assert.deepEqual(['1024', '64Ki', '16Mi'].map(parseBytes), [1024, 65_536, 16_777_216]);
  assert.deepEqual(parseListen('[::1]:9798'), { host: '::1', port: 9798 });
  assert.deepEqual(parseListen('127.0.0.1:0'), { host: '127.0.0.1', port: 0 });
  for (const bad of ['', '::1:80', 'x', '1.2.3.4', ':x', ':99999'])
    assert.equal(parseListen(bad), undefined, bad);
});
