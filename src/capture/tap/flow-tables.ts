/**
 * The node's flow tables (linux/netfilter/nf_tables.h). The packets of a connection in a flow table are forwarded from
 * device to device and skip every hook of the tap.
 */
import type { Libc } from '../netlink/libc.ts';
import { message } from '../netlink/message.ts';
import { NetlinkSocket } from '../netlink/socket.ts';
import {
  ATTRIBUTE_HEADER,
  align4,
  attributeEnd,
  attributeType,
  be32,
  MESSAGE_HEADER,
  NETFILTER_HEADER,
  NLM_F_DUMP,
  NLM_F_REQUEST,
  NLMSG_DONE,
  u16,
} from '../netlink/wire.ts';
import { SUBSYSTEM } from './nft-message.ts';

/** enum nf_tables_msg_types */
const NEWGEN = (SUBSYSTEM << 8) | 15;
const GETGEN = (SUBSYSTEM << 8) | 16;
const NEWFLOWTABLE = (SUBSYSTEM << 8) | 22;
const GETFLOWTABLE = (SUBSYSTEM << 8) | 23;
/** enum nft_gen_attributes, nft_flowtable_attributes, nft_flowtable_hook_attributes */
const NFTA_GEN_ID = 1;
const NFTA_FLOWTABLE_TABLE = 1;
const NFTA_FLOWTABLE_NAME = 2;
const NFTA_FLOWTABLE_HOOK = 3;
const NFTA_FLOWTABLE_HOOK_DEVS = 3;

/** The rules were changed while they were listed. */
const NLM_F_DUMP_INTR = 0x10;
/** Longer than any part of a dump that the kernel sends. */
const DATAGRAM_BYTES = 32 * 1024;
/** After so many listings in a row during which the rules changed, the tables count as not known. */
const TRIES = 3;

export type FlowTablesFound =
  /** `table/name` of each flow table that has a device, in the kernel's order. */
  | { tables: readonly string[] }
  /** The kernel gave no usable answer. Any packet may skip the tap. */
  | 'not-known';

/** The part of `NetlinkSocket` that requests need. */
export type Questions = Pick<NetlinkSocket, 'send' | 'drain' | 'close'>;

export interface FlowTablesSource {
  /** The current flow tables. */
  find(): FlowTablesFound;
}

/**
 * Reads the generation number, which grows with each change of the node's rules, and lists the flow tables if it differs
 * from the last one: one request to the kernel if nothing has changed.
 */
export class FlowTables implements FlowTablesSource {
  readonly #socket: Questions;
  #generation: number | undefined;
  #found: FlowTablesFound = 'not-known';

  constructor(socket: Questions) {
    this.#socket = socket;
  }

  /** Throws `CaptureError`. */
  static open(libc: Libc): FlowTables {
    return new FlowTables(NetlinkSocket.open(libc, { datagramBytes: DATAGRAM_BYTES, datagrams: 2 }));
  }

  find(): FlowTablesFound {
    // Requested before the listing: a change during it raises the number, and the tables are listed again.
    const generation = this.#askGeneration();
    if (generation !== undefined && generation === this.#generation) return this.#found;
    this.#generation = undefined;
    this.#found = 'not-known';
    if (generation === undefined) return this.#found;
    for (let tries = 0; tries < TRIES; tries++) {
      const tables = this.#list();
      if (tables === undefined) continue;
      this.#generation = generation;
      this.#found = { tables };
      break;
    }
    return this.#found;
  }

  close(): void {
    this.#socket.close();
  }

  #askGeneration(): number | undefined {
    let generation: number | undefined;
    if (!this.#socket.send(ASK_GENERATION)) return undefined;
    // One request has one answer. A second read would double the cost, with every reading of the tap.
    this.#socket.drain(1, (bytes, start, end) => {
      generation = parseGeneration(bytes, start, end) ?? generation;
    });
    return generation;
  }

  #list(): string[] | undefined {
    const listing = new FlowTableListing();
    if (!this.#socket.send(flowTablesRequest())) return undefined;
    const { overrun } = this.#socket.drain(Number.POSITIVE_INFINITY, (bytes, start, end) =>
      listing.add(bytes, start, end),
    );
    return overrun ? undefined : listing.tables;
  }
}

export function generationRequest(): Buffer {
  return message({ type: GETGEN, flags: NLM_F_REQUEST, sequence: 1, family: 0 });
}

const ASK_GENERATION = generationRequest();

/** Requests the flow tables of every family and table. */
export function flowTablesRequest(): Buffer {
  return message({ type: GETFLOWTABLE, flags: NLM_F_REQUEST | NLM_F_DUMP, sequence: 2, family: 0 });
}

/** Undefined if the message has another type or is incomplete. */
export function parseGeneration(bytes: Buffer, start: number, end: number): number | undefined {
  if (u16(bytes, start + 4) !== NEWGEN) return undefined;
  let generation: number | undefined;
  const whole = eachAttribute(bytes, start + NETFILTER_HEADER, end, (type, value, stop) => {
    if (type === NFTA_GEN_ID && stop - value === 4) generation = be32(bytes, value);
  });
  return whole ? generation : undefined;
}

/** The messages of one listing, in order. */
export class FlowTableListing {
  readonly #tables: string[] = [];
  #whole = true;
  #done = false;

  add(bytes: Buffer, start: number, end: number): void {
    if ((u16(bytes, start + 6) & NLM_F_DUMP_INTR) !== 0) this.#whole = false;
    const type = u16(bytes, start + 4);
    if (type === NLMSG_DONE) {
      this.#done = end - start < MESSAGE_HEADER + 4 || bytes.readInt32LE(start + MESSAGE_HEADER) === 0;
      return;
    }
    const table = type === NEWFLOWTABLE ? parseFlowTable(bytes, start, end) : undefined;
    if (table === undefined) this.#whole = false;
    else if (table.hasDevice) this.#tables.push(table.name);
  }

  /** Undefined if the listing is incomplete: refused, interrupted by a change of the rules, or malformed. */
  get tables(): string[] | undefined {
    return this.#done && this.#whole ? this.#tables : undefined;
  }
}

function parseFlowTable(
  bytes: Buffer,
  start: number,
  end: number,
): { name: string; hasDevice: boolean } | undefined {
  let table: string | undefined;
  let name: string | undefined;
  let hasDevice: boolean | undefined;
  const whole = eachAttribute(bytes, start + NETFILTER_HEADER, end, (type, value, stop) => {
    if (type === NFTA_FLOWTABLE_TABLE) table = bytes.toString('latin1', value, stop - 1);
    else if (type === NFTA_FLOWTABLE_NAME) name = bytes.toString('latin1', value, stop - 1);
    else if (type === NFTA_FLOWTABLE_HOOK) hasDevice = namesDevice(bytes, value, stop);
  });
  if (!whole || table === undefined || name === undefined || hasDevice === undefined) return undefined;
  return { name: `${table}/${name}`, hasDevice };
}

/** Whether the hook has a device, or a pattern of devices' names. Undefined if it is incomplete. */
function namesDevice(bytes: Buffer, start: number, end: number): boolean | undefined {
  let hasDevice = false;
  const whole = eachAttribute(bytes, start, end, (type, value, stop) => {
    if (type === NFTA_FLOWTABLE_HOOK_DEVS) hasDevice = stop - value >= ATTRIBUTE_HEADER;
  });
  return whole ? hasDevice : undefined;
}

/** False if an attribute is malformed. */
function eachAttribute(
  bytes: Buffer,
  start: number,
  end: number,
  visit: (type: number, value: number, stop: number) => void,
): boolean {
  for (let at = start; at < end; ) {
    const stop = attributeEnd(bytes, at, end);
    if (stop < 0) return false;
    visit(attributeType(bytes, at), at + ATTRIBUTE_HEADER, stop);
    at += align4(stop - at);
  }
  return true;
}
