/** `info`: worth knowing. `warn`: nothing was lost. `error`: something was. */
export type Level = 'info' | 'warn' | 'error';
export type Log = (level: Level, message: string) => void;

/** The same message is logged once within this time (ms). */
const REPEAT_MS = 60_000;
const MAX_MESSAGES = 200;

/** One line a message on stderr, as stdout belongs to the enriched lines. `json`: an object a line. */
export function stderrLog(component: string, form: 'text' | 'json'): Log {
  const said = new Map<string, number>();
  return (level, message) => {
    const now = Date.now();
    const last = said.get(message);
    if (last !== undefined && Math.abs(now - last) < REPEAT_MS) return;
    if (said.size >= MAX_MESSAGES) said.clear();
    said.set(message, now);
    process.stderr.write(`${lineOf(form, new Date(now).toISOString(), level, component, message)}\n`);
  };
}

export function lineOf(
  form: 'text' | 'json',
  time: string,
  level: Level,
  component: string,
  message: string,
): string {
  if (form === 'json') return JSON.stringify({ time, level, component, message });
  return `${time} ${level.toUpperCase()} ${component}: ${message.replace(/[\r\n]+/g, ' ')}`;
}
