/** tcpdump beside each backend: everything that came to it, also what its kernel refused. */
import { closeSync, openSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { until } from './nginx.ts';
import { endChild, type Scene } from './scene.ts';
import { addSighting, inOrder, type Knock, type Served, type Sighting } from './truth.ts';

/** A capture that has not grown for so long (ms) is complete. */
const STILL_MS = 200;

export interface Witness {
  /** Ends the capture. What it did not see whole, such as a head of several segments, is taken from the pods' own logs. */
  stop(logs: Served): Promise<Served>;
}

export async function startWitness(scene: Scene, dir: string): Promise<Witness> {
  const captures = scene.pods.map((pod) => {
    const file = join(dir, `${pod.name}.pcap`);
    const errors = join(dir, `${pod.name}.tcpdump`);
    const stderr = openSync(errors, 'w');
    const address = `(dst host ${pod.ip} or dst host ${pod.ip6})`;
    const child = scene.spawnIn(
      pod,
      'tcpdump',
      [
        ...['-i', 'eth0', '-p', '-n', '-B', '32768', '-s', '0', '-Z', 'root', '--immediate-mode', '-U'],
        ...['-w', file, `tcp and ${address}`],
      ],
      { stdio: ['ignore', 'ignore', stderr] },
    );
    closeSync(stderr);
    return { file, errors, child };
  });
  for (const { errors } of captures)
    await until('tcpdump', () => readFileSync(errors, 'utf8').includes('listening on'));
  return {
    async stop(logs) {
      const byId = new Map<string, Sighting[]>();
      const knocks: Knock[] = [];
      for (const { file, errors, child } of captures) {
        // What the kernel still has for it when it is told to end, it throws away.
        for (let size = -1; statSync(file).size > size; await delay(STILL_MS)) size = statSync(file).size;
        await endChild(child);
        const said = readFileSync(errors, 'utf8');
        const [captured, received, dropped] = [...said.matchAll(/^(\d+) packets/gm)].map(([, n]) =>
          Number(n),
        );
        if (captured === undefined || captured !== received || dropped !== 0)
          throw new Error(`lab: tcpdump lost packets: ${said}`);
        readCapture(readFileSync(file), byId, knocks);
      }
      for (const [id, sightings] of logs.byId) if (!byId.has(id)) byId.set(id, [...sightings]);
      return { byId: inOrder(byId), knocks };
    },
  };
}

/** Bytes of a pcap file's header and of each packet's (pcap-savefile(5)); of an Ethernet header. */
const FILE_HEADER = 24;
const PACKET_HEADER = 16;
const ETHERNET = 14;
const SYN = 0x02;
const ID_FIELD = /\r\nx-request-id: *([^\r\n]+)\r\n/i;
const REQUEST_LINE = /^[A-Z_-]+ (\S+) HTTP\/1\.\d\r\n/;

/** Adds what a capture of one pod's incoming TCP segments tells. */
export function readCapture(bytes: Buffer, byId: Map<string, Sighting[]>, knocks: Knock[]): void {
  const opened = new Map<string, Knock & { sequence: number }>();
  const segments = new Set<string>();
  for (let at = FILE_HEADER; at + PACKET_HEADER <= bytes.length; ) {
    const time = bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) / 1e6;
    const length = bytes.readUInt32LE(at + 8);
    const ip = at + PACKET_HEADER + ETHERNET;
    const end = at + PACKET_HEADER + length;
    at = end;
    const six = bytes[ip]! >> 4 === 6;
    const tcp = six ? ip + 40 : ip + (bytes[ip]! & 15) * 4;
    const total = six ? 40 + bytes.readUInt16BE(ip + 4) : bytes.readUInt16BE(ip + 2);
    const payload = tcp + (bytes[tcp + 12]! >> 4) * 4;
    const payloadEnd = Math.min(end, ip + total);
    const dst = six
      ? `[${v6Text(bytes.subarray(ip + 24, ip + 40))}]`
      : bytes.subarray(ip + 16, ip + 20).join('.');
    const pod = `${dst}:${bytes.readUInt16BE(tcp + 2)}`;
    const peer = `${bytes.subarray(ip + (six ? 8 : 12), ip + (six ? 24 : 16)).join('.')} ${bytes.readUInt16BE(tcp)} ${pod}`;
    if ((bytes[tcp + 13]! & SYN) !== 0) {
      const before = opened.get(peer);
      const sequence = bytes.readUInt32BE(tcp + 4);
      if (before && before.sequence !== sequence) knocks.push(before);
      // The same sequence number again is another try of the same connection.
      if (before?.sequence !== sequence) opened.set(peer, { pod, at: time, sequence });
    }
    if (payload >= payloadEnd) continue;
    opened.delete(peer);
    const segment = `${peer} ${bytes.readUInt32BE(tcp + 4)}`;
    if (segments.has(segment)) continue;
    const text = bytes.toString('latin1', payload, payloadEnd);
    const uri = REQUEST_LINE.exec(text)?.[1];
    const id = ID_FIELD.exec(text)?.[1];
    if (uri === undefined || id === undefined) continue;
    segments.add(segment);
    addSighting(byId, id, { pod, uri, at: time });
  }
  knocks.push(...opened.values());
}

/** RFC 5952, for the lab's own addresses: one run of zeros, in the middle. */
function v6Text(bytes: Buffer): string {
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(i * 2).toString(16));
  return groups.join(':').replace(/(?::0)+(?=:)/, ':');
}
