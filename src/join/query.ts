import type { Attempt, ParsedLine } from '../model/line.ts';
import type { Outcome } from '../model/outcome.ts';
import type { Service, TappedRequest } from './index/connection.ts';
import type { DirectConnections } from './index/direct-connections.ts';
import type { FlowIndex } from './index/flow-index.ts';
import type { TracedLine } from './traced-line.ts';
import { attemptWindows, type Sent, type Window, wasCarried, wasSent } from './window.ts';

const NONE: readonly Query[] = [];

/** The question to a rule: which pod served this attempt? */
export interface Query {
  readonly line: ParsedLine;
  /** When the line was read, ms since the epoch; Infinity for a finished log. */
  readonly readAt: number;
  readonly attempt: Attempt;
  readonly window: Window;
  /** Undefined where no record names the address that nginx dialed. */
  readonly service: Service | undefined;
  /** The connections to pods' own addresses that may have carried it, too. */
  readonly direct: DirectConnections | undefined;
  /** Whether the request was on the wire: by its answer (`wasSent`), and by its answer or its bytes (`wasCarried`). */
  readonly sent: Sent;
  readonly carried: Sent;
  /** The attempts of the line on the same address, and the place of this one among them. */
  readonly group: Group;
  readonly place: number;
  /** What nginx's own memory says of the line; undefined where that is not read. */
  readonly traced?: TracedLine | undefined;
}

/** Attempts of one line on one address. nginx makes them one after another, so their requests are on the wire in this order. */
export interface Group {
  queries: readonly Query[];
  /** Set once for all of them by `rules/request-id.ts`: null where the id was not seen, undefined before. */
  requests: GroupRequests | null | undefined;
}

/** The requests with the line's id that may belong to a group. */
export interface GroupRequests {
  /** In the order of the wire. */
  readonly seen: readonly TappedRequest[];
  /** No request of the group's windows was missed. */
  readonly complete: boolean;
  /** An attempt's own request may have the id of its client instead. */
  readonly mayHaveIdOfClient: boolean;
  /** For each attempt the requests that may be its, in step with the group. Undefined for one attempt: all of them. */
  readonly possible: readonly (readonly TappedRequest[])[] | undefined;
}

/** The result of a rule. A rule that does not apply to an attempt returns undefined instead. */
export interface Verdict {
  readonly outcome: Outcome;
  /** No later rule may name a pod: the record contradicts every pod, or the address is the pod's. */
  readonly final?: boolean;
  /** The one request that belongs to the attempt. */
  readonly matched?: TappedRequest | undefined;
  /**
   * Whether the line has a counterpart in a complete record (`Trust`). False: nothing in the record can have served it.
   * Undefined: not decided by this rule.
   */
  readonly hasCounterpart?: boolean | undefined;
  /** The requests of connections that opened just now may be in the next batch: match again at the next watermark. */
  readonly retryAtNextWatermark?: boolean;
}

/** One kind of evidence. match.ts has the precedence and the assumptions of all rules. */
export type Rule = (query: Query, index: FlowIndex) => Verdict | undefined;

/** One query for each attempt of the line; undefined where the attempt has no address. */
export function queriesOf(
  line: ParsedLine,
  readAt: number,
  index: FlowIndex,
  traced?: TracedLine,
): (Query | undefined)[] {
  const { attempts } = line;
  const windows = attemptWindows(line, readAt, index.lineClock, index.feedClock.behindMs);
  const queries = new Array<Query | undefined>(attempts.length);
  let groups: Map<string, Group> | undefined;
  for (let k = 0; k < attempts.length; k++) {
    const attempt = attempts[k]!;
    if (attempt.kind !== 'ip') continue;
    let group: Group | undefined;
    if (attempts.length > 1) {
      groups ??= new Map();
      const address = `${attempt.ip} ${attempt.port}`;
      group = groups.get(address);
      if (!group) {
        group = { queries: NONE, requests: undefined };
        groups.set(address, group);
      }
    } else group = { queries: NONE, requests: undefined };
    // First, as the Service of a direct connection may be in no record.
    const direct = index.directTo(attempt.ip, attempt.port);
    const query: Query = {
      line,
      readAt,
      attempt,
      window: windows[k]!,
      service: index.service(attempt.ip, attempt.port),
      direct,
      sent: wasSent(line, k),
      carried: wasCarried(line, k),
      group,
      place: group.queries.length,
      traced,
    };
    // Made at its size: a growing array reserves room for many elements.
    group.queries = group.queries.length === 0 ? [query] : [...group.queries, query];
    queries[k] = query;
  }
  return queries;
}
