import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { keysOf } from '../../src/capture/tap/listed-addresses.ts';

const text = readFileSync(new URL('../fixtures/nft-elements/messages.json', import.meta.url), 'utf8');
const captured = (JSON.parse(text) as { messages: { what: string; hex: string }[] }).messages;
const messagesOf = (set: string): Buffer[] =>
  captured.filter(({ what }) => what === set).map(({ hex }) => Buffer.from(hex, 'hex'));
const listed = (set: string): string[] =>
  messagesOf(set).flatMap((message) => keysOf(message, 0, message.length));

test('the addresses in another helper’s sets are read as the kernel lists them', () => {
  assert.deepEqual(listed('clients4').sort(), ['10.244.0.70', '10.244.0.71']);
  assert.deepEqual(listed('clients6'), ['fd00:10:244::70']);
  assert.deepEqual(listed('answered4'), ['10.244.0.71']);
  assert.deepEqual(listed('answered6'), []);
});

test('a message that is cut, or of another kind, gives no address that is not there', () => {
  const [message] = messagesOf('clients4');
  const whole = new Set(listed('clients4'));
  for (let end = 20; end < message!.length; end++)
    for (const key of keysOf(message!, 0, end)) assert.ok(whole.has(key), key);
  const other = Buffer.from(message!);
  other.writeUInt16LE(0x0a09, 4);
  assert.deepEqual(keysOf(other, 0, other.length), []);
});
