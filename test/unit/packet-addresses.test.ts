import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AddressSet, AddressTexts, addressBytes, addressText } from '../../src/capture/ip-bytes.ts';

const length = (bytes: Buffer) => bytes.length as 4 | 16;

test('addresses go to bytes and back to their one text', () => {
  for (const [text, canonical] of [
    ['10.244.0.70', '10.244.0.70'],
    ['255.0.0.1', '255.0.0.1'],
    ['::', '::'],
    ['::1', '::1'],
    ['fd00::', 'fd00::'],
    ['FD00:0:0:1::64', 'fd00:0:0:1::64'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['::ffff:10.0.0.1', '10.0.0.1'],
  ] as const) {
    const bytes = addressBytes(text)!;
    assert.equal(addressText(bytes, 0, length(bytes)), canonical);
  }
  for (const text of ['', 'x', '1.2.3', '1.2.3.256', '01.2.3.4', ':::', '1::2::3', 'fe80::1%eth0', '[::1]']) {
    assert.equal(addressBytes(text), undefined, text);
  }
});

test('any 16 bytes survive the way to text and back', () => {
  const group = fc.constantFrom(0, 0, 0, 1, 0xff, 0xabcd);
  fc.assert(
    fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
      const bytes = Buffer.alloc(16);
      for (const [i, value] of groups.entries()) bytes.writeUInt16BE(value, i * 2);
      bytes[0] = 0xfd;
      assert.deepEqual(addressBytes(addressText(bytes, 0, 16)), bytes);
      assert.equal(new AddressTexts().text(bytes, 0, 16), addressText(bytes, 0, 16));
    }),
  );
});

test('a set answers for its own addresses only', () => {
  const set = new AddressSet();
  assert.ok(set.add('10.0.0.1') && set.add('fd00::1'));
  assert.equal(set.add('nonsense'), false);
  const match = (text: string) => {
    const bytes = addressBytes(text)!;
    return set.match(bytes, 0, length(bytes));
  };
  assert.deepEqual(['10.0.0.1', '10.0.0.2', 'fd00::1', 'fd00::2'].map(match), [
    '10.0.0.1',
    undefined,
    'fd00::1',
    undefined,
  ]);
  set.delete('fd00:0::1');
  assert.deepEqual(set.texts(), ['10.0.0.1']);
});
