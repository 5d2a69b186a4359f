import assert from 'node:assert/strict';
import { test } from 'node:test';
import { localAddresses, reachedAt } from '../../src/capture/local-addresses.ts';

test('the addresses of the namespace are listed again after ten seconds, or when the clock was set back', () => {
  let listed = 0;
  const addresses = ['10.0.0.5', 'FD00:0::5'];
  const isLocal = localAddresses(() => {
    listed++;
    return addresses;
  });
  assert.deepEqual(
    ['10.0.0.5', 'fd00::5', '10.0.0.6'].map((ip) => isLocal(ip, 1_000)),
    [true, true, false],
  );
  addresses.push('10.0.0.6');
  assert.equal(isLocal('10.0.0.6', 10_999), false);
  assert.equal(listed, 1);
  assert.equal(isLocal('10.0.0.6', 11_001), true);
  isLocal('10.0.0.6', -100_000);
  assert.equal(listed, 3);
});

test('a server is reached at all addresses, those of IPv4, or the one that it listens on', () => {
  const local = (ip: string): boolean => ['10.0.0.5', 'fd00::5'].includes(ip);
  const at = (host: string) =>
    ['10.0.0.5', 'fd00::5', '10.0.0.6'].filter((ip) => reachedAt(host, local)(ip, 0));
  assert.deepEqual(at('::'), ['10.0.0.5', 'fd00::5']);
  assert.deepEqual(at('0.0.0.0'), ['10.0.0.5']);
  assert.deepEqual(at('FD00::0:5'), ['fd00::5']);
  assert.deepEqual(at('localhost'), []);
});
