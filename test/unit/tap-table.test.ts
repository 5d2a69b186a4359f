/** The messages that make up the tap's table, and those that fill its sets: the kernel refuses a set that is not there. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DELSETELEM, type Message, NEWSETELEM } from '../../src/capture/tap/nft-message.ts';
import { elementMessages, type TableRules, tableMessages } from '../../src/capture/tap/nft-rules.ts';

const NEWSET = NEWSETELEM - 3;
/** Bytes of nlmsghdr and nfgenmsg. */
const HEADERS = 20;

/** The names of the sets in messages of these types: attribute 2, after the table's name. */
function setsIn(messages: readonly Message[], ...types: number[]): Set<string> {
  const names = messages.flatMap((message) => {
    const bytes = message('t', 1, 0);
    if (!types.includes(bytes.readUInt16LE(4))) return [];
    let at = HEADERS;
    while (bytes.readUInt16LE(at + 2) !== 2) at += (bytes.readUInt16LE(at) + 3) & ~3;
    return [bytes.toString('latin1', at + 4, at + bytes.readUInt16LE(at) - 1)];
  });
  return new Set(names);
}

test('whatever the table logs, it has the sets that addresses are put into', () => {
  const tap = { group: 9797, snaplen: 1024, queueThreshold: 1 };
  const tables: TableRules[] = [
    { tap: { ...tap, headersOnly: false }, logOpenings: false },
    { tap: { ...tap, headersOnly: true }, logOpenings: false },
    { tap: undefined, logOpenings: true },
  ];
  const filled = setsIn(
    elementMessages(['10.244.0.70', 'fd00::70'], ['10.244.0.70'], true),
    DELSETELEM,
    NEWSETELEM,
  );
  assert.equal(filled.size, 5);
  for (const rules of tables) {
    const made = setsIn(tableMessages(rules), NEWSET);
    assert.deepEqual(
      [...filled].filter((name) => !made.has(name)),
      [],
      JSON.stringify(rules),
    );
  }
});
