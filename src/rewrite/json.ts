import { isUtf8 } from 'node:buffer';
import { type Client, isKnown } from '../model/client.ts';
import type { Attempt, ParsedLine } from '../model/line.ts';
import { isResolved, type Outcome, type PodName } from '../model/outcome.ts';
import { unescapeValue } from '../parse/log-escape.ts';
import type { LogFormat } from '../parse/log-format.ts';
import { type Attribute, attributeOf, KNOWN_METHODS, SPLIT_ATTRIBUTES } from './attributes.ts';
import type { Edits } from './edits.ts';
import type { LineEditor, LogLine } from './style.ts';

/** The members of an object that a value becomes: `,"name":…` for each. */
type Write = (value: string) => string;

/**
 * One JSON object a line, with every logged value (attributes.ts) and the outcomes of the attempts. nginx's escapes are
 * undone. JSON is text, so a byte outside UTF-8 is written as `\xHH`, as nginx does.
 *
 * A value that is empty or `-` is left out. Of two variables with the same attribute the second is written under `nginx.`
 * and its name.
 */
export class JsonStyle implements LineEditor {
  readonly #format: LogFormat;
  readonly #writes: readonly Write[];
  /** Where `$remote_addr` and `$remote_port` stand among the variables first; -1: not logged. */
  readonly #address: number;
  readonly #port: number;
  /** `$realip_remote_addr` is logged: the address that nginx saw has its attribute. */
  readonly #showsPeer: boolean;
  #second = Number.NaN;
  #secondText = '';

  constructor(format: LogFormat) {
    this.#format = format;
    const taken = new Set<string>();
    this.#writes = format.variables.map((variable) => writeOf(variable, taken));
    this.#address = format.variables.indexOf('remote_addr');
    this.#port = format.variables.indexOf('remote_port');
    this.#showsPeer = taken.has('network.peer.address');
  }

  edit(
    edits: Edits,
    line: LogLine,
    outcomes: readonly Outcome[] | undefined,
    block: Buffer,
    client: Client | undefined,
  ): void {
    const text = `{${this.#members(block, line, outcomes, client).slice(1)}}`;
    // Edits take one character a byte.
    edits.add(line.start, line.end, ASCII.test(text) ? text : Buffer.from(text).toString('latin1'));
  }

  /** `,"name":value` for each attribute of the line. */
  #members(
    block: Buffer,
    line: LogLine,
    outcomes: readonly Outcome[] | undefined,
    client: Client | undefined,
  ): string {
    const { start, end, parsed } = line;
    const spans = typeof parsed === 'string' ? undefined : this.#format.split(block, start, end);
    if (typeof parsed === 'string' || !spans) {
      const body = textOf(block.toString('latin1', start, end));
      return member('body', body) + member('realpod.unparsed', String(parsed));
    }
    let members = parsed.endMs === undefined ? '' : member('timestamp', this.#timestamp(parsed.endMs));
    let uncertain = false;
    for (let k = 0; k < this.#writes.length; k++) {
      const from = spans[2 * k]!;
      const to = spans[2 * k + 1]!;
      if (from < 0) uncertain = true;
      else if (to > from && !(to === from + 1 && block[from] === 0x2d)) {
        const value = unescapeValue(block.toString('latin1', from, to), this.#format.escaping);
        if (client === undefined || (k !== this.#address && k !== this.#port))
          members += this.#writes[k]!(textOf(value));
        else if (k === this.#address) members += clientMembers(client, this.#showsPeer);
        else if (!this.#showsPeer) members += `,"network.peer.port":${Number(value)}`;
      }
    }
    if (uncertain) {
      members += member('log.record.original', textOf(block.toString('latin1', start, end)));
    }
    return members + this.#attempts(block, parsed, outcomes ?? []);
  }

  /** RFC 3339, UTC. The text of the last second is cached, as many lines share it. */
  #timestamp(ms: number): string {
    const second = Math.floor(ms / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#secondText = new Date(second * 1000).toISOString().slice(0, -4);
    }
    return `${this.#secondText}${String(ms - second * 1000).padStart(3, '0')}Z`;
  }

  #attempts(block: Buffer, { attempts }: ParsedLine, outcomes: readonly Outcome[]): string {
    let destination = '';
    let list = '';
    for (let k = 0; k < attempts.length; k++) {
      const attempt = attempts[k]!;
      const outcome = outcomes[k];
      list += `${k === 0 ? '' : ','}{"upstream":${quoted(block.toString('latin1', attempt.start, attempt.end))}`;
      const peer = outcome && peerOf(attempt, outcome);
      if (peer) {
        if (isResolved(outcome)) list += `${member('ip', peer.ip)},"port":${peer.port}`;
        list += named(ATTEMPT_NAMES, outcome.name);
        if (k === attempts.length - 1) {
          destination =
            `${member('destination.address', peer.ip)},"destination.port":${peer.port}` +
            named(DESTINATION_NAMES, outcome.name);
        }
      }
      if (typeof attempt.status === 'number') list += `,"status":${attempt.status}`;
      if (typeof attempt.responseMs === 'number') list += `,"seconds":${attempt.responseMs / 1000}`;
      if (outcome) {
        list += isResolved(outcome) ? member('evidence', outcome.evidence) : member('reason', outcome.reason);
      }
      list += '}';
    }
    return `${destination},"realpod.attempts":[${list}]`;
  }
}

/** The address that answered: the outcome's, or that of a pod that nginx dialed directly. */
function peerOf(attempt: Attempt, outcome: Outcome): { ip: string; port: number } | undefined {
  if (isResolved(outcome)) return outcome;
  return outcome.reason === 'direct' ? attempt : undefined;
}

/** In the place of what `$remote_addr` and `$remote_port` say. */
function clientMembers(client: Client, showsPeer: boolean): string {
  const peer = showsPeer ? '' : member('network.peer.address', client.peer);
  if (!isKnown(client)) return `${peer}${member('realpod.client.reason', client.reason)}`;
  const port = client.port === undefined ? '' : `,"client.port":${client.port}`;
  return `${member('client.address', client.address)}${port}${peer}`;
}

type NameFields = Readonly<Record<'pod' | 'namespace' | 'node' | 'service', string>>;
const ATTEMPT_NAMES: NameFields = { pod: 'pod', namespace: 'namespace', node: 'node', service: 'service' };
const DESTINATION_NAMES: NameFields = {
  pod: 'destination.k8s.pod.name',
  namespace: 'destination.k8s.namespace.name',
  node: 'destination.k8s.node.name',
  service: 'service.peer.name',
};

function named(fields: NameFields, name: PodName | undefined): string {
  if (!name) return '';
  let members = '';
  for (const key of ['pod', 'namespace', 'node', 'service'] as const) {
    if (name[key] !== '') members += member(fields[key], name[key]);
  }
  return members;
}

/** The writer of a variable's value. Adds its attributes to `taken`, those of the variables before it. */
function writeOf(variable: string, taken: Set<string>): Write {
  const split = Object.hasOwn(SPLIT_ATTRIBUTES, variable) ? SPLIT_ATTRIBUTES[variable] : undefined;
  const names = split ?? [attributeOf(variable).name];
  if (names.some((name) => taken.has(name))) {
    const own = `nginx.${variable}`;
    if (taken.has(own)) return () => '';
    taken.add(own);
    return (value) => member(own, value);
  }
  for (const name of [...names, `nginx.${variable}`]) taken.add(name);
  switch (split ? variable : '') {
    case 'request':
      return writeRequest;
    case 'request_method':
      return writeMethod;
    case 'request_uri':
      return writeTarget;
    case 'server_protocol':
      return writeProtocol;
    case 'ssl_protocol':
      return writeTls;
    default:
      return writeAttribute(attributeOf(variable));
  }
}

function writeAttribute({ name, type }: Attribute): Write {
  if (type === 'strings') return (value) => `,"${name}":[${quoted(value)}]`;
  if (type === 'string') return (value) => member(name, value);
  return (value) => (NUMBER.test(value) ? `,"${name}":${value}` : member(name, value));
}

/** Text that is also a JSON number: without leading zeros, so not the status 000. */
const NUMBER = /^(0|[1-9]\d{0,14})(\.\d{1,9})?$/;

function member(name: string, value: string): string {
  return `,"${name}":${quoted(value)}`;
}

/** JSON text of a string. */
function quoted(value: string): string {
  return PLAIN.test(value) ? `"${value}"` : JSON.stringify(value);
}

/** Characters that JSON does not escape: printable ASCII but for `"` and `\`. */
const PLAIN = /^[ !#-[\]-~]*$/;

/** `METHOD target HTTP/x.y`; other text, such as that of a broken request, stays whole. */
function writeRequest(value: string): string {
  const space = value.indexOf(' ');
  const last = value.lastIndexOf(' ');
  if (space <= 0 || last === space || !value.startsWith('HTTP/', last + 1)) {
    return member('nginx.request', value);
  }
  return (
    writeMethod(value.slice(0, space)) +
    writeTarget(value.slice(space + 1, last)) +
    writeProtocol(value.slice(last + 1))
  );
}

function writeMethod(value: string): string {
  if (KNOWN_METHODS.has(value)) return member('http.request.method', value);
  return member('http.request.method', '_OTHER') + member('http.request.method_original', value);
}

function writeTarget(value: string): string {
  if (!value.startsWith('/')) return member('url.original', value);
  const question = value.indexOf('?');
  if (question < 0) return member('url.path', value);
  return member('url.path', value.slice(0, question)) + member('url.query', value.slice(question + 1));
}

function writeProtocol(value: string): string {
  const slash = value.indexOf('/');
  if (slash < 0) return member('network.protocol.name', value.toLowerCase());
  const version = value.slice(slash + 1);
  return (
    member('network.protocol.name', value.slice(0, slash).toLowerCase()) +
    member('network.protocol.version', version === '2.0' || version === '3.0' ? version[0]! : version)
  );
}

/** `TLSv1.3` or `SSLv3` */
function writeTls(value: string): string {
  const match = /^(TLS|SSL)v([\d.]{1,5})$/.exec(value);
  if (!match) return member('tls.protocol.name', value);
  return member('tls.protocol.name', match[1]!.toLowerCase()) + member('tls.protocol.version', match[2]!);
}

const ASCII = /^[\0-\x7f]*$/;

/** Bytes, one a character, as text: UTF-8 decoded, and `\xHH` for each byte that is none. */
function textOf(latin1: string): string {
  if (ASCII.test(latin1)) return latin1;
  const bytes = Buffer.from(latin1, 'latin1');
  if (isUtf8(bytes)) return bytes.toString('utf8');
  let text = '';
  let at = 0;
  while (at < bytes.length) {
    const length = characterLength(bytes, at);
    if (length > 0) text += bytes.toString('utf8', at, at + length);
    else text += `\\x${bytes[at]!.toString(16).toUpperCase().padStart(2, '0')}`;
    at += Math.max(1, length);
  }
  return text;
}

/** Length of the UTF-8 character at `at`, or 0 if there is none. */
function characterLength(bytes: Buffer, at: number): number {
  const first = bytes[at]!;
  const length =
    first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  return at + length <= bytes.length && isUtf8(bytes.subarray(at, at + length)) ? length : 0;
}
