import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { CaptureStats } from '../../src/capture/capture.ts';
import type { MessageVisitor } from '../../src/capture/netlink/socket.ts';
import {
  FlowTableListing,
  FlowTables,
  type FlowTablesFound,
  parseGeneration,
  type Questions,
} from '../../src/capture/tap/flow-tables.ts';
import { TakenPast } from '../../src/capture/tap/taken-past.ts';

const text = readFileSync(new URL('../fixtures/flow-tables/messages.json', import.meta.url), 'utf8');
const captured = (JSON.parse(text) as { messages: { what: string; hex: string }[] }).messages;
/** The answer to one question, as the kernel gave it. */
const answer = (what: string): Buffer[] =>
  captured.filter((each) => each.what === what).map(({ hex }) => Buffer.from(hex, 'hex'));

function listed(messages: readonly Buffer[]): string[] | undefined {
  const listing = new FlowTableListing();
  for (const message of messages) listing.add(message, 0, message.length);
  return listing.tables;
}

/** The kernel: answers what it is asked, counted by the message's type. */
class Kernel implements Questions {
  generation = 'generation';
  tables = 'none';
  /** Done to each message of a listing before it is handed over. */
  spoil: (message: Buffer) => void = () => {};
  refuses = false;
  overrun = false;
  readonly asked = { generation: 0, tables: 0 };
  #answer: Buffer[] = [];

  send(request: Buffer): boolean {
    const isGeneration = request.readUInt16LE(4) === 0x0a10;
    this.asked[isGeneration ? 'generation' : 'tables']++;
    this.#answer = answer(isGeneration ? this.generation : this.tables);
    if (!isGeneration) for (const message of this.#answer) this.spoil(message);
    return !this.refuses;
  }

  drain(_limit: number, visit: MessageVisitor) {
    for (const message of this.#answer) visit(message, 0, message.length);
    return { messages: this.#answer.length, overrun: this.overrun, empty: true };
  }

  close(): void {}
}

test('the flow tables that have a device are found, of every family', () => {
  assert.deepEqual(listed(answer('none')), []);
  assert.deepEqual(listed(answer('one without a device')), []);
  assert.deepEqual(listed(answer('one without a device, two with')), ['kube-proxy/fastpath', 'other/ft']);
});

test('a listing that is cut, refused or spoilt by a change of the rules is none', () => {
  const whole = answer('one without a device, two with');
  assert.equal(listed(whole.slice(0, -1)), undefined);
  const refused = Buffer.from(whole.at(-1)!);
  refused.writeInt32LE(-95, 16);
  assert.equal(listed([...whole.slice(0, -1), refused]), undefined);
  const interrupted = whole.map((message) => Buffer.from(message));
  interrupted[1]!.writeUInt16LE(interrupted[1]!.readUInt16LE(6) | 0x10, 6);
  assert.equal(listed(interrupted), undefined);
  for (const [k, message] of whole.slice(0, -1).entries())
    for (let length = 24; length < message.length; length += 4) {
      const cut = message.subarray(0, length);
      const found = listed([...whole.slice(0, k), cut, ...whole.slice(k + 1)]);
      // The hook comes last, and nothing behind it is needed.
      if (found !== undefined) assert.deepEqual(found, listed(whole));
    }
});

test('the number of the rules is read, and no other message for it', () => {
  const [first] = answer('generation');
  const [later] = answer('generation, later');
  assert.equal(parseGeneration(first!, 0, first!.length), 1);
  assert.equal(parseGeneration(later!, 0, later!.length), 5);
  assert.equal(parseGeneration(first!, 0, 24), undefined);
  const [done] = answer('none');
  assert.equal(parseGeneration(done!, 0, done!.length), undefined);
});

test('the tables are listed where the rules have changed, and not else', () => {
  const kernel = new Kernel();
  const flowTables = new FlowTables(kernel);
  assert.deepEqual(flowTables.find(), { tables: [] });
  assert.deepEqual(flowTables.find(), { tables: [] });
  assert.deepEqual(kernel.asked, { generation: 2, tables: 1 });
  kernel.generation = 'generation, later';
  kernel.tables = 'one without a device, two with';
  assert.deepEqual(flowTables.find(), { tables: ['kube-proxy/fastpath', 'other/ft'] });
  assert.equal(kernel.asked.tables, 2);
});

test('what the kernel does not tell is not known, and asked for again', () => {
  const kernel = new Kernel();
  const flowTables = new FlowTables(kernel);
  let spoilt = 0;
  kernel.spoil = (message) => {
    if (spoilt++ === 0) message.writeUInt16LE(0x12, 6);
  };
  assert.deepEqual(flowTables.find(), { tables: [] });
  assert.equal(kernel.asked.tables, 2);
  kernel.generation = 'generation, later';
  kernel.spoil = (message) => message.writeUInt16LE(0x12, 6);
  assert.equal(flowTables.find(), 'not-known');
  assert.equal(flowTables.find(), 'not-known');
  kernel.spoil = () => {};
  kernel.overrun = true;
  assert.equal(flowTables.find(), 'not-known');
  kernel.overrun = false;
  assert.deepEqual(flowTables.find(), { tables: [] });
  kernel.generation = 'nothing';
  assert.equal(flowTables.find(), 'not-known');
  kernel.generation = 'generation';
  kernel.refuses = true;
  assert.equal(flowTables.find(), 'not-known');
});

test('a flow table counts from the reading before it was found to the one after it was gone', () => {
  let found: FlowTablesFound = { tables: [] };
  const said: string[] = [];
  const stats = {} as CaptureStats;
  const takenPast = new TakenPast({
    flowTables: { find: () => found },
    stats,
    log: (level, message) => said.push(`${level} ${message}`),
  });
  assert.equal(takenPast.check(), false);
  assert.equal(stats.flowTables, 0);
  found = { tables: ['kube-proxy/fastpath'] };
  assert.equal(takenPast.check(), true);
  assert.equal(takenPast.check(), true);
  assert.equal(stats.flowTables, 1);
  found = { tables: [] };
  assert.equal(takenPast.check(), true);
  assert.equal(takenPast.check(), false);
  found = 'not-known';
  assert.equal(takenPast.check(), true);
  assert.equal(stats.flowTables, -1);
  assert.equal(said.length, 3);
  assert.match(said[0]!, /^error the node has a flow table \(kube-proxy\/fastpath\)/);
  assert.match(said[1]!, /^info no flow table is left/);
  assert.match(said[2]!, /^error the kernel does not list its flow tables/);
});
