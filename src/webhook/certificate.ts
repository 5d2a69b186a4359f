/** Makes X.509 certificates (RFC 5280) with P-256 keys, which node:crypto can only read. */
import {
  createHash,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
} from 'node:crypto';
import { bits, boolean, element, integer, octets, oid, sequence, set, text, time } from './der.ts';

export interface Pair {
  /** PEM. */
  certificate: string;
  /** PEM, PKCS #8. */
  key: string;
}

export interface Issued extends Pair {
  name: string;
}

const ECDSA_SHA256 = sequence(oid('1.2.840.10045.4.3.2'));
const COMMON_NAME = oid('2.5.4.3');
const SUBJECT_KEY = oid('2.5.29.14');
const KEY_USAGE = oid('2.5.29.15');
const ALTERNATIVE_NAMES = oid('2.5.29.17');
const BASIC_CONSTRAINTS = oid('2.5.29.19');
const AUTHORITY_KEY = oid('2.5.29.35');
const EXTENDED_USAGE = oid('2.5.29.37');
const SERVER_AUTH = oid('1.3.6.1.5.5.7.3.1');
/** Clocks of nodes differ: certificates are valid from this long before they were made (ms). */
const BACKDATED_MS = 3_600_000;

/** A self-signed authority. `name` distinguishes it from its successor. */
export function makeAuthority(name: string, now: number, lifeMs: number): Issued {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const certificate = makeCertificate({
    subject: name,
    issuer: name,
    publicKey,
    issuerKey: privateKey,
    now,
    lifeMs,
    extensions: [
      extension(BASIC_CONSTRAINTS, sequence(boolean(true)), true),
      // keyCertSign and cRLSign: bits 5 and 6.
      extension(KEY_USAGE, bits(Buffer.from([0b0000_0110]), 1), true),
    ],
  });
  return { name, certificate, key: pem(privateKey) };
}

/** A server's certificate for `names`, signed by `authority`. */
export function makeServer(names: readonly string[], authority: Issued, now: number, lifeMs: number): Pair {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const dnsNames = names.map((name) => element(0x82, Buffer.from(name, 'ascii')));
  const certificate = makeCertificate({
    subject: names[0] ?? '',
    issuer: authority.name,
    publicKey,
    issuerKey: authority.key,
    now,
    lifeMs,
    extensions: [
      extension(BASIC_CONSTRAINTS, sequence(), true),
      // digitalSignature: bit 0.
      extension(KEY_USAGE, bits(Buffer.from([0b1000_0000]), 7), true),
      extension(EXTENDED_USAGE, sequence(SERVER_AUTH)),
      extension(ALTERNATIVE_NAMES, sequence(...dnsNames)),
    ],
  });
  return { certificate, key: pem(privateKey) };
}

interface Parts {
  subject: string;
  issuer: string;
  publicKey: KeyObject;
  issuerKey: KeyObject | string;
  now: number;
  lifeMs: number;
  extensions: readonly Buffer[];
}

function makeCertificate(parts: Parts): string {
  const { subject, issuer, publicKey, issuerKey, now, lifeMs } = parts;
  const issuerPublic = typeof issuerKey === 'string' ? createPublicKey(issuerKey) : publicKey;
  const body = sequence(
    element(0xa0, integer(Buffer.from([2]))),
    integer(randomBytes(16)),
    ECDSA_SHA256,
    nameOf(issuer),
    sequence(time(now - BACKDATED_MS), time(now + lifeMs)),
    nameOf(subject),
    publicKey.export({ type: 'spki', format: 'der' }),
    element(
      0xa3,
      sequence(
        ...parts.extensions,
        extension(SUBJECT_KEY, octets(identifier(publicKey))),
        extension(AUTHORITY_KEY, sequence(element(0x80, identifier(issuerPublic)))),
      ),
    ),
  );
  const signature = sign('sha256', body, issuerKey);
  const base64 = sequence(body, ECDSA_SHA256, bits(signature)).toString('base64');
  const lines = base64.match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

const nameOf = (common: string): Buffer => sequence(set(sequence(COMMON_NAME, text(common))));

function extension(id: Buffer, value: Buffer, critical = false): Buffer {
  return sequence(id, ...(critical ? [boolean(true)] : []), octets(value));
}

/** Any hash of the key, the same in both certificates (RFC 5280, 4.2.1.2). */
function identifier(key: KeyObject): Buffer {
  return createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest()
    .subarray(0, 20);
}

const pem = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }).toString();
