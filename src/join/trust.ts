/** A line is resolved if more lines in a row than this, itself among them, agree with the record. */
const LINES_TO_TRUST = 20;
/** Shortest time without trust after a disagreement (ms). */
const DISTRUST_MS = 10_000;

/**
 * Whether the record of one Service can be trusted, learned from its lines. A line without a counterpart in the record
 * shows that something was not seen, and its line could be given the pod of another request. After one, nothing is
 * resolved until a row of lines agrees with the record.
 */
export class Trust {
  #agreed: number;
  #distrustedUntil = Number.NEGATIVE_INFINITY;

  private constructor(agreed: number) {
    this.#agreed = agreed;
  }

  /** The record is trusted until a line disagrees. */
  static given(): Trust {
    return new Trust(Number.POSITIVE_INFINITY);
  }

  /** The record is trusted once a row of lines has agreed with it. */
  static earned(): Trust {
    return new Trust(0);
  }

  /** A line that ended at `t` (ms since the epoch) agrees with the record, or has no counterpart in it. */
  seen(agrees: boolean, t: number): void {
    if (agrees) {
      this.#agreed++;
      return;
    }
    this.#agreed = 0;
    this.#distrustedUntil = Math.max(this.#distrustedUntil, t + DISTRUST_MS);
  }

  /** Whether a line whose request began at `begin` may be resolved. */
  trusts(begin: number): boolean {
    return this.#agreed > LINES_TO_TRUST && begin > this.#distrustedUntil;
  }

  /** The clock was set back to `t`: a disagreement counts from that time. */
  onClockRollback(t: number): void {
    if (this.#distrustedUntil > t) this.#distrustedUntil = t + DISTRUST_MS;
  }
}

/** Source ports that Linux chooses from (net.ipv4.ip_local_port_range). */
const PORTS = 28_232;
/** The port in the lines is believed once this is the chance, or less, that all of them agreed by accident. */
const BELIEVED = 1e-6;
/** Of any number of remembered connections, those that existed in the time of one line have at most this share of the ports. */
const MOST_PORTS = 0.5;

/**
 * Whether the logged port is that of the upstream connection, learned from the lines of one Service: another field's number, a
 * client's port for instance, is now and then that of some connection, too. A line whose port no connection has shows that
 * it is another number, or that a connection was not seen: nothing is named by the port then until lines have agreed anew.
 */
export class PortTrust {
  /** The chance that the lines so far agree by accident. */
  #chance = 1;
  /** Their ports: a client that keeps its connection writes one port into all its lines, which agree by one accident. */
  readonly #ports = new Set<number>();
  #distrustedUntil = Number.NEGATIVE_INFINITY;

  /**
   * One of `connections` has the `port` of a line that ended at `t` (ms since the epoch), or none has it. Where the attempt may
   * never have connected (`answered` is false), its connection need not have been seen.
   */
  seen(port: number, agrees: boolean, connections: number, t: number, answered: boolean): void {
    if (agrees) {
      if (this.#chance <= BELIEVED || this.#ports.has(port)) return;
      this.#ports.add(port);
      this.#chance *= Math.min(MOST_PORTS, connections / PORTS);
      return;
    }
    this.#ports.clear();
    this.#chance = 1;
    if (!answered) return;
    this.#distrustedUntil = Math.max(this.#distrustedUntil, t + DISTRUST_MS);
  }

  /** Whether a line whose request began at `begin` may be named by its port. */
  trusts(begin: number): boolean {
    return this.#chance <= BELIEVED && begin > this.#distrustedUntil;
  }

  /** As in `Trust`. */
  onClockRollback(t: number): void {
    if (this.#distrustedUntil > t) this.#distrustedUntil = t + DISTRUST_MS;
  }
}
