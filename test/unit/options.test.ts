import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { COMMANDS } from '../../src/config/commands.ts';
import { UsageError } from '../../src/config/option.ts';
import { environmentName, readOptions } from '../../src/config/read.ts';
import { parseBytes, parseDuration, parseListen } from '../../src/config/values.ts';

const sidecar = COMMANDS.find(({ name }) => name === 'sidecar')!;
const helper = COMMANDS.find(({ name }) => name === 'helper')!;
const cli = fileURLToPath(new URL('../../src/cli.ts', import.meta.url));

function run(args: string[], env: NodeJS.ProcessEnv = {}) {
  return spawnSync(process.execPath, ['--import', 'tsx', cli, ...args], {
    encoding: 'utf8',
    env: { ...process.env, HOST_IP: '', ...env },
    input: '',
  });
}

test('without anything given, the documented defaults hold', () => {
  const options = readOptions(sidecar, [], {});
  assert.equal(options.text('access-log'), '/var/log/nginx/access.log');
  assert.deepEqual(options.list('output'), ['-']);
  assert.equal(options.text('style'), 'replace');
  assert.equal(options.text('helper'), 'http://$HOST_IP:9797');
  assert.equal(options.text('evidence'), 'exact');
  assert.equal(options.text('request-id-field'), 'request_id');
  assert.equal(options.optional('local-port-field'), undefined);
  assert.equal(options.duration('max-wait'), 2_000);
  assert.deepEqual(options.listen('listen'), { host: '::', port: 9798 });
  assert.equal(options.flag('reclaim'), false);
  const node = readOptions(helper, [], {});
  assert.deepEqual(node.list('sources'), ['conntrack', 'tap']);
  assert.equal(node.number('tap-group'), 9797);
  assert.equal(node.bytes('tap-snaplen'), 1024);
  assert.equal(node.text('request-id-header'), 'X-Request-ID');
  assert.equal(node.optional('auth'), undefined);
});

test('the command line wins over the environment, and the environment over the default', () => {
  const env = { REALPOD_MAX_WAIT: '5s', REALPOD_OUTPUT: '/a,/b', REALPOD_RECLAIM: 'true' };
  const options = readOptions(sidecar, ['--max-wait', '1s'], env);
  assert.equal(options.duration('max-wait'), 1_000);
  assert.deepEqual(options.list('output'), ['/a', '/b']);
  assert.equal(options.flag('reclaim'), true);
});

test('every option can be given in the environment', () => {
  for (const { options } of COMMANDS) {
    for (const spec of options) assert.match(environmentName(spec), /^REALPOD_[A-Z_]+$/);
  }
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
    ['--request-id-header', 'X Request'],
    ['--request-id-field', 'a-b'],
    ['--access-log', ''],
  ];
  for (const [name, value] of wrong) {
    assert.throws(
      () => readOptions(sidecar, [name, value], {}),
      (error: Error) =>
        error instanceof UsageError && error.message.startsWith(`${name}: `) && !error.message.includes('\n'),
      `${name} ${value}`,
    );
  }
  assert.throws(() => readOptions(sidecar, [], { REALPOD_RECLAIM: 'perhaps' }), UsageError);
});

test('the program refuses what it does not understand with exit code 2 and one line', () => {
  const cases: [string[], RegExp][] = [
    [['fly'], /there is no command fly/],
    [['sidecar', '--colour', 'red'], /--colour/],
    [['sidecar', '--style'], /--style/],
    [['sidecar', 'extra'], /extra/],
    [['sidecar'], /--helper: HOST_IP is not set/],
    [['sidecar', '--helper', 'nowhere'], /--helper: nowhere is neither a URL/],
    [['sidecar', '--helper', 'ftp://x'], /--helper: ftp:\/\/x is neither an http/],
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
    for (const option of options) {
      assert.ok(stdout.includes(`--${option.name}`), `${name} --help lacks --${option.name}`);
      if (option.fallback !== undefined)
        assert.ok(stdout.includes(`[${option.fallback}]`), `${name} --${option.name}`);
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
