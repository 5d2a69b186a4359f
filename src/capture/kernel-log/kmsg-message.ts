/**
 * A record of /dev/kmsg (Documentation/ABI/testing/dev-kmsg): `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,…];TEXT\n`, then
 * ` KEY=VALUE\n` lines.
 */
export interface Kmsg {
  /** Counts all messages since boot: what is missing between two was overwritten before it was read. */
  sequence: number;
  /** Ms on a clock of the kernel's own, which begins at boot and drifts against all others. */
  stampMs: number;
  /** Written by the kernel itself. The kernel gives what processes write into /dev/kmsg another facility. */
  kernel: boolean;
  text: string;
}

const FACILITY_SHIFT = 3;

export function parseKmsg(record: string): Kmsg | undefined {
  const semicolon = record.indexOf(';');
  if (semicolon < 0) return undefined;
  const [priority = '', sequence = '', micros = ''] = record.slice(0, semicolon).split(',', 3);
  if (!isDigits(priority) || !isDigits(sequence) || !isDigits(micros)) return undefined;
  const newline = record.indexOf('\n', semicolon);
  return {
    sequence: Number(sequence),
    stampMs: Number(micros) / 1000,
    kernel: Number(priority) >> FACILITY_SHIFT === 0,
    text: record.slice(semicolon + 1, newline < 0 ? record.length : newline),
  };
}

function isDigits(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 48 || code > 57) return false;
  }
  return text.length > 0 && text.length <= 20;
}
