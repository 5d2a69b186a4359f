import assert from 'node:assert/strict';
import { isIP, SocketAddress } from 'node:net';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { canonicalIp, formatHostPort, parseHostPort } from '../../src/parse/address.ts';

function hostPort(text: string) {
  const bytes = Buffer.from(`x${text}y`, 'latin1');
  return parseHostPort(bytes, 1, bytes.length - 1);
}

describe('addresses', () => {
  it('have one text, that of RFC 5952', () => {
    for (const [text, canonical] of [
      ['10.244.0.64', '10.244.0.64'],
      ['0.0.0.0', '0.0.0.0'],
      ['2001:0DB8:0000:0000:0000:0000:0000:0001', '2001:db8::1'],
      ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
      ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
      ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
      ['::', '::'],
      ['::1', '::1'],
      ['fe80::', 'fe80::'],
      ['1::2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
      ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
      // What is sent to an IPv4-mapped address goes out as IPv4.
      ['::ffff:10.0.0.1', '10.0.0.1'],
      ['::FFFF:a00:1', '10.0.0.1'],
    ]) {
      assert.equal(canonicalIp(text!), canonical);
    }
  });

  it('that are none are refused', () => {
    for (const text of [
      '',
      '1',
      '1.2.3',
      '1.2.3.4.5',
      '1.2.3.256',
      '01.2.3.4',
      '1.2.3.04',
      '1..2.3',
      '.1.2.3',
      '1.2.3.',
      ' 1.2.3.4',
      '1.2.3.4 ',
      '+1.2.3.4',
      '0x1.2.3.4',
      ':',
      ':::',
      '1:2:3:4:5:6:7',
      '1:2:3:4:5:6:7:8:9',
      '1::2::3',
      '12345::',
      'g::',
      ':1::',
      '1:2:3:4:5:6:7:',
      '1::2:3:4:5:6:7:8',
      'fe80::1%eth0',
      '[::1]',
      '1.2.3.4::',
      '::1.2.3',
      '::1.2.3.4:5',
      '::01.2.3.4',
      '::ffff:1.2.3.4.5',
    ]) {
      assert.equal(canonicalIp(text), undefined, text);
    }
  });

  it('with their port are those that nginx writes, and no others', () => {
    assert.deepEqual(hostPort('10.0.0.1:80'), { ip: '10.0.0.1', port: 80 });
    assert.deepEqual(hostPort('255.255.255.255:65535'), { ip: '255.255.255.255', port: 65535 });
    assert.deepEqual(hostPort('[2001:DB8::1]:1'), { ip: '2001:db8::1', port: 1 });
    assert.deepEqual(hostPort('[::ffff:10.0.0.1]:80'), { ip: '10.0.0.1', port: 80 });
    for (const text of [
      '',
      '10.0.0.1',
      '10.0.0.1:',
      '10.0.0.1:0',
      '10.0.0.1:080',
      '10.0.0.1:65536',
      '10.0.0.1:99999999',
      '10.0.0.1:8 ',
      '10.0.0.1:8:8',
      '10.0.0:80',
      '10.0.0.1.1:80',
      '10.0.0.256:80',
      '010.0.0.1:80',
      '10.0.0.1:-1',
      '::1:80',
      '[::1]',
      '[::1]80',
      '[::1]:',
      '[::1:80',
      '[10.0.0.1]:80',
      '[]:80',
      '[::1]:80]',
      'shop:80',
      '-',
    ]) {
      assert.equal(hostPort(text), undefined, text);
    }
  });

  it('agree with the system on what is one, and read back as written', () => {
    const text = fc.oneof(fc.ipV4(), fc.ipV6(), fc.stringMatching(/^[0-9a-f:.]{1,24}$/));
    fc.assert(
      fc.property(text, fc.integer({ min: 1, max: 65535 }), (address, port) => {
        const canonical = canonicalIp(address);
        assert.equal(canonical !== undefined, isIP(address) !== 0, address);
        if (canonical === undefined) return;
        assert.equal(canonicalIp(canonical), canonical);
        const same = (ip: string) =>
          new SocketAddress({ address: ip, family: isIP(ip) === 6 ? 'ipv6' : 'ipv4' });
        if (isIP(address) === isIP(canonical)) {
          assert.equal(same(canonical).address, same(address).address);
        }
        const written = isIP(address) === 6 ? `[${address}]:${port}` : `${address}:${port}`;
        for (let again = 0; again < 2; again++) assert.deepEqual(hostPort(written), { ip: canonical, port });
        assert.deepEqual(hostPort(formatHostPort(canonical, port)), { ip: canonical, port });
      }),
      { numRuns: 5000 },
    );
  });
});
