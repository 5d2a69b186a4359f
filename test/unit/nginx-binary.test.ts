import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findProbePlaces } from '../../src/capture/trace/nginx-binary.ts';
import { executable, type Options } from './nginx-executable.ts';

test('functions are probed behind their endbr64, write where it is called', () => {
  for (const calls of ['.plt', '.plt.sec', 'got'] as const)
    for (const marked of [false, true]) {
      const more = marked ? 4 : 0;
      assert.deepEqual(
        findProbePlaces(executable({ calls, marked })),
        {
          version: '1.22.1',
          chain: 0x200 + more,
          free: 0x240 + more,
          writes: [0x280, 0x290],
          buffered: { logged: 0x250, module: 0x5800 - 0x240 - more },
        },
        `${calls} ${marked}`,
      );
    }
});

test('what was never tried, or lacks something, is left alone and says why', () => {
  const says = (options: Options) => findProbePlaces(executable(options));
  assert.match(
    String(says({ version: 'openresty/1.25.3.1' })),
    /^it is openresty 1\.25\.3\.1, which was never tried$/,
  );
  assert.match(String(says({ version: 'Angie/1.8.0' })), /^it is Angie 1\.8\.0/);
  assert.match(String(says({ version: 'nginx/1.18.0' })), /^it is nginx 1\.18\.0, and only/);
  assert.match(String(says({ version: 'nginx/1.32.0' })), /^it is nginx 1\.32\.0, and only/);
  assert.match(String(says({ version: 'nginx' })), /^it is not nginx, or does not say/);
  assert.match(String(says({ without: 'ngx_chain_writer' })), /^it has no symbols/);
  assert.match(String(says({ without: 'ngx_http_free_request' })), /^it has no symbols/);
  assert.match(String(says({ without: 'write' })), /^it calls write\(2\) in a way/);
  assert.match(String(says({ machine: 183 })), /^it is not built for x86-64$/);
});

test('buffered logs are left alone where it is not certain when their lines have been written', () => {
  const buffered = (options: Options) => {
    const places = findProbePlaces(executable(options));
    return typeof places === 'string' ? places : places.buffered;
  };
  assert.notEqual(buffered({}), undefined);
  assert.equal(buffered({ destroys: 0 }), undefined);
  assert.equal(buffered({ destroys: 2 }), undefined);
  assert.equal(buffered({ without: 'ngx_destroy_pool' }), undefined);
  assert.equal(buffered({ without: 'ngx_http_log_module' }), undefined);
});

test('a damaged file is left alone, whatever its bytes say', () => {
  const whole = executable();
  // The table of sections is at its end.
  for (let end = 0; end < 0x1200; end += 61) {
    const found = findProbePlaces(whole.subarray(0, end));
    if (typeof found !== 'string') assert.fail(`${end} bytes are enough`);
  }
  for (let at = 0; at < whole.length; at++) {
    const damaged = Buffer.from(whole);
    damaged[at] = 0xff;
    // Other places or none, but never an error.
    findProbePlaces(damaged);
  }
});
