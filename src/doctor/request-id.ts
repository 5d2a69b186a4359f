/** Compares the id in the log with the one that nginx sends to the backend, and finds the origin of its value. */
import { onlyVariable, variablesOf } from './access-log.ts';
import type { Directive } from './parse-conf.ts';
import { type Chain, type Inherited, inherited, own, type Scope } from './scope.ts';

export interface IdNames {
  /** Log variable, without the `$`. */
  field: string;
  /** Header that the tap reads. */
  header: string;
}

export interface IdHeader {
  /** The level whose `proxy_set_header` or `grpc_set_header` lines apply here. */
  from: Inherited;
  /** Its lines for the id header; empty: nginx passes on the client's header, if any. */
  lines: readonly Directive[];
  /** Those of `lines` that send another value than the logged field. */
  wrong: readonly Directive[];
}

/**
 * The origin of the id's value. `nginx`: unique. `client-or-nginx`: the client's id if it sent one. `client`: only the
 * client's, often empty. `other`: a module or script.
 */
export type Origin = 'nginx' | 'client-or-nginx' | 'client' | 'other';

function isClientVariable(name: string): boolean {
  return /^(http|arg|cookie)_/.test(name);
}

/** Texts that any `map` and `set` can give a variable. */
function valuesOf(http: Scope, chain: Chain, name: string): string[] {
  const maps = own(http, 'map')
    .filter((m) => m.args[1]?.text === `$${name}`)
    .flatMap((m) => m.children ?? [])
    .map((entry) => entry.args[0]?.text ?? '');
  const sets = chain
    .flatMap((scope) => [...own(scope, 'set'), ...own(scope, 'if').flatMap((c) => c.children ?? [])])
    .filter((d) => d.name === 'set' && d.args[0]?.text === `$${name}`)
    .map((d) => d.args[1]?.text ?? '');
  return [...maps, ...sets];
}

/** The variable, or the one that it only copies (`set $rid $request_id`). */
function withoutAlias(chain: Chain, name: string): string {
  const values = valuesOf(chain[0]!, chain, name);
  const single = values.length === 1 ? onlyVariable(values[0]!) : undefined;
  return single ?? name;
}

export function originOf(chain: Chain, field: string): Origin {
  if (field === 'request_id') return 'nginx';
  if (isClientVariable(field)) return 'client';
  const values = valuesOf(chain[0]!, chain, field);
  const names = values.flatMap((v) => [...variablesOf(v)]);
  const byNginx = names.includes('request_id');
  const byClient = names.some(isClientVariable);
  if (byNginx) return byClient ? 'client-or-nginx' : 'nginx';
  return byClient ? 'client' : 'other';
}

/** The directive that sets the headers of requests from this location. */
export function setHeader(chain: Chain): 'proxy_set_header' | 'grpc_set_header' {
  return own(chain.at(-1)!, 'grpc_pass').length > 0 ? 'grpc_set_header' : 'proxy_set_header';
}

export function idHeader(chain: Chain, names: IdNames): IdHeader {
  const from = inherited(chain, setHeader(chain));
  const header = names.header.toLowerCase();
  const lines = from.directives.filter((d) => d.args[0]?.text.toLowerCase() === header);
  const field = withoutAlias(chain, names.field);
  const wrong = lines.filter((d) => {
    const sent = onlyVariable(d.args[1]?.text ?? '');
    return sent === undefined || withoutAlias(chain, sent) !== field;
  });
  return { from, lines, wrong };
}

/** Value of one header that nginx sends; undefined if no line sets it. */
export function headerValue(chain: Chain, header: string): string | undefined {
  const wanted = header.toLowerCase();
  return inherited(chain, setHeader(chain)).directives.find((d) => d.args[0]?.text.toLowerCase() === wanted)
    ?.args[1]?.text;
}

/** A variable, other than `$request_id`, that a `map` or `set` defines and that is sent in the id header here. */
export function sentVariable(chain: Chain, header: string): string | undefined {
  const sent = onlyVariable(headerValue(chain, header) ?? '');
  return sent !== undefined && valuesOf(chain[0]!, chain, sent).length > 0 ? sent : undefined;
}

const LONG_VALUES =
  /\$\{?(http_(cookie|authorization|x_forwarded_client_cert)|ssl_client_(raw_|escaped_)?cert|request_body|args|query_string|request_uri)\b/;

/** Lines before the id header that can be long enough to push it out of the bytes that the tap copies. */
export function longLinesBefore(header: IdHeader): Directive | undefined {
  const first = header.lines[0];
  if (!first) return undefined;
  const before = header.from.directives.slice(0, header.from.directives.indexOf(first));
  return before.find((d) => LONG_VALUES.test(d.args[1]?.text ?? ''));
}
