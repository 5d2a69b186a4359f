/**
 * A socket filter for conntrack events, so that the kernel does not queue events without use: most connections of a node
 * belong to no subscriber, and each that does has five useless events. It only saves work: the parser checks every event that passes.
 */

import {
  ANCILLARY,
  assemble,
  COPY_TO_X,
  type Instruction,
  JUMP,
  JUMP_EQUAL,
  JUMP_EQUAL_X,
  JUMP_SET,
  LOAD_BYTE,
  LOAD_BYTE_X,
  LOAD_IMMEDIATE,
  LOAD_WORD,
  LOADX_IMMEDIATE,
  MOST_INSTRUCTIONS,
  RETURN,
} from '../bpf.ts';
import { addressBytes } from '../ip-bytes.ts';
import { ATTRIBUTE_HEADER, IPPROTO_TCP } from '../netlink/wire.ts';
import {
  CTA_PROTOINFO,
  CTA_PROTOINFO_TCP,
  CTA_PROTOINFO_TCP_STATE,
  TCP_CLOSE,
  TCP_TIME_WAIT,
} from './message.ts';

/** With more addresses than this, or a longer program, the filter passes all. */
const MOST_ADDRESSES = 250;

/** SKF_AD_OFF + SKF_AD_NLATTR (_NEST): A = offset of attribute X after offset A (within the attribute at A), or 0. */
const FIND_ATTRIBUTE = ANCILLARY + 12;
const FIND_NESTED = ANCILLARY + 16;

/**
 * The kernel's layout: nlmsghdr, nfgenmsg, then CTA_TUPLE_ORIG { CTA_TUPLE_IP { source, destination },
 * CTA_TUPLE_PROTO { number, … } } as the first attribute. The program checks the header of the source's attribute; an
 * event with another layout passes.
 */
const MESSAGE_AT = 4;
const FLAGS_HIGH_AT = 7;
const FAMILY_AT = 16;
const ATTRIBUTES_AT = 20;
const SOURCE_HEAD_AT = 28;
const SOURCE_AT = 32;
/** By address length: family, head of the source's attribute (length and type, little-endian), place of the number. */
const LAYOUT = {
  4: {
    family: 2,
    head: 0x08000100,
    protocolAt: 52,
    replyHeadAt: 80,
    replySourceAt: 84,
    replyDestinationAt: 92,
  },
  16: {
    family: 10,
    head: 0x14000300,
    protocolAt: 76,
    replyHeadAt: 104,
    replySourceAt: 108,
    replyDestinationAt: 128,
  },
} as const;
const IPCTNL_MSG_CT_DELETE = 2;
/** NLM_F_CREATE and NLM_F_EXCL, which only NEW events have, in the flags' high byte. */
const NEW_FLAGS = 0x06;

/** Addresses whose incoming connections pass, too: all of them, or those whose source the node translates. */
export interface Incoming {
  readonly all: readonly string[];
  readonly translated: readonly string[];
}

const NO_INCOMING: Incoming = { all: [], translated: [] };

/**
 * Struct sock_filter array that passes NEW, DESTROY and changes to TIME_WAIT or CLOSE of TCP connections from these
 * addresses, and to those of `incoming`.
 */
export function conntrackEventFilter(addresses: readonly string[], incoming = NO_INCOMING): Buffer {
  const bytesOf = (texts: readonly string[]) =>
    texts.map(addressBytes).filter((bytes) => bytes !== undefined);
  const keys = bytesOf(addresses);
  const targets = [
    ...bytesOf(incoming.all).map((key) => ({ key, translated: false })),
    ...bytesOf(incoming.translated).map((key) => ({ key, translated: true })),
  ];
  if (keys.length > MOST_ADDRESSES) return assemble(filter(keys, targets, false));
  const program = filter(keys, targets, true);
  return assemble(program.length > MOST_INSTRUCTIONS ? filter(keys, targets, false) : program);
}

interface Towards {
  key: Buffer;
  translated: boolean;
}

/** `compare`: false passes every address. */
function filter(keys: readonly Buffer[], targets: readonly Towards[], compare: boolean): Instruction[] {
  const program: Instruction[] = [
    { code: LOAD_BYTE, value: FAMILY_AT },
    { code: JUMP_EQUAL, value: LAYOUT[4].family, no: 'not4' },
    { code: JUMP, value: 0, yes: 'length4' },
    { label: 'not4', code: JUMP_EQUAL, value: LAYOUT[16].family, no: 'pass' },
    { code: JUMP, value: 0, yes: 'length16' },
    { label: 'pass', code: RETURN, value: 0xffffffff },
    { label: 'drop', code: RETURN, value: 0 },
  ];
  for (const length of [4, 16] as const) {
    const { head, protocolAt } = LAYOUT[length];
    program.push(
      { label: `length${length}`, code: LOAD_WORD, value: SOURCE_HEAD_AT },
      { code: JUMP_EQUAL, value: head, no: `unknown${length}` },
      { code: LOAD_BYTE, value: protocolAt },
      { code: JUMP_EQUAL, value: IPPROTO_TCP, yes: `tcp${length}` },
      { code: RETURN, value: 0 },
      { label: `unknown${length}`, code: RETURN, value: 0xffffffff },
    );
    const ofFamily = compare ? keys.filter((key) => key.length === length) : [];
    const first = program.length;
    ofFamily.forEach((key, k) => {
      const other = `other${length}.${k}`;
      for (let at = 0; at < length; at += 4) {
        program.push(
          { code: LOAD_WORD, value: SOURCE_AT + at },
          { code: JUMP_EQUAL, value: key.readUInt32BE(at), no: other },
        );
      }
      program.push({ code: JUMP, value: 0, yes: 'ours' });
      const next = { label: other, code: LOAD_IMMEDIATE, value: 0 };
      program.push(next);
    });
    const toFamily = compare ? targets.filter(({ key }) => key.length === length) : [];
    if (toFamily.length > 0) program.push(...towards(length, toFamily));
    program.push(compare ? { code: RETURN, value: 0 } : { code: JUMP, value: 0, yes: 'ours' });
    program[first]!.label ??= `tcp${length}`;
  }
  program.push(
    { label: 'ours', code: LOAD_BYTE, value: MESSAGE_AT },
    { code: JUMP_EQUAL, value: IPCTNL_MSG_CT_DELETE, yes: 'take' },
    { code: LOAD_BYTE, value: FLAGS_HIGH_AT },
    { code: JUMP_SET, value: NEW_FLAGS, yes: 'take' },
    { code: LOAD_IMMEDIATE, value: ATTRIBUTES_AT },
    { code: LOADX_IMMEDIATE, value: CTA_PROTOINFO },
    { code: LOAD_WORD, value: FIND_ATTRIBUTE },
    { code: JUMP_EQUAL, value: 0, yes: 'leave' },
    { code: LOADX_IMMEDIATE, value: CTA_PROTOINFO_TCP },
    { code: LOAD_WORD, value: FIND_NESTED },
    { code: JUMP_EQUAL, value: 0, yes: 'leave' },
    { code: LOADX_IMMEDIATE, value: CTA_PROTOINFO_TCP_STATE },
    { code: LOAD_WORD, value: FIND_NESTED },
    { code: JUMP_EQUAL, value: 0, yes: 'leave' },
    { code: COPY_TO_X, value: 0 },
    { code: LOAD_BYTE_X, value: ATTRIBUTE_HEADER },
    { code: JUMP_EQUAL, value: TCP_TIME_WAIT, yes: 'take' },
    { code: JUMP_EQUAL, value: TCP_CLOSE, yes: 'take' },
    { label: 'leave', code: RETURN, value: 0 },
    { label: 'take', code: RETURN, value: 0xffffffff },
  );
  return program;
}

/** Compares the source of the reply tuple, which is fixed like that of the original one: the two differ in nothing but values. */
function towards(length: 4 | 16, targets: readonly Towards[]): Instruction[] {
  const { head, replyHeadAt, replySourceAt, replyDestinationAt } = LAYOUT[length];
  const program: Instruction[] = [
    { code: LOAD_WORD, value: replyHeadAt },
    { code: JUMP_EQUAL, value: head, yes: `reply${length}` },
    { code: RETURN, value: 0xffffffff },
  ];
  targets.forEach(({ key, translated }, k) => {
    const other = `incoming${length}.${k + 1}`;
    for (let at = 0; at < length; at += 4) {
      program.push(
        {
          ...(at === 0 && k === 0 ? { label: `reply${length}` } : {}),
          code: LOAD_WORD,
          value: replySourceAt + at,
        },
        { code: JUMP_EQUAL, value: key.readUInt32BE(at), no: other },
      );
    }
    // The client's address is the one that nginx sees: not translated.
    for (let at = 0; translated && at < length; at += 4) {
      program.push(
        { code: LOAD_WORD, value: SOURCE_AT + at },
        { code: COPY_TO_X, value: 0 },
        { code: LOAD_WORD, value: replyDestinationAt + at },
        { code: JUMP_EQUAL_X, value: 0, no: `differs${length}.${k}` },
      );
    }
    if (translated) program.push({ code: JUMP, value: 0, yes: other });
    program.push({ label: `differs${length}.${k}`, code: JUMP, value: 0, yes: 'ours' });
    program.push({ label: other, code: LOAD_IMMEDIATE, value: 0 });
  });
  return program;
}
