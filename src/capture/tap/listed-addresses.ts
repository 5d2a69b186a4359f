/** The addresses in the sets of another helper's table (linux/netfilter/nf_tables.h). */
import { addressText } from '../ip-bytes.ts';
import type { Libc } from '../netlink/libc.ts';
import { message, text } from '../netlink/message.ts';
import { dump } from '../netlink/socket.ts';
import {
  ATTRIBUTE_HEADER,
  align4,
  attributeEnd,
  attributeType,
  NETFILTER_HEADER,
  NLM_F_DUMP,
  NLM_F_REQUEST,
  u16,
} from '../netlink/wire.ts';
import { ANSWERED_SETS } from './nft-answers.ts';
import { FAMILIES, NEWSETELEM, NFPROTO_INET, SUBSYSTEM } from './nft-message.ts';

/** enum nf_tables_msg_types */
const GETSETELEM = (SUBSYSTEM << 8) | 13;
/** enum nft_set_elem_list_attributes, nft_list_attributes, nft_set_elem_attributes, nft_data_attributes */
const LIST_ELEMENTS = 3;
const LIST_ELEMENT = 1;
const ELEMENT_KEY = 1;
const DATA_VALUE = 1;

export interface ListedAddresses {
  /** Addresses whose requests are logged, as canonical text. */
  addresses: string[];
  /** Those of them whose answers are logged, too. */
  answered: string[];
}

/** Rejects with `CaptureError`, also where the table is not there. */
export async function listAddresses(libc: Libc, table: string): Promise<ListedAddresses> {
  const found: ListedAddresses = { addresses: [], answered: [] };
  const list = async (set: string, into: string[]): Promise<void> => {
    const request = elementsRequest(table, set);
    await dump(
      libc,
      request,
      () => {},
      (bytes, start, end) => {
        for (const key of keysOf(bytes, start, end)) into.push(key);
      },
    );
  };
  for (const family of [4, 6] as const) {
    await list(FAMILIES[family].set, found.addresses);
    await list(ANSWERED_SETS[family], found.answered);
  }
  return found;
}

export function elementsRequest(table: string, set: string): Buffer {
  const flags = NLM_F_REQUEST | NLM_F_DUMP;
  return message(
    { type: GETSETELEM, flags, sequence: 1, family: NFPROTO_INET },
    text(1, table),
    text(2, set),
  );
}

/** The addresses of one message of the listing. An element that is malformed is left out. */
export function keysOf(bytes: Buffer, start: number, end: number): string[] {
  const keys: string[] = [];
  if (u16(bytes, start + 4) !== NEWSETELEM) return keys;
  for (const [from, to] of attributes(bytes, start + NETFILTER_HEADER, end, LIST_ELEMENTS))
    for (const element of attributes(bytes, from, to, LIST_ELEMENT))
      for (const key of attributes(bytes, ...element, ELEMENT_KEY))
        for (const [at, stop] of attributes(bytes, ...key, DATA_VALUE)) {
          const length = stop - at;
          if (length === 4 || length === 16) keys.push(addressText(bytes, at, length));
        }
  return keys;
}

/** Where the values of the attributes of this type are. */
function* attributes(bytes: Buffer, start: number, end: number, type: number): Generator<[number, number]> {
  for (let at = start; at < end; ) {
    const stop = attributeEnd(bytes, at, end);
    if (stop < 0) return;
    if (attributeType(bytes, at) === type) yield [at + ATTRIBUTE_HEADER, stop];
    at += align4(stop - at);
  }
}
