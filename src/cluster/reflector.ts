import type { Log } from '../log.ts';
import { ApiError, type ApiServer } from './api.ts';

/** A reflector's clock, timer and randomness; tests step it. */
export interface Pace {
  /** Resolves after `ms`, or early when `signal` aborts. */
  delay(ms: number, signal: AbortSignal): Promise<void>;
  /** [0, 1) */
  random(): number;
  /** ms */
  now(): number;
}

/** The part of every Kubernetes object that a reflector reads. */
export interface ApiObject {
  metadata?: { name?: string; namespace?: string; resourceVersion?: string; [more: string]: unknown };
  [more: string]: unknown;
}

/** Receives the objects; the reflector keeps none. */
export interface Reflection {
  upsert(object: ApiObject): void;
  remove(object: ApiObject): void;
  /** The watch has failed for so long that the objects may be outdated; a complete list follows once it is possible. */
  lost(): void;
  /** All existing objects come between the two calls; others no longer exist. */
  listing(): void;
  listed(): void;
}

export interface ReflectorStats {
  /** Watch events without bookmarks. */
  events: number;
  listings: number;
  failures: number;
  /** Resource versions that the API server no longer had (410 Gone). */
  gone: number;
  /** Time of the API server's last byte, ms since the epoch; 0: none. */
  heardAt: number;
  /** Since when every attempt has failed, ms since the epoch; 0: there is a watch. */
  awaySince: number;
}

export function newStats(): ReflectorStats {
  return { events: 0, listings: 0, failures: 0, gone: 0, heardAt: 0, awaySince: 0 };
}

/** Objects a page. A page of EndpointSlices with 10 endpoints each is about 2 MB of JSON. */
const PAGE = 500;
const FIRST_BACKOFF_MS = 1000;
const API_MAX_BACKOFF_MS = 30_000;
/** Helpers that lose their watch at the same moment spread their new lists over this time. */
const RELIST_SPREAD_MS = 5000;
/** After this long without a list or a watch, names are withdrawn. An address rarely changes hands sooner. */
const LOST_AFTER_MS = 60_000;
/** A watch that lasted longer than this restarts without a back-off. */
const HEALTHY_MS = 10_000;

/** The wait after the `failures`-th failure in a row: doubled each time, half of it random. */
export function backoffMs(failures: number, random: number): number {
  const ceiling = Math.min(API_MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** Math.min(failures - 1, 10));
  return ceiling / 2 + (random * ceiling) / 2;
}

/**
 * Keeps a `Reflection` equal to the API server's objects at `path` until `signal` aborts: lists page by page, then
 * watches from the list's resource version with bookmarks; continues a broken watch where it stopped; lists anew at
 * 410 Gone. Never rejects.
 *
 * Lists request the newest state (no resource version), so a list never returns an older one; servers since 1.31 answer
 * that from their cache.
 */
export async function reflect(
  api: ApiServer,
  path: string,
  into: Reflection,
  pace: Pace,
  log: Log,
  stats: ReflectorStats,
  signal: AbortSignal,
): Promise<void> {
  const what = path.slice(path.lastIndexOf('/') + 1);
  let version: string | undefined;
  let whole = false;
  let failures = 0;
  let complaint = '';

  const answered = (): void => {
    stats.awaySince = 0;
  };
  const heard = (): void => {
    answered();
    stats.heardAt = pace.now();
    failures = 0;
    if (complaint === '') return;
    complaint = '';
    log('info', `the API server answers again for ${what}`);
  };

  const list = async (): Promise<string> => {
    let next = '';
    let latest = '';
    into.listing();
    do {
      const query = next === '' ? '' : `&continue=${encodeURIComponent(next)}`;
      const page = asList(await api.call('GET', `${path}?limit=${PAGE}${query}`, undefined, signal));
      for (const item of page.items) into.upsert(item);
      next = page.next;
      latest = page.version;
    } while (next !== '');
    into.listed();
    whole = true;
    stats.listings++;
    heard();
    return latest;
  };

  const take = (object: unknown): void => {
    const event = object as { type?: string; object?: ApiObject };
    const it = event.object ?? {};
    if (event.type === 'ERROR') {
      const { code, message } = it as { code?: unknown; message?: unknown };
      throw new ApiError(
        typeof code === 'number' ? code : 0,
        `watch ended: ${String(message).slice(0, 300)}`,
      );
    }
    if (event.type === 'ADDED' || event.type === 'MODIFIED') into.upsert(it);
    else if (event.type === 'DELETED') into.remove(it);
    if (event.type !== 'BOOKMARK') stats.events++;
    if (it.metadata?.resourceVersion) version = it.metadata.resourceVersion;
    heard();
  };

  await pace.delay(pace.random() * FIRST_BACKOFF_MS, signal);
  while (!signal.aborted) {
    try {
      version ??= await list();
      const began = pace.now();
      const seconds = 300 + Math.floor(pace.random() * 300);
      const query = `watch=true&allowWatchBookmarks=true&timeoutSeconds=${seconds}&resourceVersion=${encodeURIComponent(version)}`;
      await api.stream(`${path}?${query}`, answered, take, signal);
      if (pace.now() - began >= HEALTHY_MS) failures = 0;
      else await pace.delay(backoffMs(++failures, pace.random()), signal);
    } catch (error) {
      if (signal.aborted) return;
      stats.failures++;
      const gone = error instanceof ApiError && error.status === 410;
      if (gone) stats.gone++;
      // A connected and silent server has been away since its last byte, one that refuses since now.
      const silent = error instanceof ApiError && error.silent;
      stats.awaySince ||= silent && stats.heardAt > 0 ? stats.heardAt : pace.now();
      const lost = pace.now() - stats.awaySince >= LOST_AFTER_MS;
      if (gone || lost) version = undefined;
      if (lost && whole) {
        whole = false;
        into.lost();
        log(
          'warn',
          `${what}: no watch for ${Math.round((pace.now() - stats.awaySince) / 1000)} s; addresses have no names until they are listed anew`,
        );
      }
      if (gone) {
        failures++;
        await pace.delay(Math.max(pace.random() * RELIST_SPREAD_MS, backoffMs(failures, 0)), signal);
        continue;
      }
      const message = explain(error, what);
      if (message !== complaint) log('warn', message);
      complaint = message;
      await pace.delay(backoffMs(++failures, pace.random()), signal);
    }
  }
}

/** One line for people: what is wrong and what to do. */
function explain(error: unknown, what: string): string {
  if (!(error instanceof ApiError))
    return `${what}: ${error instanceof Error ? error.message : error}; retrying`;
  const { status, message } = error;
  if (status === 401) {
    return `the API server does not accept the helper's own credentials (401): ${message}; check its service account or --kubeconfig; names hold for a minute; retrying`;
  }
  if (status === 403) {
    return `the helper may not watch ${what} (403): ${message}; apply k8s/helper/rbac.yaml; retrying`;
  }
  return `${what}: ${message}; names hold for a minute; retrying`;
}

interface Page {
  items: ApiObject[];
  next: string;
  version: string;
}

function asList(value: unknown): Page {
  const list = value as {
    items?: unknown;
    metadata?: { resourceVersion?: string; continue?: string };
  } | null;
  if (!list || !Array.isArray(list.items) || !list.metadata?.resourceVersion) {
    throw new ApiError(0, 'the answer of the API server is not a list');
  }
  return {
    items: list.items as ApiObject[],
    next: list.metadata.continue ?? '',
    version: list.metadata.resourceVersion,
  };
}
