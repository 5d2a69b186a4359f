import { createPrivateKey, randomBytes, X509Certificate } from 'node:crypto';
import { type Issued, makeAuthority, makeServer, type Pair } from './certificate.ts';

const DAY_MS = 86_400_000;
const AUTHORITY_LIFE_MS = 730 * DAY_MS;
const SERVER_LIFE_MS = 90 * DAY_MS;
/** A certificate is renewed when less than this is left (ms). */
const AUTHORITY_LEFT_MS = 180 * DAY_MS;
const SERVER_LEFT_MS = 30 * DAY_MS;

/** The contents of the Secret that all replicas share, in PEM. */
export interface Credentials {
  authority: Pair;
  /** The previous authority, whose certificate a replica may still serve; '' at first. */
  previous: string;
  server: Pair;
}

/** The authorities of all certificates that a replica may serve. */
export function bundleOf({ authority, previous }: Credentials): string {
  return authority.certificate + previous;
}

/** The same object while all parts are valid for long enough; else new parts. The first of `names` is the subject. */
export function renewed(given: Credentials | undefined, names: readonly string[], now: number): Credentials {
  const root = given && authorityOf(given.authority, now);
  const previous = given && valid(given.authority.certificate, now, 0) ? given.authority.certificate : '';
  if (!given || !root) {
    const name = `realpod webhook ${randomBytes(4).toString('hex')}`;
    const authority = makeAuthority(name, now, AUTHORITY_LIFE_MS);
    const pair = { certificate: authority.certificate, key: authority.key };
    return { authority: pair, previous, server: makeServer(names, authority, now, SERVER_LIFE_MS) };
  }
  if (serves(given, names, now)) return given;
  return { ...given, server: makeServer(names, root, now, SERVER_LIFE_MS) };
}

function authorityOf(pair: Pair, now: number): Issued | undefined {
  const certificate = valid(pair.certificate, now, AUTHORITY_LEFT_MS);
  const name = certificate?.subject.replace(/^CN=/, '');
  return certificate && name && matches(certificate, pair.key) ? { ...pair, name } : undefined;
}

function serves({ authority, server }: Credentials, names: readonly string[], now: number): boolean {
  const certificate = valid(server.certificate, now, SERVER_LEFT_MS);
  if (!certificate || !matches(certificate, server.key)) return false;
  const root = new X509Certificate(authority.certificate);
  return names.every((name) => certificate.checkHost(name)) && certificate.verify(root.publicKey);
}

function valid(pem: string, now: number, leftMs: number): X509Certificate | undefined {
  try {
    const certificate = new X509Certificate(pem);
    const inTime = Date.parse(certificate.validFrom) <= now && Date.parse(certificate.validTo) - now > leftMs;
    return inTime ? certificate : undefined;
  } catch {
    return undefined;
  }
}

function matches(certificate: X509Certificate, key: string): boolean {
  try {
    return certificate.checkPrivateKey(createPrivateKey(key));
  } catch {
    return false;
  }
}
