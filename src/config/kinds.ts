import { canonicalIp } from '../parse/address.ts';
import { type Option, UsageError } from './option.ts';
import { parseBytes, parseDuration, parseListen } from './values.ts';

/** One kind of value. `parse` returns undefined for an invalid text; `what` describes a valid one. */
interface Kind<T> {
  /** The option is needed, or has this default. */
  or(fallback: string, meaning: string, value?: string): Option<T>;
  /** Undefined where it is not given. */
  unset(meaning: string, value?: string): Option<T | undefined>;
  needed(meaning: string, value?: string): Option<T>;
  /** Repeatable. In the environment values are separated by commas. */
  list(fallback: string | undefined, meaning: string, value?: string): Option<T[]>;
}

function kind<T>(
  hint: string,
  what: string,
  parse: (text: string, env: NodeJS.ProcessEnv) => T | undefined,
): Kind<T> {
  const one = (text: string, env: NodeJS.ProcessEnv): T => {
    const value = parse(text, env);
    if (value === undefined) throw new UsageError(`${text === '' ? 'nothing given' : text} is not ${what}`);
    return value;
  };
  const base = { flag: false, repeatable: false, fallback: undefined };
  const last = (texts: readonly string[]): string | undefined => texts.at(-1);
  return {
    or: (fallback, meaning, value = hint) => ({
      ...base,
      value,
      fallback,
      meaning,
      read: (texts, env) => one(last(texts) ?? fallback, env),
    }),
    unset: (meaning, value = hint) => ({
      ...base,
      value,
      meaning,
      read(texts, env) {
        const text = last(texts);
        return text === undefined ? undefined : one(text, env);
      },
    }),
    needed: (meaning, value = hint) => ({
      ...base,
      value,
      meaning,
      read(texts, env) {
        const text = last(texts);
        if (text === undefined) throw new UsageError('is needed');
        return one(text, env);
      },
    }),
    list: (fallback, meaning, value = hint) => ({
      ...base,
      value,
      fallback,
      meaning,
      repeatable: true,
      read: (texts, env) => texts.map((text) => one(text, env)),
    }),
  };
}

export function flag(meaning: string): Option<boolean> {
  return {
    value: '',
    fallback: undefined,
    flag: true,
    repeatable: false,
    meaning,
    read(texts) {
      const text = texts.at(-1);
      if (text === undefined || /^(0|false|no|off)$/i.test(text)) return false;
      if (/^(1|true|yes|on)$/i.test(text)) return true;
      throw new UsageError(`${text} is neither true nor false`);
    },
  };
}

export function oneOf<const T extends string>(...names: T[]): Kind<T> {
  return kind(names.join('|'), `one of ${names.join(', ')}`, (text) => names.find((name) => name === text));
}

const SOURCES = ['conntrack', 'tap', 'kernel-log', 'trace'] as const;

/** The trace names no line without conntrack: a port alone tells of no pod. */
export const sources = kind(
  'LIST',
  `a comma-separated list of ${SOURCES.join(', ')}; trace needs conntrack beside it`,
  (text) => {
    const given = text.split(',').map((item) => SOURCES.find((name) => name === item.trim()));
    if (given.includes('trace') && !given.includes('conntrack')) return undefined;
    return given.every((item) => item !== undefined) ? given : undefined;
  },
);

export const text = kind('TEXT', 'a value', (given) => (given === '' ? undefined : given));
/** Milliseconds. */
export const duration = kind('DURATION', 'a duration such as 500ms, 2s or 1m', parseDuration);
export const bytes = kind('BYTES', 'a whole number of at least 1, such as 1024 or 16Mi', parseBytes);
export const count = kind('N', 'a whole number of at least 1', (given) =>
  /^[1-9]\d{0,8}$/.test(given) ? Number(given) : undefined,
);
/** From 0 to 65535. */
export const short = kind('N', 'a number from 0 to 65535', (given) =>
  /^\d{1,5}$/.test(given) && Number(given) <= 65_535 ? Number(given) : undefined,
);
export const listening = kind(
  'ADDR:PORT',
  'an address and port such as :9797, 127.0.0.1:9797 or [::1]:9797',
  parseListen,
);
export const header = kind('NAME', 'the name of a header', (given) =>
  /^[A-Za-z0-9-]{1,64}$/.test(given) ? given : undefined,
);
/** In lower case. */
export const host = kind('NAME', "a host's name without a port, such as pods.example.com", (given) =>
  /^[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63}){0,20}$/.test(given) ? given.toLowerCase() : undefined,
);
/** Without its `$`. */
export const variable = kind('NAME', 'the name of an nginx variable', (given) =>
  /^\$?[a-zA-Z0-9_]{1,64}$/.test(given) ? given.replace(/^\$/, '') : undefined,
);
/** In its canonical form. */
export const address = kind('IP', 'an IP address', canonicalIp);

const web = (given: string): URL | undefined => {
  const url = URL.canParse(given) ? new URL(given) : undefined;
  return url && /^https?:$/.test(url.protocol) ? url : undefined;
};

export const url = (example: string) => kind('URL', `an http or https URL such as ${example}`, web);

/** `$HOST_IP` stands for the variable of that name, which the manifests set to the node's address. */
export const helperAt = kind(
  'URL|embedded',
  'an http or https URL such as http://10.0.0.5:9797, or embedded',
  (given, env): URL | 'embedded' | undefined => {
    if (given === 'embedded') return given;
    const host = env.HOST_IP;
    if (given.includes('$HOST_IP') && !host) {
      throw new UsageError(
        'HOST_IP is not set; give it from status.hostIP, or --helper URL, or --helper embedded',
      );
    }
    return web(given.replace('$HOST_IP', host?.includes(':') ? `[${host}]` : (host ?? '')));
  },
);
