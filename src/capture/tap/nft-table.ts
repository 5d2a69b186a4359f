import { constants } from 'node:os';
import { CaptureError, cannotRunRules } from '../error.ts';
import { callFailed, type Libc } from '../netlink/libc.ts';
import { message } from '../netlink/message.ts';
import { type KernelError, NetlinkSocket } from '../netlink/socket.ts';
import { NLM_F_ACK, NLM_F_REQUEST } from '../netlink/wire.ts';
import { deleteTable, type Message, SUBSYSTEM } from './nft-message.ts';
import { elementMessages, type TableRules, tableMessages } from './nft-rules.ts';

const { EEXIST, EINVAL, ENOENT, EOPNOTSUPP, EPERM, EACCES } = constants.errno;
/** linux/netfilter/nfnetlink.h: NFNL_MSG_BATCH_BEGIN and _END. */
const BATCH_BEGIN = 0x10;
const BATCH_END = 0x11;

/** The table of nft-rules.ts in the kernel. It exists as long as the socket: see there. */
export class TapTable {
  readonly name: string;
  readonly #rules: TableRules;
  readonly #socket: NetlinkSocket;
  /** One request at a time on the socket. */
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(libc: Libc, name: string, rules: TableRules) {
    this.name = name;
    this.#rules = rules;
    this.#socket = NetlinkSocket.open(libc, { datagramBytes: 4096, datagrams: 16 });
  }

  /** Creates the table with no addresses in it. Rejects with `CaptureError`. */
  static async open(libc: Libc, name: string, rules: TableRules): Promise<TapTable> {
    const table = new TapTable(libc, name, rules);
    try {
      await table.#install();
    } catch (error) {
      table.#socket.close();
      throw error;
    }
    return table;
  }

  /**
   * From now on the requests of exactly these addresses are logged, for `ELEMENT_TIMEOUT_MS`. `answered`: those of them
   * whose answers are logged, too. `again`: so is one packet of each connection with other content, although one was
   * before. One transaction: an address that stays is in the set at every moment. `restored`: the table was gone, and
   * requests since the last success may not have been logged.
   */
  setAddresses(
    addresses: readonly string[],
    answered: readonly string[],
    again: boolean,
  ): Promise<'kept' | 'restored'> {
    const messages = elementMessages(addresses, answered, again);
    const turn = this.#turn.then(() => this.#setAddresses(messages));
    this.#turn = turn.catch(() => {});
    return turn;
  }

  async #setAddresses(messages: readonly Message[]): Promise<'kept' | 'restored'> {
    const refusal = await this.#socket.request(batch(this.name, messages));
    if (refusal === undefined) return 'kept';
    if (refusal.errno !== ENOENT) throw callFailed('set the addresses of the tap', -refusal.errno);
    await this.#install();
    const repeated = await this.#socket.request(batch(this.name, messages));
    if (repeated !== undefined) throw callFailed('set the addresses of the tap', -repeated.errno);
    return 'restored';
  }

  async #install(): Promise<void> {
    const refusal = await this.#socket.request(batch(this.name, tableMessages(this.#rules)));
    if (refusal !== undefined) throw installFailed(this.name, refusal);
  }

  async close(): Promise<void> {
    await this.#turn;
    // The kernel also removes an owned table after the socket closes, but some time later.
    await this.#socket.request(batch(this.name, [deleteTable]));
    this.#socket.close();
  }
}

/** The sequence number of a refusal identifies the message of the batch; BATCH_BEGIN has 1. */
const TABLE_SEQUENCE = 2;

function installFailed(name: string, { errno, sequence }: KernelError): CaptureError {
  if (sequence === TABLE_SEQUENCE && (errno === EEXIST || errno === EPERM)) {
    return new CaptureError(
      'table-exists',
      `the nftables table inet ${name} is there already: another realpod helper runs here. Stop it` +
        ` (or, if none does: nft delete table inet ${name})`,
    );
  }
  if (errno === EPERM || errno === EACCES)
    return callFailed(`create the nftables table inet ${name}`, -errno);
  if (errno === EOPNOTSUPP || errno === ENOENT || errno === EINVAL) {
    return cannotRunRules('it needs Linux 5.16 with nf_tables, nft_ct and nft_log');
  }
  return callFailed(`create the nftables table inet ${name}`, -errno);
}

/** A batch is applied completely or not at all; the last message requests an acknowledgement. */
function batch(table: string, messages: readonly Message[]): Buffer {
  const edge = (type: number, sequence: number) =>
    message({ type, flags: NLM_F_REQUEST, sequence, family: 0, resource: SUBSYSTEM });
  const last = messages.length - 1;
  return Buffer.concat([
    edge(BATCH_BEGIN, 1),
    ...messages.map((build, i) => build(table, i + TABLE_SEQUENCE, i === last ? NLM_F_ACK : 0)),
    edge(BATCH_END, messages.length + TABLE_SEQUENCE),
  ]);
}
