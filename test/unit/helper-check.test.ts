import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { connectionsText, isTranslated, type NodeFinding } from '../../src/capture/check.ts';
import { openingsText } from '../../src/capture/packet/check.ts';
import { nodeReport } from '../../src/helper-check.ts';

const { messages } = JSON.parse(
  readFileSync(new URL('../fixtures/conntrack/messages.json', import.meta.url), 'utf8'),
) as { messages: { what: string; hex: string }[] };

test('a connection with a translated destination is one whose entry was made by a DNAT rule', () => {
  const found = new Set<boolean>();
  for (const { what, hex } of messages) {
    const bytes = Buffer.from(hex, 'hex');
    const translated = isTranslated(bytes, 0, bytes.length);
    found.add(translated);
    assert.equal(translated, what.includes('DNAT'), what);
    for (let end = 20; end < bytes.length; end++) isTranslated(bytes, 0, end);
  }
  assert.equal(found.size, 2);
});

test('what the entries say of this node: none, none translated, some', () => {
  assert.match(
    connectionsText({ tracked: 0, translated: 0 }),
    /hostNetwork.*--sources tap --tap-source packet/,
  );
  assert.match(
    connectionsText({ tracked: 7, translated: 0 }),
    /^7 connections .* endpoints of the API server$/,
  );
  assert.equal(
    connectionsText({ tracked: 7, translated: 3 }),
    '7 connections are tracked, 3 of them with a translated destination',
  );
});

test('the report ends with 0 only if every wanted source can be given', () => {
  const findings: NodeFinding[] = [
    { subject: 'conntrack', can: true, says: 'a' },
    { subject: 'tap', can: false, says: 'b' },
    { subject: 'byte counts', can: undefined, says: 'c' },
  ];
  assert.deepEqual(nodeReport(findings, ['conntrack']), {
    text: 'conntrack    yes  a\ntap          no   b\nbyte counts       c\nThis node can give all of --sources conntrack.\n',
    code: 0,
  });
  const { text, code } = nodeReport(findings, ['conntrack', 'tap']);
  assert.equal(code, 1);
  assert.match(text, /\nThis node cannot give tap of --sources conntrack,tap\.\n$/);
});

test('where conntrack does not have the connections that are opened, the options that need none are named', () => {
  assert.match(openingsText({ opened: 0, tracked: 0 }), /nothing opened a connection/);
  assert.match(openingsText({ opened: 5, tracked: 5 }), /has 5 of 5 connections that were opened meanwhile$/);
  assert.match(openingsText({ opened: 5, tracked: 1 }), /has 1 of 5 .*: --sources tap --tap-source packet$/);
});
