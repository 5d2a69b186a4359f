/**
 * Requests that the record cannot contain, as nginx's network namespace shows: those from an address whose records are not
 * read, and those that clients sent before the record began. All times are ms since the epoch.
 */
export class BlindSpots {
  /** By family: up to this time requests may have left from an address whose records were not read. */
  #unservedUntil = { v4: -Infinity, v6: -Infinity };
  /** Lines written up to this time may be of requests that ended before the record began. */
  #olderUntil = -Infinity;

  /** Looks at nginx's addresses now, and says with `setUnserved` what it found. */
  #look: (() => void) | undefined;
  /** Up to when nginx's addresses are known. */
  #lookedUntil = -Infinity;

  /**
   * `look` is called where addresses are to be known of a later time than that of the last look: requests from an address that
   * came meanwhile are missing, and nothing else tells of it.
   */
  lookWith(look: () => void): void {
    this.#look = look;
  }

  /** The clock was set back: the last look was at a time that comes again. */
  onClockRollback(): void {
    this.#lookedUntil = -Infinity;
  }

  /** nginx's addresses whose records are not read at `t`, of those that it had at `lookedAt`. */
  setUnserved(addresses: readonly string[], t: number, lookedAt = t): void {
    this.#lookedUntil = lookedAt;
    for (const family of ['v4', 'v6'] as const) {
      if (addresses.some((address) => familyOf(address) === family)) this.#unservedUntil[family] = Infinity;
      else if (this.#unservedUntil[family] === Infinity) this.#unservedUntil[family] = t;
    }
  }

  /** Whether the records of every address that can have dialed `ip` were read from `from` to `to`. */
  isServed(ip: string, from: number, to: number): boolean {
    if (to > this.#lookedUntil) this.#look?.();
    return from > this.#unservedUntil[familyOf(ip)];
  }

  /** Whether a client connection from before the record is still open at `t`. */
  setOlderClients(open: boolean, t: number): void {
    if (open) this.#olderUntil = Infinity;
    else if (this.#olderUntil === Infinity) this.#olderUntil = t;
  }

  /** Whether the request of a line without times, written after `from`, began within the record. */
  isWithinRecord(from: number): boolean {
    return from > this.#olderUntil;
  }
}

function familyOf(ip: string): 'v4' | 'v6' {
  return ip.includes(':') ? 'v6' : 'v4';
}
