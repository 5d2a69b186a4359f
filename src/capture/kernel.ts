/** Capture on this machine's kernel: conntrack events and dumps, and the tap. */
import { untilLook } from '../each-second.ts';
import type { Source } from '../model/feed.ts';
import {
  type Capture,
  type CaptureOptions,
  type CaptureSink,
  type CaptureStats,
  type KnownFlow,
  newCaptureStats,
  type Subscription,
  type Wishes,
} from './capture.ts';
import { Clients } from './conntrack/clients.ts';
import { Accounting } from './conntrack/counters.ts';
import { conntrackEventFilter } from './conntrack/event-filter.ts';
import { countsFlows, openConntrackEvents, openConntrackRequests } from './conntrack/events.ts';
import { snapshotOf } from './conntrack/flow-entry.ts';
import { FlowTable } from './conntrack/flow-table.ts';
import { otherNodes } from './conntrack/other-nodes.ts';
import { listPort, type ResyncTarget } from './conntrack/resync.ts';
import { Resyncs } from './conntrack/resyncs.ts';
import { CaptureError } from './error.ts';
import { AddressSet, AddressTexts, addressBytes, addressText } from './ip-bytes.ts';
import { SourceMerge } from './merge.ts';
import { type Libc, loadLibc } from './netlink/libc.ts';
import type { NetlinkSocket } from './netlink/socket.ts';
import type { NetlinkSource } from './netlink-source.ts';
import type { PacketTap } from './packet/packet-tap.ts';
import type { FlowTables } from './tap/flow-tables.ts';
import { type ListedAddresses, listAddresses } from './tap/listed-addresses.ts';
import type { TapTable } from './tap/nft-table.ts';
import { SECOND_TABLE, TABLE } from './tap/open-tap.ts';
import { ServedAddresses } from './tap/served-addresses.ts';
import { TakenPast } from './tap/taken-past.ts';
import { type OpenedTap, openTapSource } from './tap-source.ts';

/** Interval of the checks for due work (ms); without traffic also of the watermarks. */
const TICK_MS = 1_000;

/** One subscribed address. */
interface Watched extends ResyncTarget {
  completeSince: Partial<Record<Source, number>>;
  ready: Promise<void>;
}

export class KernelCapture implements Capture {
  readonly stats: CaptureStats = newCaptureStats();
  readonly #options: CaptureOptions;
  readonly #sink: CaptureSink;
  readonly #watched = new Map<string, Watched>();
  /** The addresses whose answers are reported, too. */
  readonly #answered = new Set<string>();
  /** The addresses whose requests are reported with their content. */
  readonly #contents = new Set<string>();
  readonly #addresses = new AddressSet();
  readonly #flows: FlowTable;
  #libc!: Libc;
  #reader!: SourceMerge;
  #resyncs!: Resyncs;
  #conntrack: NetlinkSocket | undefined;
  #clients: Clients | undefined;
  #requests: NetlinkSocket | undefined;
  #tap: (NetlinkSource & { close(): void }) | undefined;
  /** Of a packet socket. */
  #packets: PacketTap | undefined;
  #table: TapTable | undefined;
  #flowTables: FlowTables | undefined;
  #ticker: NodeJS.Timeout | undefined;
  #served: ServedAddresses | undefined;
  #closed = false;

  constructor(options: CaptureOptions, sink: CaptureSink) {
    this.#options = options;
    this.#sink = sink;
    const { sources, maxFlows } = options;
    this.#flows = new FlowTable(maxFlows, sources.includes('conntrack') ? 'conntrack' : 'tap');
  }

  async start(): Promise<void> {
    const { sources, receiveBufferBytes, log } = this.#options;
    this.#libc = await loadLibc();
    const libc = this.#libc;
    const texts = new AddressTexts();
    const clock = { wall: libc.wallClock, monotonic: () => performance.now() };
    let opened: OpenedTap;
    try {
      if (sources.includes('conntrack')) {
        this.#conntrack = openConntrackEvents(libc, receiveBufferBytes);
        this.#requests = openConntrackRequests(libc);
        this.stats.accounting = countsFlows();
      }
      opened = await openTapSource(libc, this.#options, {
        addresses: this.#addresses,
        texts,
        stats: this.stats,
        flows: this.#flows,
        contents: this.#contents,
      });
      this.#tap = opened.socket;
      this.#table = opened.table;
      this.#flowTables = opened.flowTables;
      this.#packets = opened.packetTap;
    } catch (error) {
      await this.close();
      throw error;
    }
    this.#reader = new SourceMerge({
      conntrack: this.#conntrack,
      tap: this.#tap,
      packets: opened.packets,
      takenPast: this.#flowTables && new TakenPast({ flowTables: this.#flowTables, stats: this.stats, log }),
      addresses: this.#addresses,
      texts,
      flows: this.#flows,
      clients: () => this.#clients,
      accounting: this.#requests && new Accounting(this.#requests, this.stats),
      clock,
      sink: this.#sink,
      stats: this.stats,
      onConntrackLoss: () => {
        this.#resyncs.recover();
        this.#clients?.lost();
      },
      onTapLoss: () => this.#served?.lost(),
      log,
    });
    const { completeness } = this.#reader;
    this.#served =
      this.#table &&
      new ServedAddresses({
        table: this.#table,
        addresses: () => [...this.#watched.keys()],
        answered: () => [...this.#answered],
        completeness,
        goodUntil: (monotonic) => this.#reader.tapGoodUntil(monotonic),
        clock,
        onRestored: () => this.stats.tableRestarts++,
        log,
      });
    this.#resyncs = new Resyncs({
      libc,
      flows: this.#flows,
      reader: this.#reader,
      watched: this.#watched,
      stats: this.stats,
      maxFlows: this.#options.maxFlows,
      log,
    });
    if (this.#conntrack)
      this.#clients = new Clients({
        libc,
        limit: this.#options.maxFlows,
        reader: this.#reader,
        texts,
        onChange: () => this.#addressesChanged(),
        otherNodes,
        log,
      });
    this.#addressesChanged();
    this.#reader.start();
    this.#scheduleTick();
  }

  async subscribe(
    addresses: readonly string[],
    { answers = false, clients = false, content = false }: Wishes = {},
  ): Promise<Subscription> {
    if (this.#closed) throw new CaptureError('closed', 'capturing has ended');
    const texts = addresses.map(canonical);
    if (clients) await this.#clients?.watch(texts);
    const fresh = new Map<string, Watched>();
    let answersSince: number | undefined;
    const unanswered =
      answers && this.#table && this.#tap ? texts.filter((text) => !this.#answered.has(text)) : [];
    for (const text of unanswered) this.#answered.add(text);
    if (content) for (const text of texts) this.#contents.add(text);
    for (const text of texts) {
      if (this.#watched.has(text)) continue;
      const watched: Watched = { fresh: true, completeSince: {}, ready: Promise.resolve() };
      fresh.set(text, watched);
      this.#watched.set(text, watched);
      this.#addresses.add(text);
      this.#flows.addSource(text);
    }
    if (fresh.size > 0) {
      this.#addressesChanged();
      const ready = this.#prepare(fresh);
      for (const watched of fresh.values()) watched.ready = ready;
    }
    const watching = texts.map((text) => this.#watched.get(text)!);
    try {
      await Promise.all(watching.map((watched) => watched.ready));
      if (unanswered.length > 0) {
        await this.#served?.set();
        answersSince = this.#libc.wallClock();
      }
    } catch (error) {
      this.unsubscribe([...fresh.keys()]);
      throw error;
    }
    const subscription: Subscription = { flows: [], completeSince: {} };
    for (const [i, text] of texts.entries()) {
      const watched = watching[i]!;
      for (const entry of this.#flows.ofSource(text)) subscription.flows.push(...snapshotOf(entry));
      for (const [source, since] of Object.entries(watched.completeSince) as [Source, number][]) {
        subscription.completeSince[source] = Math.max(since, subscription.completeSince[source] ?? 0);
      }
    }
    if (clients && this.#clients)
      subscription.clients = texts.flatMap((text) => this.#clients!.snapshot(text));
    if (answersSince !== undefined) subscription.completeSince.tap = answersSince;
    return subscription;
  }

  async #prepare(fresh: Map<string, Watched>): Promise<void> {
    if (this.#served) {
      await this.#served.set(true);
      const now = this.#libc.wallClock();
      if (this.#tap && !this.#packets) for (const watched of fresh.values()) watched.completeSince.tap = now;
    }
    if (this.#packets) {
      const now = this.#libc.wallClock();
      for (const watched of fresh.values()) watched.completeSince.tap = now;
    }
    if (this.#conntrack) {
      await this.#resyncs.of(fresh);
      const now = this.#libc.wallClock();
      for (const watched of fresh.values()) watched.completeSince.conntrack = now;
    }
    for (const watched of fresh.values()) watched.fresh = false;
  }

  unsubscribe(addresses: readonly string[]): void {
    if (this.#closed) return;
    for (const text of addresses.map(canonical)) {
      this.#watched.delete(text);
      this.#answered.delete(text);
      this.#contents.delete(text);
      this.#addresses.delete(text);
      this.#flows.removeSource(text);
    }
    this.#clients?.unwatch(addresses.map(canonical));
    this.#addressesChanged();
    this.#served?.changed();
  }

  #addressesChanged(): void {
    this.stats.addresses = this.#watched.size;
    this.#packets?.setAddresses([...this.#watched.keys()], this.#libc.wallClock());
    this.#conntrack?.filter(conntrackEventFilter([...this.#watched.keys()], this.#clients?.incoming));
  }

  readPromptly(prompt: boolean): void {
    this.#reader?.readPromptly(prompt);
  }

  gather(ms: number): void {
    const seesIds = this.#tap !== undefined && this.#options.tap === 'request';
    this.#reader?.gather(seesIds ? ms : 0);
  }

  async flush(): Promise<void> {
    await this.#reader.flush();
  }

  async lookup(src: string, sport: number): Promise<KnownFlow[]> {
    const text = canonical(src);
    if (this.#closed) return [];
    const known = this.#flows.ofPort(text, sport);
    if (known.length === 0) return await listPort(this.#libc, text, sport, this.stats);
    return known.map(({ vip, vport, ip, port, t, preexisting, ending }) => {
      return { src: text, sport, vip, vport, ip, port, from: t, preexisting, ended: ending };
    });
  }

  async addressesBeside(): Promise<ListedAddresses> {
    const none = { addresses: [], answered: [] };
    if (this.#closed || !this.#table) return none;
    const other = this.#table.name === TABLE ? SECOND_TABLE : TABLE;
    // Where no other helper is there is no such table.
    return listAddresses(this.#libc, other).catch(() => none);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#ticker);
    this.#served?.close();
    this.#resyncs?.close();
    this.#clients?.close();
    this.#reader?.close();
    await this.#table?.close();
    this.#tap?.close();
    this.#flowTables?.close();
    this.#conntrack?.close();
    this.#requests?.close();
  }

  /** At the moment at which the sidecars of the node look around: a watermark then finds them awake. */
  #scheduleTick(): void {
    this.#ticker = setTimeout(() => {
      this.#scheduleTick();
      this.#tick();
    }, untilLook(this.#libc.wallClock()));
  }

  #tick(): void {
    const now = performance.now();
    if (now - this.#reader.lastRead > TICK_MS * 0.9) this.#reader.read();
    this.#served?.check(now);
    if (this.#conntrack) {
      this.stats.accounting = countsFlows();
      this.#resyncs.tick(now);
      this.#clients?.check(now);
    }
  }
}

function canonical(address: string): string {
  const bytes = addressBytes(address);
  if (bytes === undefined) throw new CaptureError('address', `not an IP address: ${JSON.stringify(address)}`);
  return addressText(bytes, 0, bytes.length as 4 | 16);
}
