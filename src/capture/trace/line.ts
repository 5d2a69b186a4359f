/** Reads what the loader says of a line that nginx wrote (bpf/loader.c). Pure. */
import type { LineRecord, TracedAttempt } from '../../model/feed.ts';

/** inet_ntop(3) writes addresses in their canonical form. */
const ADDRESS = /^[0-9a-f:.]{2,45}$/;
const INODE = /^\d{1,20}$/;
const FIELDS = 9;
const FIELDS_OF_ATTEMPT = 5;

/** Undefined where it is not one. */
export function parseTracedLine(text: string): Omit<LineRecord, 'seq'> | undefined {
  const fields = text.split(' ');
  const count = fields.length;
  if (count < FIELDS || fields[0] !== 'line' || (count - FIELDS) % FIELDS_OF_ATTEMPT !== 0) return undefined;
  const ino = fields[2]!;
  const src = fields[8]!;
  const attempts: TracedAttempt[] = [];
  let sum = 0;
  const number = (i: number): number => {
    const value = Number(fields[i] || 'x');
    sum += value;
    return value;
  };
  for (let i = FIELDS; i < count; i += FIELDS_OF_ATTEMPT) {
    const vip = fields[i + 2]!;
    if (!ADDRESS.test(vip)) return undefined;
    attempts.push([number(i), number(i + 1), vip, number(i + 3), number(i + 4)]);
  }
  const record: Omit<LineRecord, 'seq'> = {
    kind: 'line',
    t: number(1),
    src,
    via: 'trace',
    ino,
    offset: number(3),
    length: number(4),
    check: number(5),
    states: number(6),
  };
  const unclear = number(7);
  // NaN, if one of them is none.
  if (!Number.isFinite(sum) || !ADDRESS.test(src) || !INODE.test(ino)) return undefined;
  return unclear === 0 ? { ...record, attempts } : record;
}
