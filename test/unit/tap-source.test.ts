/** Which way the tap's packets come: by rules in nftables, or from a packet socket where the kernel cannot run them. */
import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { test } from 'node:test';
import { CAPTURE_DEFAULTS, type TapSource } from '../../src/capture/capture.ts';
import { FlowTable } from '../../src/capture/conntrack/flow-table.ts';
import { createCapture } from '../../src/capture/create.ts';
import { CaptureError } from '../../src/capture/error.ts';
import { AddressSet, AddressTexts } from '../../src/capture/ip-bytes.ts';
import type { Libc } from '../../src/capture/netlink/libc.ts';
import { openTapSource } from '../../src/capture/tap-source.ts';

const { EAGAIN, EEXIST, EINVAL, EOPNOTSUPP, EPERM, EPROTONOSUPPORT } = constants.errno;
const AF_NETLINK = 16;
const AF_PACKET = 17;
const SO_RCVBUFFORCE = 33;
const HEADER = 16;
const ERROR = 2;
const ACK = 4;
/** nfnetlink's subsystems, in the high byte of a message's type. */
const NFLOG = 4;
const BATCH_BEGIN = 0x10;

/** What the kernel answers to a call or a message; 0: it does it. */
interface Refusals {
  netlink?: number;
  packet?: number;
  /** To a message of NFLOG's subsystem. */
  group?: number;
  /** To the batch's message of this number. */
  rules?: { errno: number; sequence: number };
  receiveBuffer?: number;
}

/** A kernel that acknowledges what is asked, but for what it refuses. `open`: descriptors, by family. */
function kernel(refusals: Refusals) {
  const memory: Buffer[] = [];
  const answers = new Map<number, Buffer[]>();
  const open = new Map<number, number>();
  let last = 2;
  const take = (fd: number, bytes: Buffer): number => {
    const message = (sequence: number, errno: number): Buffer => {
      const answer = Buffer.alloc(HEADER + 4 + HEADER);
      answer.writeUInt32LE(answer.length, 0);
      answer.writeUInt16LE(ERROR, 4);
      answer.writeInt32LE(-errno, HEADER);
      answer.writeUInt32LE(sequence, HEADER + 4 + 8);
      return answer;
    };
    const queue = answers.get(fd)!;
    const isBatch = bytes.readUInt16LE(4) === BATCH_BEGIN;
    for (let at = 0; at < bytes.length; at += (bytes.readUInt32LE(at) + 3) & ~3) {
      const sequence = bytes.readUInt32LE(at + 8);
      const wantsAnswer = (bytes.readUInt16LE(at + 6) & ACK) !== 0;
      const isGroup = !isBatch && bytes.readUInt16LE(at + 4) >> 8 === NFLOG;
      const { group = 0, rules } = refusals;
      const errno = isGroup ? group : isBatch && rules?.sequence === sequence ? rules.errno : 0;
      if (errno !== 0 || wantsAnswer) queue.push(message(sequence, errno));
    }
    return bytes.length;
  };
  const libc: Libc = {
    socket(family) {
      const errno = { [AF_NETLINK]: refusals.netlink, [AF_PACKET]: refusals.packet }[family] ?? 0;
      if (errno !== 0) return -errno;
      open.set(++last, family);
      answers.set(last, []);
      return last;
    },
    bind: () => 0,
    setsockopt: (_fd, _level, option) =>
      option === SO_RCVBUFFORCE && refusals.receiveBuffer ? -refusals.receiveBuffer : 0,
    getsockopt: () => 0,
    deviceName: () => undefined,
    send: take,
    sendAsync: async (fd, bytes) => take(fd, bytes),
    recvAsync: async () => -EAGAIN,
    recvmmsg(fd, headers, count) {
      const at = (pointer: bigint): [Buffer, number] => [
        memory[Number(pointer >> 32n)]!,
        Number(pointer & 0xffff_ffffn),
      ];
      const queue = answers.get(fd)!.splice(0, count);
      for (const [i, answer] of queue.entries()) {
        const [vectors, vectorAt] = at(headers.readBigUInt64LE(i * 64 + 16));
        const [data, dataAt] = at(vectors.readBigUInt64LE(vectorAt));
        answer.copy(data, dataAt);
        headers.writeUInt32LE(answer.length, i * 64 + 56);
      }
      return queue.length === 0 ? -EAGAIN : queue.length;
    },
    close(fd) {
      open.delete(fd);
      return 0;
    },
    wallClock: () => 0,
    addressOf: (bytes) => BigInt(memory.push(bytes) - 1) << 32n,
    poll: () => ({ start() {}, stop() {}, close() {} }),
  };
  return { libc, families: () => [...open.values()] };
}

async function opened(refusals: Refusals, tapSource: TapSource, logRule = false) {
  const said: string[] = [];
  const { libc, families } = kernel(refusals);
  const log = (level: string, message: string): void => void said.push(`${level}: ${message}`);
  const options = { ...CAPTURE_DEFAULTS, tapSource, logRule, log };
  const { stats } = createCapture(options, { batch: () => {} });
  const tap = await openTapSource(libc, options, {
    addresses: new AddressSet(),
    texts: new AddressTexts(),
    stats,
    flows: new FlowTable(100, 'tap'),
    contents: new Set(),
  }).catch((error: unknown) => error);
  if (tap instanceof Error) {
    assert.ok(tap instanceof CaptureError, String(tap));
    return { way: tap.code, said: [tap.message], families: families() };
  }
  const { packetTap } = tap as { packetTap?: unknown };
  return { way: packetTap ? 'packet' : 'rules', said, families: families() };
}

const INNER_HEADER = { errno: EOPNOTSUPP, sequence: 12 };
const TOO_OLD: readonly [what: string, refusals: Refusals][] = [
  ['no match on payload (before 5.16)', { rules: INNER_HEADER }],
  ['no owned tables (before 5.12)', { rules: { errno: EINVAL, sequence: 2 } }],
  ['no nf_tables', { rules: { errno: EOPNOTSUPP, sequence: 1 } }],
  ['no nfnetlink_log', { group: EINVAL }],
  ['no nfnetlink', { netlink: EPROTONOSUPPORT }],
];

test('a kernel that runs the rules runs them, also with auto', async () => {
  for (const way of ['nflog', 'auto'] as const) {
    const { families, ...rest } = await opened({}, way);
    assert.deepEqual(rest, { way: 'rules', said: [] });
    assert.ok(!families.includes(AF_PACKET));
  }
});

for (const [what, refusals] of TOO_OLD)
  test(`auto reads a packet socket where the kernel has ${what}, and says why`, async () => {
    const { way, said, families } = await opened(refusals, 'auto');
    assert.equal(way, 'packet');
    assert.equal(said.length, 1);
    assert.match(said[0]!, /^warn: .*\. The tap reads a packet socket instead$/);
    // Nothing of the other way is left open.
    assert.deepEqual(families, [AF_PACKET]);
    const without = await opened(refusals, 'nflog');
    assert.match(without.said[0]!, /--tap-source packet/);
    assert.deepEqual(without.families, []);
  });

test('auto ends with an error where a packet socket would be no way out, or is none', async () => {
  const cases: [Refusals, code: string, logRule?: boolean][] = [
    // Another helper, and too few rights: the same command can do it once that is mended.
    [{ rules: { errno: EEXIST, sequence: 2 } }, 'table-exists'],
    [{ group: EPERM }, 'group-in-use'],
    [{ receiveBuffer: EPERM }, 'permission'],
    [{ rules: INNER_HEADER, packet: EPERM }, 'permission'],
    // A LOG rule is asked for, which the kernel cannot run either.
    [{ rules: INNER_HEADER }, 'kernel', true],
  ];
  for (const [refusals, code, logRule] of cases) {
    const { way, families } = await opened(refusals, 'auto', logRule);
    assert.equal(way, code);
    assert.deepEqual(families, []);
  }
});
